{{/* The release's name in object names: `plimsoll`, or `<release>-plimsoll`. At most 44 characters, so that
     `-operator-leader` and the like still fit into a DNS label. */}}
{{- define "plimsoll.name" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name | trunc 44 | trimSuffix "-" }}
{{- else }}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 44 | trimSuffix "-" }}{{ end }}
{{- end }}

{{/* Names of cluster-wide objects of a namespaced install carry the namespace, because there may be several. */}}
{{- define "plimsoll.clusterName" -}}
{{- if .Values.watchNamespaces }}{{ printf "%s-%s" .Release.Namespace (include "plimsoll.name" .) | trunc 44 | trimSuffix "-" }}
{{- else }}{{ include "plimsoll.name" . }}{{ end }}
{{- end }}

{{/* Labels of every object. Call with (dict "root" $ "component" "operator"); without a component it is left out. */}}
{{- define "plimsoll.labels" -}}
{{ include "plimsoll.selector" . }}
app.kubernetes.io/part-of: plimsoll
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- end }}

{{/* Labels that never change: what selectors are made of. */}}
{{- define "plimsoll.selector" -}}
app.kubernetes.io/name: plimsoll
app.kubernetes.io/instance: {{ .root.Release.Name }}
{{- with .component }}
app.kubernetes.io/component: {{ . }}
{{- end }}
{{- end }}

{{/* An image: registry/repository:tag, or @digest. Call with (dict "root" $ "image" .Values.operator.image). */}}
{{- define "plimsoll.image" -}}
{{- $registry := .root.Values.images.registry | trimSuffix "/" }}
{{- if $registry }}{{ $registry }}/{{ end }}{{ .image.repository }}
{{- if .image.digest }}@{{ .image.digest }}{{ else }}:{{ .image.tag | default .root.Chart.AppVersion }}{{ end }}
{{- end }}

{{/* The PriorityClass of the pods; empty is the cluster's default. */}}
{{- define "plimsoll.priorityClass" -}}
{{- if .Values.priorityClass.name }}{{ .Values.priorityClass.name }}
{{- else if .Values.priorityClass.create }}{{ include "plimsoll.clusterName" . }}{{ end }}
{{- end }}

{{/* "yes" when objects of an API are to be installed. Call with (dict "root" $ "when" "auto" "kind" "PodMonitor"). */}}
{{- define "plimsoll.monitoringWanted" -}}
{{- if eq .when "always" }}yes
{{- else if and (eq .when "auto") (.root.Capabilities.APIVersions.Has (printf "monitoring.coreos.com/v1/%s" .kind)) }}yes
{{- end }}
{{- end }}

{{/* Where Prometheus listens: the port in its URL, or the scheme's. */}}
{{- define "plimsoll.prometheusPort" -}}
{{- $url := urlParse .Values.prometheus.url }}
{{- $port := regexFind ":[0-9]+$" $url.host | trimPrefix ":" }}
{{- $port | default (ternary "443" "80" (eq $url.scheme "https")) }}
{{- end }}
