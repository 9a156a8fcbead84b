{{- define "harness.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- define "harness.labels" -}}
app.kubernetes.io/name: harness
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{/* The names of cluster-scoped objects tell releases apart. */}}
{{- define "harness.cluster" -}}
{{ .Release.Namespace }}-{{ .Release.Name }}
{{- end }}

{{/* The user names of the two accounts. */}}
{{- define "harness.monitor.user" -}}
system:serviceaccount:{{ .Release.Namespace }}:{{ .Release.Name }}-monitor
{{- end }}
{{- define "harness.agent.user" -}}
system:serviceaccount:{{ .Release.Namespace }}:{{ .Release.Name }}-agent
{{- end }}

{{- define "harness.pod.security" -}}
runAsNonRoot: true
runAsUser: 65532
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "harness.container.security" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{- define "harness.probes" -}}
ports:
- {name: http, containerPort: 8080}
livenessProbe:
  httpGet: {path: /healthz, port: http}
  periodSeconds: 20
  timeoutSeconds: 5
readinessProbe:
  httpGet: {path: /readyz, port: http}
  periodSeconds: 2
  timeoutSeconds: 5
{{- end }}

{{- define "harness.test.hook" -}}
helm.sh/hook: test
helm.sh/hook-weight: {{ . | quote }}
helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
{{- end }}
