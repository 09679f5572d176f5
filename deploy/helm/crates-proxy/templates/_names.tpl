{{- define "crates-proxy.name" -}}
{{- if contains "crates-proxy" .Release.Name }}{{ .Release.Name | trunc 50 | trimSuffix "-" }}{{ else }}{{ printf "%s-crates-proxy" .Release.Name | trunc 50 | trimSuffix "-" }}{{ end -}}
{{- end }}

{{- define "crates-proxy.labels" -}}
app.kubernetes.io/name: crates-proxy
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- define "crates-proxy.selector" -}}
app.kubernetes.io/name: crates-proxy
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{/* Whether the chart brings a Redis: several replicas that have none are strangers to one another. */}}
{{- define "crates-proxy.ownRedis" -}}
{{- if and (gt (int .Values.replicas) 1) (not .Values.redis.url) }}yes{{ end -}}
{{- end }}

{{- define "crates-proxy.redisUrl" -}}
{{- if .Values.redis.url }}{{ .Values.redis.url }}{{ else if include "crates-proxy.ownRedis" . }}redis://{{ include "crates-proxy.name" . }}-redis:6379/0{{ end -}}
{{- end }}
