{{/* The Deployment of operator or detector: all that the two have in common.
     Call with (dict "root" $ "component" "operator" "values" .Values.operator "health" 8080 "metrics" 8081
     "args" (list ...) "volumes" (list ...) "mounts" (list ...)). */}}
{{- define "plimsoll.deployment" -}}
{{- $root := .root }}
{{- $name := printf "%s-%s" (include "plimsoll.name" $root) .component }}
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ $name }}
  namespace: {{ $root.Release.Namespace }}
  labels: {{- include "plimsoll.labels" . | nindent 4 }}
spec:
  replicas: {{ .values.replicas }}
  # The Lease, not the rollout, makes sure that one acts: a new pod may stand by while the old one still leads.
  strategy: {type: RollingUpdate, rollingUpdate: {maxSurge: 1, maxUnavailable: 0}}
  selector:
    matchLabels: {{- include "plimsoll.selector" . | nindent 6 }}
  template:
    metadata:
      labels:
        {{- include "plimsoll.labels" . | nindent 8 }}
        {{- with .values.podLabels }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      annotations:
        kubectl.kubernetes.io/default-container: {{ .component }}
        {{- with .values.podAnnotations }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
    spec:
      serviceAccountName: {{ $name }}
      enableServiceLinks: false
      {{- with include "plimsoll.priorityClass" $root }}
      priorityClassName: {{ . }}
      {{- end }}
      {{- with $root.Values.images.pullSecrets }}
      imagePullSecrets: {{- toYaml . | nindent 8 }}
      {{- end }}
      # Running reconciles get 20 s to end; the Lease is released after them.
      terminationGracePeriodSeconds: 30
      securityContext:
        runAsNonRoot: true
        runAsUser: 65532
        runAsGroup: 65532
        fsGroup: 65532
        seccompProfile: {type: RuntimeDefault}
      containers:
        - name: {{ .component }}
          image: {{ include "plimsoll.image" (dict "root" $root "image" .values.image) }}
          imagePullPolicy: {{ $root.Values.images.pullPolicy }}
          args:
            {{- range .args }}
            - {{ . | quote }}
            {{- end }}
            - "--health-port={{ .health }}"
            - "--metrics-port={{ .metrics }}"
            - "--lease-namespace={{ $root.Release.Namespace }}"
            - "--lease-duration={{ $root.Values.leaderElection.leaseDuration }}"
            {{- range $root.Values.watchNamespaces }}
            - "--namespace={{ . }}"
            {{- end }}
            {{- range .values.extraArgs }}
            - {{ . | quote }}
            {{- end }}
          env:
            # Whom the Lease names as its holder.
            - {name: POD_NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
            {{- with $root.Values.proxy }}
            {{- range $variable, $value := dict "HTTP_PROXY" .http "HTTPS_PROXY" .https "NO_PROXY" .no }}
            {{- if $value }}
            - {name: {{ $variable }}, value: {{ $value | quote }}}
            {{- end }}
            {{- end }}
            {{- end }}
            {{- with .values.extraEnv }}
            {{- toYaml . | nindent 12 }}
            {{- end }}
          ports:
            - {name: health, containerPort: {{ .health }}}
            - {name: metrics, containerPort: {{ .metrics }}}
          startupProbe:
            httpGet: {path: /healthz, port: health}
            periodSeconds: 1
            failureThreshold: 60
          readinessProbe:
            httpGet: {path: /readyz, port: health}
            periodSeconds: 5
            timeoutSeconds: 3
          livenessProbe:
            httpGet: {path: /healthz, port: health}
            periodSeconds: 10
            timeoutSeconds: 5
          resources: {{- toYaml .values.resources | nindent 12 }}
          securityContext:
            allowPrivilegeEscalation: false
            readOnlyRootFilesystem: true
            capabilities: {drop: [ALL]}
          {{- with .mounts }}
          volumeMounts: {{- toYaml . | nindent 12 }}
          {{- end }}
      {{- with .volumes }}
      volumes: {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- if .values.affinity }}
      affinity: {{- toYaml .values.affinity | nindent 8 }}
      {{- else }}
      topologySpreadConstraints:
        - maxSkew: 1
          topologyKey: kubernetes.io/hostname
          whenUnsatisfiable: ScheduleAnyway
          labelSelector:
            matchLabels: {{- include "plimsoll.selector" . | nindent 14 }}
      {{- end }}
      {{- with .values.nodeSelector }}
      nodeSelector: {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with .values.tolerations }}
      tolerations: {{- toYaml . | nindent 8 }}
      {{- end }}
{{- end }}
