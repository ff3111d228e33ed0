{{- /*
What the roles are: everything of a workload that is not for the operator to choose. Ports by listener; `paths` are
those of its listener that an Ingress sends to it.
*/ -}}
{{- define "sluice.roles" -}}
edge:
  kind: StatefulSet
  ports: {api: 8080, webhooks: 8081}
  persistent: true
sender:
  kind: StatefulSet
  ports: {}
  persistent: true
processor:
  kind: Deployment
  ports: {}
  persistent: false
reducer:
  kind: Deployment
  ports: {}
  persistent: false
query:
  kind: Deployment
  ports: {reads: 8082}
  persistent: false
{{- end -}}

{{- /* Listeners that others call: the Service of each, its role and where in the values its Service is set. */ -}}
{{- define "sluice.listeners" -}}
api: {role: edge, name: edge, port: 8080}
webhooks: {role: edge, name: webhooks, port: 8081}
reads: {role: query, name: query, port: 8082}
{{- end -}}
