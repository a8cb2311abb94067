{{/* What the pods of all components have in common: (dict "root" $ "component" "bridge"). */}}

{{- define "tidings.pod.metadata" -}}
{{- $values := get .root.Values .component -}}
labels:
  {{- merge (fromYaml (include "tidings.labels" .)) $values.podLabels | toYaml | nindent 2 }}
annotations:
  {{- /* Settings are read at the start, so that others make other pods. */}}
  tidings.dev/settings: {{ include (printf "tidings.%s.settings" .component) .root | sha256sum }}
  {{- with $values.podAnnotations }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}

{{- define "tidings.pod.spec" -}}
{{- $values := get .root.Values .component -}}
serviceAccountName: {{ include "tidings.serviceAccount" . }}
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- /* Variables for Services that have nothing to do with us. */}}
enableServiceLinks: false
securityContext:
  {{- toYaml $values.podSecurityContext | nindent 2 }}
terminationGracePeriodSeconds: {{ $values.terminationGracePeriodSeconds }}
{{- with $values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with $values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "tidings.container" -}}
{{- $values := get .root.Values .component -}}
name: {{ .component }}
image: {{ include "tidings.image" .root | quote }}
imagePullPolicy: {{ .root.Values.image.pullPolicy }}
args:
  - {{ .component }}
  - --config=/etc/tidings/{{ .component }}.yaml
  {{- with $values.extraArgs }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with $values.extraEnv }}
env:
  {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  {{- toYaml $values.securityContext | nindent 2 }}
resources:
  {{- toYaml $values.resources | nindent 2 }}
livenessProbe:
  httpGet:
    path: /livez
    port: admin
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
readinessProbe:
  httpGet:
    path: /readyz
    port: admin
  periodSeconds: 5
  timeoutSeconds: 5
{{- end }}

{{- define "tidings.mounts" -}}
{{- $values := get .root.Values .component -}}
- name: settings
  mountPath: /etc/tidings
  readOnly: true
- name: tmp
  mountPath: /tmp
{{- with $values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "tidings.volumes" -}}
{{- $values := get .root.Values .component -}}
- name: settings
  configMap:
    name: {{ include "tidings.fullname" .root }}-{{ .component }}
- name: tmp
  emptyDir: {}
{{- with $values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end }}
