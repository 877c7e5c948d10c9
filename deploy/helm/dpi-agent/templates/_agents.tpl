{{- /* What the agents' pods are: of the DaemonSet, or of the template that the operator makes one from. */}}
{{- define "dpi-agent.agents" -}}
metadata:
  labels:
    k8s-app: tigera-dpi
    {{- include "dpi-agent.labels" . | nindent 4 }}
  annotations:
    prometheus.io/scrape: 'true'
    prometheus.io/port: '9097'
    prometheus.io/path: /metrics
    checksum/config: {{ toYaml .Values.config | sha256sum }}
    {{- with .Values.agent.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  serviceAccountName: tigera-dpi
  automountServiceAccountToken: true
  {{- include "dpi-agent.pullSecrets" . | nindent 2 }}
  # The host sides of the pods' veths are in the node's network namespace.
  hostNetwork: true
  dnsPolicy: ClusterFirstWithHostNet
  # The journal's lock names a process, and a pod whose interface nothing else tells is looked up through a process of it.
  hostPID: true
  # A Service called dpi-agent would put DPI_AGENT_… variables here, which are the agent's configuration.
  enableServiceLinks: false
  {{- with .Values.agent.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.agent.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  priorityClassName: {{ .Values.agent.priorityClassName }}
  terminationGracePeriodSeconds: 30
  securityContext:
    seccompProfile:
      type: RuntimeDefault
  {{- if .Values.rules.image.enabled }}
  initContainers:
    {{- include "dpi-agent.rulesInit" (dict "root" . "asRoot" true) | nindent 4 }}
  {{- end }}
  containers:
    - name: dpi-agent
      image: {{ include "dpi-agent.image" . | quote }}
      imagePullPolicy: {{ .Values.image.pullPolicy }}
      command: [dpi-agent, run]
      args: [--config, /etc/dpi-agent/dpi-agent.yaml]
      env:
        - name: NODE_NAME
          valueFrom:
            fieldRef:
              fieldPath: spec.nodeName
        {{- if .Values.agent.fewerRights }}
        - name: DPI_AGENT_ENGINE_ISOLATE_NETWORK
          value: 'false'
        {{- end }}
        {{- if .Values.elasticsearch.enabled }}
        {{- include "dpi-agent.elasticsearchEnv" . | nindent 8 }}
        {{- end }}
        {{- if .Values.ruleServer.enabled }}
        - name: DPI_AGENT_RULE_SERVER_URL
          value: https://dpi-agent-rule-server.tigera-dpi.svc
        - name: DPI_AGENT_RULE_SERVER_CA_FILE
          value: /var/run/secrets/dpi-agent/rule-server/ca.crt
        - name: DPI_AGENT_RULES_DIRECTORY
          value: /var/lib/dpi-agent/rule-sets
        {{- end }}
        {{- if .Values.response.enabled }}
        - name: DPI_AGENT_RESPOND_URL
          value: https://dpi-agent-response.tigera-dpi.svc
        - name: DPI_AGENT_RESPOND_CA_FILE
          value: /var/run/secrets/dpi-agent/response/ca.crt
        {{- end }}
        {{- if .Values.policy.enabled }}
        - name: DPI_AGENT_ALERTS_POLICY
          value: /etc/dpi-agent-policy/policy.yaml
        - name: DPI_AGENT_RULE_CHANGES
          value: /etc/dpi-agent-policy/rule-changes.conf
        {{- end }}
        {{- with .Values.agent.env }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      ports:
        - name: metrics
          containerPort: 9097
          protocol: TCP
      # Until the rules are loaded.
      startupProbe:
        httpGet: { path: /health, port: 9097 }
        periodSeconds: 2
        timeoutSeconds: 5
        failureThreshold: 90
      livenessProbe:
        httpGet: { path: /health, port: 9097 }
        periodSeconds: 10
        timeoutSeconds: 5
        failureThreshold: 6
      readinessProbe:
        httpGet: { path: /readiness, port: 9097 }
        periodSeconds: 5
        timeoutSeconds: 5
        failureThreshold: 3
      resources:
        {{- toYaml .Values.agent.resources | nindent 8 }}
      securityContext:
        # Root without most of its rights; docs/kubernetes.md says what each is for.
        runAsUser: 0
        runAsGroup: 0
        privileged: false
        allowPrivilegeEscalation: false
        readOnlyRootFilesystem: true
        capabilities:
          drop: [ALL]
          {{- if .Values.agent.fewerRights }}
          add: [NET_RAW, SETUID, SETGID, SETPCAP, CHOWN, DAC_OVERRIDE, KILL]
          {{- else }}
          add: [NET_RAW, SYS_PTRACE, SYS_ADMIN, SETUID, SETGID, SETPCAP, CHOWN, DAC_OVERRIDE, KILL]
          {{- end }}
      volumeMounts:
        - name: config
          mountPath: /etc/dpi-agent
          readOnly: true
        - name: alerts
          mountPath: /var/log/calico/snort-alerts
        - name: state
          mountPath: /var/lib/dpi-agent
        - name: tmp
          mountPath: /tmp
        {{- if .Values.elasticsearch.enabled }}
        - name: elasticsearch
          mountPath: /etc/dpi-agent-elasticsearch
          readOnly: true
        {{- end }}
        {{- if .Values.ruleServer.enabled }}
        - name: rule-server
          mountPath: /var/run/secrets/dpi-agent/rule-server
          readOnly: true
        {{- end }}
        {{- if .Values.response.enabled }}
        - name: response
          mountPath: /var/run/secrets/dpi-agent/response
          readOnly: true
        {{- end }}
        {{- if .Values.policy.enabled }}
        - name: policy
          mountPath: /etc/dpi-agent-policy
          readOnly: true
        {{- end }}
        {{- include "dpi-agent.rulesMount" . | nindent 8 }}
  volumes:
    - name: config
      configMap:
        name: tigera-dpi
    # The event log of the node.
    - name: alerts
      hostPath:
        path: /var/log/calico/snort-alerts
        type: DirectoryOrCreate
    # What an engine has found and the journal does not have yet, over a restart of the agent.
    - name: state
      hostPath:
        path: /var/lib/dpi-agent
        type: DirectoryOrCreate
    - name: tmp
      emptyDir:
        sizeLimit: 64Mi
    {{- if .Values.elasticsearch.enabled }}
    - name: elasticsearch
      secret:
        secretName: {{ .Values.elasticsearch.secretName }}
        optional: true
        defaultMode: 256 # 0400
    {{- end }}
    {{- if .Values.ruleServer.enabled }}
    - name: rule-server
      projected:
        defaultMode: 256 # 0400
        sources:
          - serviceAccountToken:
              audience: dpi-agent-rule-server
              expirationSeconds: 3600
              path: token
          - secret:
              name: {{ .Values.ruleServer.tlsSecretName }}
              optional: true
              items:
                - key: ca.crt
                  path: ca.crt
    {{- end }}
    {{- if .Values.response.enabled }}
    - name: response
      projected:
        defaultMode: 256 # 0400
        sources:
          - serviceAccountToken:
              audience: dpi-agent-response
              expirationSeconds: 3600
              path: token
          - secret:
              name: {{ .Values.response.tlsSecretName }}
              optional: true
              items:
                - key: ca.crt
                  path: ca.crt
    {{- end }}
    {{- if .Values.policy.enabled }}
    # Made by nobody here, so that an upgrade takes back nothing that was tuned.
    - name: policy
      configMap:
        name: {{ .Values.policy.configMap }}
        optional: true
    {{- end }}
    {{- include "dpi-agent.rulesVolume" . | nindent 4 }}
{{- end }}
