{{/* All that is read from the API server. */}}
{{- define "falco-streamer.rules" -}}
# list and watch find Falco's pods; get distinguishes a deleted pod from one that lost its label.
- apiGroups: [""]
  resources: [pods]
  verbs: [get, list, watch]
# Following a log is a get, too.
- apiGroups: [""]
  resources: [pods/log]
  verbs: [get]
{{- end }}

{{- define "falco-streamer.subjects" -}}
- kind: ServiceAccount
  name: {{ include "falco-streamer.serviceAccount" . }}
  namespace: {{ .Release.Namespace }}
{{- end }}
