{{/* Every topic that the worker writes, as streamer/config/topics.py names and makes them: {topics: [{name, class}]}, the
     state topic last. A test holds the two equal. */}}
{{- define "falco-streamer.topics" -}}
{{- $config := .Values.config }}
{{- $cluster := required "config.cluster: the names of topics and permissions are made of it" $config.cluster }}
{{- $topics := default dict $config.topics }}
{{- $alerts := default dict $topics.alerts }}
{{- $pattern := "<prefix>.alerts.<priority>" }}
{{- if kindIs "string" $alerts }}
{{- $pattern = $alerts }}
{{- $alerts = dict }}
{{- end }}
{{- $places := list }}
{{- range $priority := list "emergency" "alert" "critical" "error" "warning" "notice" "informational" "debug" }}
{{- $places = append $places (dict "class" "alerts" "name" (default $pattern (get $alerts $priority) | replace "<priority>" $priority)) }}
{{- end }}
{{- range $config.routes }}
{{- $places = append $places (dict "class" "alerts" "name" .topic) }}
{{- end }}
{{- $places = append $places (dict "class" "summaries" "name" (default "<prefix>.summaries" $topics.summaries)) }}
{{- $places = append $places (dict "class" "overflow" "name" (default "<prefix>.overflow" $topics.overflow)) }}
{{- $places = append $places (dict "class" "dead_letter" "name" (default "<prefix>.dead-letter" $topics.dead_letter)) }}
{{- $places = append $places (dict "class" "health" "name" (default "<prefix>.health" $topics.health)) }}
{{- $places = append $places (dict "class" "state" "name" (default "falco-streamer.<cluster>.state" $topics.state)) }}
topics:
{{- $seen := dict }}
{{- range $places }}
{{- $name := .name | replace "<prefix>" (default "falco" $topics.prefix) | replace "<cluster>" $cluster }}
{{- if not (hasKey $seen $name) }}
{{- $_ := set $seen $name true }}
- {name: {{ $name | quote }}, class: {{ .class }}}
{{- end }}
{{- end }}
{{- end }}

{{/* The topic settings of a class, what is given laid over the defaults; null takes one away. */}}
{{- define "falco-streamer.topicConfig" -}}
{{- $week := dict "cleanup.policy" "delete" "retention.ms" 604800000 }}
{{- $compact := dict "cleanup.policy" "compact" "segment.bytes" 33554432 "segment.ms" 3600000 "min.cleanable.dirty.ratio" 0.1 "delete.retention.ms" 86400000 }}
{{- $merged := ternary $compact $week (eq .class "state") }}
{{- range $key, $value := dig "topics" "config" .class dict .config }}
{{- $_ := set $merged $key $value }}
{{- end }}
{{- range $key, $value := $merged }}
{{- if not (kindIs "invalid" $value) }}
{{ $key }}: {{ if kindIs "float64" $value }}{{ if eq (floor $value) $value }}{{ int64 $value }}{{ else }}{{ $value }}{{ end }}{{ else }}{{ $value }}{{ end }}
{{- end }}
{{- end }}
{{- end }}
