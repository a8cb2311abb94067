{{/* Rights of the bridge that hold in one namespace, or in all of them. */}}

{{- define "tidings.bridge.rules" -}}
- apiGroups: [tidings.dev]
  resources: [subscriptions, sinks]
  verbs: [list, watch]
- apiGroups: [tidings.dev]
  resources: [subscriptions/status, sinks/status]
  verbs: [patch]
{{- /* What is said once of a Subscription: `kubectl describe` shows it. */}}
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
{{- end }}

{{/* Those that are named, one by one: never a list. */}}
{{- define "tidings.bridge.secretRules" -}}
- apiGroups: [""]
  resources: [secrets]
  verbs: [get]
{{- end }}

{{- define "tidings.bridge.sourceRules" -}}
{{- range .Values.sources }}
- apiGroups:
    {{- toYaml .apiGroups | nindent 4 }}
  resources:
    {{- toYaml .resources | nindent 4 }}
  verbs: [list, watch]
{{- end }}
{{- end }}

{{/* A binding to the bridge's account: (dict "root" $ "kind" "Role" "role" "…"). */}}
{{- define "tidings.bridge.bound" -}}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: {{ .kind }}
  name: {{ .role }}
subjects:
  - kind: ServiceAccount
    name: {{ include "tidings.serviceAccount" (dict "root" .root "component" "bridge") }}
    namespace: {{ .root.Release.Namespace }}
{{- end }}
