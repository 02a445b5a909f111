{{/* What operator and detector may do. Every verb says what it is for; what no code asks for is not granted, and a test
     proves both: each rule is used, and each use is granted.
     Neither reads a Secret: credentials are passed to pods by reference (`secretKeyRef`) and read by the kubelet. */}}

{{- define "plimsoll.operator.rules" -}}
# What to run. The spec belongs to people: the operator writes one field of it, once.
- apiGroups: [plimsoll.dev]
  resources: [llmservices]
  verbs:
    - get # a reconcile starts from the live object
    - list # every service at start and at each resync
    - watch # a change starts a reconcile
    - patch # the first spec.replicas; a first write to /scale would have no recorded owner
- apiGroups: [plimsoll.dev]
  resources: [llmservices/status]
  verbs:
    - patch # conditions, recommendation, replicas and cost, by server-side apply
- apiGroups: [plimsoll.dev]
  resources: [llmservices/finalizers]
  verbs:
    - update # owner references that block deletion, where OwnerReferencesPermissionEnforcement is on
# Children of a service.
{{- range $group, $resources := dict
  "apps" (list "deployments")
  "\"\"" (list "services" "persistentvolumeclaims")
  "policy" (list "poddisruptionbudgets")
  "networking.k8s.io" (list "networkpolicies")
  "monitoring.coreos.com" (list "podmonitors")
}}
- apiGroups: [{{ $group }}]
  resources: [{{ join ", " $resources }}]
  verbs:
    - list # find children by label, and compare them with the plan
    - watch # a child that changes or vanishes starts a reconcile
    - create # server-side apply of a child that does not exist yet
    - patch # server-side apply
    - delete # prune a child that the plan no longer has
{{- end }}
# What the conditions are made of.
- apiGroups: [""]
  resources: [pods]
  verbs:
    - list # ready, pending and failed pods of a service, and why
    - watch # a pod that becomes ready, fails or cannot be scheduled starts a reconcile
    - delete # replace a replica whose engine is stalled
- apiGroups: [""]
  resources: [pods/log]
  verbs:
    - get # why an engine did not start; never of one that served
- apiGroups: [""]
  resources: [configmaps]
  verbs:
    - get # model.configMap: the config.json of a model that is not in the catalogue
{{ include "plimsoll.event.rules" . }}
{{- end }}

{{- define "plimsoll.operator.clusterRules" -}}
- apiGroups: [""]
  resources: [nodes]
  verbs:
    - list # kinds and numbers of GPUs in the cluster
{{- end }}

{{- define "plimsoll.detector.rules" -}}
- apiGroups: [plimsoll.dev]
  resources: [llmservices]
  verbs:
    - get # the live object, when it changed while its replicas were decided
    - list # every service, once a tick
- apiGroups: [plimsoll.dev]
  resources: [llmservices/status]
  verbs:
    - patch # what is observed, the diagnosis and the decision, by server-side apply
- apiGroups: [plimsoll.dev]
  resources: [llmservices/scale]
  verbs:
    - patch # follow a decision
- apiGroups: [""]
  resources: [pods]
  verbs:
    - list # pending replicas are supply; a bad replica is named
{{ include "plimsoll.event.rules" . }}
{{- end }}

{{- define "plimsoll.event.rules" -}}
- apiGroups: [""]
  resources: [events]
  verbs:
    - create # tell people about a transition or a decision
    - patch # count a repeated one instead of writing it again
{{- end }}

{{- define "plimsoll.leader.rules" -}}
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  verbs:
    - create # the Lease of the first leader; a name cannot be required of a create
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  resourceNames: [plimsoll-{{ .component }}]
  verbs:
    - get # who leads, and since when
    - update # take, renew and release the Lease, guarded by its resourceVersion
{{- end }}

{{/* A role and its binding to the component's service account.
     Call with (dict "root" $ "component" "operator" "kind" "ClusterRole" "name" ... "namespace" ... "rules" ...). */}}
{{- define "plimsoll.role" -}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: {{ .kind }}
metadata:
  name: {{ .name }}
  {{- with .namespace }}
  namespace: {{ . }}
  {{- end }}
  labels: {{- include "plimsoll.labels" . | nindent 4 }}
rules:
  {{- .rules | nindent 2 }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: {{ .kind }}Binding
metadata:
  name: {{ .name }}
  {{- with .namespace }}
  namespace: {{ . }}
  {{- end }}
  labels: {{- include "plimsoll.labels" . | nindent 4 }}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: {{ .kind }}
  name: {{ .name }}
subjects:
  - kind: ServiceAccount
    name: {{ include "plimsoll.name" .root }}-{{ .component }}
    namespace: {{ .root.Release.Namespace }}
{{- end }}
