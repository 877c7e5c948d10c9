{{- define "dpi-agent.labels" -}}
app.kubernetes.io/name: dpi-agent
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "dpi-agent.image" -}}
{{- with .Values.image -}}
{{ .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ .tag | default $.Chart.AppVersion }}{{ end }}
{{- end }}
{{- end }}

{{- define "dpi-agent.pullSecrets" -}}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- end }}

{{- /* Where events go, for agents and page. */}}
{{- define "dpi-agent.elasticsearchEnv" -}}
- name: DPI_AGENT_SINKS_ELASTICSEARCH_NODES
  value: {{ .Values.elasticsearch.nodes | quote }}
- name: DPI_AGENT_SINKS_ELASTICSEARCH_API_KEY_FILE
  value: /etc/dpi-agent-elasticsearch/apiKey
- name: DPI_AGENT_SINKS_ELASTICSEARCH_CA_FILE
  value: /etc/dpi-agent-elasticsearch/ca.crt
{{- end }}

{{- /* The image's rule sets. What it runs as: the agents are root, the page is not. */}}
{{- define "dpi-agent.rulesInit" -}}
- name: rules
  image: {{ .root.Values.rules.image.image | quote }}
  imagePullPolicy: {{ .root.Values.rules.image.pullPolicy }}
  command: [cp, -R, /rules/., /usr/etc/snort/rules/]
  resources:
    requests: { cpu: 10m, memory: 16Mi }
    limits: { memory: 64Mi }
  securityContext:
    {{- if .asRoot }}
    runAsUser: 0
    runAsGroup: 0
    {{- end }}
    allowPrivilegeEscalation: false
    readOnlyRootFilesystem: true
    capabilities: { drop: [ALL] }
  volumeMounts:
    - name: rules
      mountPath: /usr/etc/snort/rules
{{- end }}

{{- define "dpi-agent.rulesMount" -}}
{{- if or .Values.rules.configMap.enabled .Values.rules.image.enabled }}
- name: rules
  mountPath: /usr/etc/snort/rules
  readOnly: true
{{- end }}
{{- end }}

{{- define "dpi-agent.rulesVolume" -}}
{{- if .Values.rules.image.enabled }}
- name: rules
  emptyDir:
    sizeLimit: 256Mi
{{- else if .Values.rules.configMap.enabled }}
- name: rules
  configMap:
    name: {{ .Values.rules.configMap.name }}
    optional: true
{{- end }}
{{- end }}

{{- /* A CRD of files/, which `helm upgrade` changes and `helm uninstall` may leave. */}}
{{- define "dpi-agent.crd" -}}
{{- $crd := .root.Files.Get (printf "files/crds/%s.yaml" .name) | fromYaml }}
{{- $annotations := ternary (dict "helm.sh/resource-policy" "keep") dict .root.Values.crds.keep }}
{{- $labels := include "dpi-agent.labels" .root | fromYaml }}
{{- $_ := set $crd.metadata "labels" (merge (dict) $labels ($crd.metadata.labels | default dict)) }}
{{- if $annotations }}
{{- $_ := set $crd.metadata "annotations" (merge (dict) $annotations ($crd.metadata.annotations | default dict)) }}
{{- end }}
{{- toYaml $crd }}
{{- end }}
