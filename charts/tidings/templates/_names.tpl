{{/* What objects are called, and their labels. */}}

{{- define "tidings.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" }}
{{- end }}

{{/* 40 letters leave room for the longest end that is added. */}}
{{- define "tidings.fullname" -}}
{{- $name := include "tidings.name" . }}
{{- $made := ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) }}
{{- default $made .Values.fullnameOverride | trunc 40 | trimSuffix "-" }}
{{- end }}

{{/* Of one component: (dict "root" $ "component" "bridge"). These never change, because selectors cannot. */}}
{{- define "tidings.selector" -}}
app.kubernetes.io/name: {{ include "tidings.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "tidings.labels" -}}
{{- $own := fromYaml (include "tidings.selector" .) }}
{{- $_ := set $own "app.kubernetes.io/version" (.root.Chart.AppVersion | toString) }}
{{- $_ := set $own "app.kubernetes.io/managed-by" .root.Release.Service }}
{{- $_ := set $own "helm.sh/chart" (printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_") }}
{{- merge $own .root.Values.commonLabels | toYaml }}
{{- end }}

{{- define "tidings.serviceAccount" -}}
{{- $account := (get .root.Values .component).serviceAccount }}
{{- $made := printf "%s-%s" (include "tidings.fullname" .root) .component }}
{{- default (ternary $made "default" $account.create) $account.name }}
{{- end }}

{{- define "tidings.image" -}}
{{- with .Values.image }}
{{- $tag := default $.Chart.AppVersion .tag }}
{{- .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ $tag }}{{ end }}
{{- end }}
{{- end }}
