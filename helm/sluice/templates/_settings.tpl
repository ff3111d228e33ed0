{{- /*
The settings file. Numbers come from values as floats, and printing one of those may give 2.592e+08 or 5.0, which is no
whole number to Sluice; toJson writes what was meant. A JSON text is a TOML text.
*/ -}}

{{- define "sluice.toml.key" -}}
{{- if regexMatch "^[A-Za-z0-9_-]+$" . }}{{ . }}{{ else }}{{ toJson . }}{{ end -}}
{{- end -}}

{{- define "sluice.toml.value" -}}
{{- if kindIs "map" . -}}
{{- $pairs := list -}}
{{- range $key, $value := . -}}
{{- if not (kindIs "invalid" $value) -}}
{{- $pairs = append $pairs (printf "%s = %s" (include "sluice.toml.key" $key) (include "sluice.toml.value" $value)) -}}
{{- end -}}
{{- end -}}
{ {{ join ", " $pairs }} }
{{- else if kindIs "slice" . -}}
{{- $items := list -}}
{{- range . -}}{{- $items = append $items (include "sluice.toml.value" .) -}}{{- end -}}
[{{ join ", " $items }}]
{{- else -}}
{{- toJson . -}}
{{- end -}}
{{- end -}}

{{- /* A table: dict "path" its name, "table" its keys. Values first, tables after them, as TOML wants it. */ -}}
{{- define "sluice.toml.table" -}}
{{- $path := .path -}}
{{- range $key, $value := .table }}
{{- if not (or (kindIs "map" $value) (kindIs "invalid" $value)) }}
{{ include "sluice.toml.key" $key }} = {{ include "sluice.toml.value" $value }}
{{- end }}
{{- end }}
{{- range $key, $value := .table }}
{{- if and (kindIs "map" $value) $value }}
{{- $inner := include "sluice.toml.key" $key }}
{{- if $path }}{{ $inner = printf "%s.%s" $path $inner }}{{ end }}

[{{ $inner }}]
{{- include "sluice.toml.table" (dict "path" $inner "table" $value) }}
{{- end }}
{{- end }}
{{- end -}}

{{- /* The operator's settings, and what the chart decides: listeners, and where mounted secrets are. As JSON. */ -}}
{{- define "sluice.settings" -}}
{{- $settings := deepCopy .Values.settings -}}
{{- range $section := list "kafka" "registry" "store" "credentials" "edge" "sender" "query" "admin" -}}
{{- if not (kindIs "map" (get $settings $section)) -}}{{- $_ := set $settings $section dict -}}{{- end -}}
{{- end -}}
{{- include "sluice.refuseSecrets" $settings -}}
{{- $_ := set $settings.edge "listen" (printf "%s:8080" .Values.listenHost) -}}
{{- $_ = set $settings.edge "webhook_listen" (printf "%s:8081" .Values.listenHost) -}}
{{- $_ = set $settings.query "listen" (printf "%s:8082" .Values.listenHost) -}}
{{- $_ = set $settings.admin "listen" (printf "%s:9090" .Values.listenHost) -}}
{{- if not (kindIs "map" (get $settings.sender "store")) -}}{{- $_ = set $settings.sender "store" dict -}}{{- end -}}
{{- if not $settings.sender.store.directory -}}
{{- $_ = set $settings.sender.store "directory" "/var/lib/sluice/state" -}}
{{- end -}}
{{- /* librdkafka's properties are texts, whatever YAML takes them for. */ -}}
{{- $properties := dict -}}
{{- range $name, $value := ($settings.kafka.properties | default dict) -}}
{{- $_ = set $properties $name (ternary $value (toJson $value) (kindIs "string" $value)) -}}
{{- end -}}
{{- with .Values.secrets.kafkaTls -}}
{{- if .existingSecret -}}
{{- if .caKey -}}{{- $_ = set $properties "ssl.ca.location" (printf "/run/secrets/sluice/kafka-tls/%s" .caKey) -}}{{- end -}}
{{- if .certKey -}}
{{- $_ = set $properties "ssl.certificate.location" (printf "/run/secrets/sluice/kafka-tls/%s" .certKey) -}}
{{- end -}}
{{- if .keyKey -}}{{- $_ = set $properties "ssl.key.location" (printf "/run/secrets/sluice/kafka-tls/%s" .keyKey) -}}{{- end -}}
{{- end -}}
{{- end -}}
{{- $_ = set $settings.kafka "properties" $properties -}}
{{- with .Values.secrets.registryTls -}}
{{- if .existingSecret -}}
{{- $_ = set $settings.registry "ca_file" (printf "/run/secrets/sluice/registry-tls/%s" .caKey) -}}
{{- end -}}
{{- end -}}
{{- with .Values.secrets.storeTls -}}
{{- if .existingSecret -}}
{{- $_ = set $settings.store "tls" true -}}
{{- $_ = set $settings.store "tls_ca_file" (printf "/run/secrets/sluice/store-tls/%s" .caKey) -}}
{{- end -}}
{{- end -}}
{{- with .Values.secrets.sealing -}}
{{- if .existingSecret -}}
{{- if and .activeKey (not (has .activeKey .keys)) -}}
{{- fail (printf "secrets.sealing.activeKey %q is not among secrets.sealing.keys" .activeKey) -}}
{{- end -}}
{{- $keys := dict -}}
{{- range .keys -}}{{- $_ = set $keys . (printf "file:/run/secrets/sluice/sealing/%s" .) -}}{{- end -}}
{{- $_ = set $settings.credentials "active_key" .activeKey -}}
{{- $_ = set $settings.credentials "keys" $keys -}}
{{- end -}}
{{- end -}}
{{- toJson $settings -}}
{{- end -}}

{{- /* A ConfigMap is read by many and backed up in the clear: what is secret comes from a Secret, or not at all. */ -}}
{{- define "sluice.refuseSecrets" -}}
{{- range $name, $value := (.kafka.properties | default dict) -}}
{{- if regexMatch "(?i)(password|secret|\\.pem$|oauthbearer\\.config)" $name -}}
{{- fail (printf "settings.kafka.properties.%s would stand in a ConfigMap: use secrets.kafka, secrets.kafkaTls or extraEnv" $name) -}}
{{- end -}}
{{- end -}}
{{- if .registry.password -}}{{- fail "settings.registry.password would stand in a ConfigMap: use secrets.registry" -}}{{- end -}}
{{- if .store.password -}}{{- fail "settings.store.password would stand in a ConfigMap: use secrets.store" -}}{{- end -}}
{{- if .credentials.keys -}}{{- fail "settings.credentials.keys would stand in a ConfigMap: use secrets.sealing" -}}{{- end -}}
{{- end -}}

{{- define "sluice.toml" -}}
# Written by the chart. Secrets are not here: they come from the environment and from mounted files.
{{- include "sluice.toml.table" (dict "path" "" "table" (include "sluice.settings" . | fromJson)) }}
{{- end -}}
