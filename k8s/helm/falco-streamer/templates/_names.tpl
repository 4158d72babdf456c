{{- define "falco-streamer.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "falco-streamer.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" }}
{{- else }}
{{- $name := include "falco-streamer.name" . }}
{{- if contains $name .Release.Name }}
{{- .Release.Name | trunc 63 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 63 | trimSuffix "-" }}
{{- end }}
{{- end }}
{{- end }}

{{- define "falco-streamer.serviceAccount" -}}
{{- default (ternary (include "falco-streamer.fullname" .) "default" .Values.serviceAccount.create) .Values.serviceAccount.name }}
{{- end }}

{{- define "falco-streamer.configMap" -}}
{{- default (include "falco-streamer.fullname" .) .Values.existingConfigMap }}
{{- end }}

{{/* The settings that need a restart: streamer/config/difference.py has those that the worker applies at run time. A test
     compares the two. */}}
{{- define "falco-streamer.restartConfig" -}}
{{- $config := omit .Values.config "records" "routes" "min_priority" "filters" "dead_letters" "dedupe" "limits" "health" "log" "shutdown" }}
{{- with $config.kafka }}
{{- $_ := set $config "kafka" (omit . "commit") }}
{{- end }}
{{- toYaml $config }}
{{- end }}

{{- define "falco-streamer.image" -}}
{{- with .Values.image }}
{{- with .registry }}{{ trimSuffix "/" . }}/{{ end }}
{{- if .digest }}{{ .repository }}@{{ .digest }}{{ else }}{{ .repository }}:{{ default $.Chart.AppVersion .tag }}{{ end }}
{{- end }}
{{- end }}

{{/* The labels of selectors, which cannot change after the installation. */}}
{{- define "falco-streamer.selectorLabels" -}}
app.kubernetes.io/name: {{ include "falco-streamer.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "falco-streamer.labels" -}}
{{ include "falco-streamer.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/component: worker
app.kubernetes.io/part-of: falco-streamer
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* An object's metadata, of which only the name is needed: (dict "root" $ "name" … "namespace" … "annotations" … "labels" …) */}}
{{- define "falco-streamer.metadata" -}}
name: {{ default (include "falco-streamer.fullname" .root) .name }}
{{- if ne (default "" .scope) "cluster" }}
namespace: {{ default .root.Release.Namespace .namespace }}
{{- end }}
labels:
  {{- $labels := merge (include "falco-streamer.labels" .root | fromYaml) (default dict .labels) }}
  {{- /* So that the worker's selectors do not select it. */}}
  {{- with .component }}
  {{- $_ := set $labels "app.kubernetes.io/component" . }}
  {{- $_ := set $labels "app.kubernetes.io/name" (printf "%s-%s" (include "falco-streamer.name" $.root) .) }}
  {{- end }}
  {{- toYaml $labels | nindent 2 }}
{{- with merge (dict) (default dict .annotations) .root.Values.commonAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
