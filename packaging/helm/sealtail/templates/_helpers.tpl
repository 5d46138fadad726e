{{- define "sealtail.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "sealtail.selector" -}}
app.kubernetes.io/name: {{ default .Chart.Name .Values.nameOverride }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "sealtail.labels" -}}
{{ include "sealtail.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end -}}

{{- define "sealtail.serviceAccount" -}}
{{ default (include "sealtail.fullname" .) .Values.serviceAccount.name }}
{{- end -}}

{{- define "sealtail.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ default $.Chart.AppVersion .tag }}
{{- end -}}
{{- end -}}
{{- end -}}

{{- /* One [[stream]]. A JSON string is a TOML string. */ -}}
{{- define "sealtail.stream" -}}
[[stream]]
name = {{ toJson .name }}
include = {{ toJson .values.include }}
exclude = {{ toJson .exclude }}
{{- with .format }}
format = {{ toJson . }}
{{- end }}
suite = {{ toJson .values.suite }}
key = {{ toJson .values.key }}
sink = {{ toJson .values.sink }}
{{- with .values.tags }}
tags = { {{- range $i, $k := keys . | sortAlpha }}{{ if $i }},{{ end }} {{ toJson $k }} = {{ get $.values.tags $k | toJson }}{{ end }} }
{{- end }}
{{- with .values.more }}
{{ . | trim }}
{{- end }}
{{- end -}}

{{- define "sealtail.config" -}}
[agent]
state_dir = "/var/lib/sealtail/state"
host = "${NODE_NAME}"
listen = "0.0.0.0:{{ .Values.port }}"
stop = { seal_timeout = "{{ .Values.stop.sealTimeoutSeconds }}s", ship_timeout = "{{ .Values.stop.shipTimeoutSeconds }}s" }

{{ required "config is empty: set it to your [key.NAME] and [sink.NAME] sections, as in docs/KUBERNETES.md" .Values.config | trim }}
{{- if .Values.containerLogs.enabled }}
{{- /* Own logs are no input: each line shipped would make lines. */}}
{{- $own := printf "/var/log/pods/%s_%s-*/**" .Release.Namespace (include "sealtail.fullname" .) }}

{{ include "sealtail.stream" (dict "name" "containers" "format" "cri" "values" .Values.containerLogs "exclude" (concat (list $own "**/*.tmp") .Values.containerLogs.exclude)) }}
{{- end }}
{{- if .Values.hostLogs.enabled }}

{{ include "sealtail.stream" (dict "name" "host" "values" .Values.hostLogs "exclude" .Values.hostLogs.exclude) }}
{{- end }}
{{ end -}}
