{{- define "rbac-exporter.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" -}}
{{- else if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- /* ClusterRoles are of the whole cluster: two releases in two namespaces must not share one. */ -}}
{{- define "rbac-exporter.clusterName" -}}
{{- $name := include "rbac-exporter.fullname" . -}}
{{- if eq $name .Release.Namespace -}}
{{- $name -}}
{{- else -}}
{{- printf "%s:%s" .Release.Namespace $name -}}
{{- end -}}
{{- end -}}

{{- define "rbac-exporter.account" -}}
{{- .Values.serviceAccount.name | default (include "rbac-exporter.fullname" .) -}}
{{- end -}}

{{- define "rbac-exporter.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "rbac-exporter.labels" -}}
{{ include "rbac-exporter.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/component: exporter
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "rbac-exporter.scheme" -}}
{{- if .Values.web.tls }}HTTPS{{ else }}HTTP{{ end -}}
{{- end -}}
