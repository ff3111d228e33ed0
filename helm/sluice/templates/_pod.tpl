{{- /* Parts of every pod. */ -}}

{{- define "sluice.podSecurityContext" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "sluice.containerSecurityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
capabilities:
  drop: [ALL]
{{- end -}}

{{- /* Secrets that become variables; a Secret that is not named gives none. */ -}}
{{- define "sluice.env" -}}
{{- $secrets := .Values.secrets -}}
- name: SLUICE_CONFIG
  value: /etc/sluice/sluice.toml
- name: SLUICE__KAFKA__CLIENT_ID
  valueFrom:
    fieldRef:
      fieldPath: metadata.name
{{- with $secrets.kafka }}
{{- if .existingSecret }}
{{ include "sluice.envFromKey" (list "SLUICE__KAFKA__PROPERTIES__SASL_USERNAME" .existingSecret .usernameKey) }}
{{ include "sluice.envFromKey" (list "SLUICE__KAFKA__PROPERTIES__SASL_PASSWORD" .existingSecret .passwordKey) }}
{{- end }}
{{- end }}
{{- with $secrets.kafkaTls }}
{{- if and .existingSecret .keyPasswordKey }}
{{ include "sluice.envFromKey" (list "SLUICE__KAFKA__PROPERTIES__SSL_KEY_PASSWORD" .existingSecret .keyPasswordKey) }}
{{- end }}
{{- end }}
{{- with $secrets.registry }}
{{- if .existingSecret }}
{{ include "sluice.envFromKey" (list "SLUICE__REGISTRY__USERNAME" .existingSecret .usernameKey) }}
{{ include "sluice.envFromKey" (list "SLUICE__REGISTRY__PASSWORD" .existingSecret .passwordKey) }}
{{- end }}
{{- end }}
{{- with $secrets.store }}
{{- if .existingSecret }}
{{ include "sluice.envFromKey" (list "SLUICE__STORE__USER" .existingSecret .usernameKey) }}
{{ include "sluice.envFromKey" (list "SLUICE__STORE__PASSWORD" .existingSecret .passwordKey) }}
{{- end }}
{{- end }}
{{- with $secrets.tokens }}
{{- if .existingSecret }}
{{ include "sluice.envFromKey" (list "SLUICE__AUTH__TOKENS" .existingSecret .tokensKey) }}
{{- end }}
{{- end }}
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "sluice.envFromKey" -}}
- name: {{ index . 0 }}
  valueFrom:
    secretKeyRef:
      name: {{ index . 1 }}
      key: {{ index . 2 }}
{{- end -}}

{{- /* Secrets that become files: their directory below /run/secrets/sluice, and where in the values they are named. */ -}}
{{- define "sluice.secretFiles" -}}
kafka-tls: kafkaTls
registry-tls: registryTls
store-tls: storeTls
sealing: sealing
{{- end -}}

{{- define "sluice.volumeMounts" -}}
- name: config
  mountPath: /etc/sluice
  readOnly: true
- name: tmp
  mountPath: /tmp
{{- range $dir, $key := include "sluice.secretFiles" . | fromYaml }}
{{- if (get $.Values.secrets $key).existingSecret }}
- name: {{ $dir }}
  mountPath: /run/secrets/sluice/{{ $dir }}
  readOnly: true
{{- end }}
{{- end }}
{{- with .Values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- /* list: the root, the name of the ConfigMap. */ -}}
{{- define "sluice.volumes" -}}
{{- $root := index . 0 -}}
- name: config
  configMap:
    name: {{ index . 1 }}
- name: tmp
  emptyDir:
    sizeLimit: 64Mi
{{- range $dir, $key := include "sluice.secretFiles" $root | fromYaml }}
{{- with (get $root.Values.secrets $key).existingSecret }}
- name: {{ $dir }}
  secret:
    secretName: {{ . }}
    defaultMode: 288 # 0440: the group is ours
{{- end }}
{{- end }}
{{- with $root.Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- /* Time from SIGTERM to SIGKILL: the pause before it, what the process grants its components, and some to spare. */ -}}
{{- define "sluice.stopSeconds" -}}
{{- $stop_ms := dig "deployment" "stop_timeout_ms" 25000 .Values.settings | int64 -}}
{{- div (add $stop_ms 999) 1000 -}}
{{- end -}}
