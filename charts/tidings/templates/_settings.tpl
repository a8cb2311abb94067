{{/* The settings files. What the chart itself decides cannot be set a second time. */}}

{{- define "tidings.bridge.settings" -}}
{{- $own := dict "admin_address" "0.0.0.0:8080" "state_dir" "/var/lib/tidings/state" }}
{{- with .Values.clusterName }}
{{- $_ := set $own "cluster_name" . }}
{{- end }}
{{- merge $own .Values.bridge.settings | toYaml }}
{{- end }}

{{- define "tidings.webhook.settings" -}}
{{- $name := include "tidings.fullname" . }}
{{- $own := dict
      "address" "0.0.0.0:9443"
      "admin_address" "0.0.0.0:8080"
      "namespace" .Release.Namespace
      "service" (printf "%s-webhook" $name)
      "configuration" $name
      "certificates" (dict "secret" (printf "%s-webhook-ca" $name))
}}
{{- merge $own .Values.webhook.settings | toYaml }}
{{- end }}

{{/* What no schema can say. Called once, by an object that there always is. */}}
{{- define "tidings.check" -}}
{{- $settings := .Values.bridge.settings }}
{{- if hasKey $settings "cluster_name" }}
{{- fail "bridge.settings.cluster_name: give clusterName in its place" }}
{{- end }}
{{- range list "admin_address" "state_dir" }}
{{- if hasKey $settings . }}
{{- fail (printf "bridge.settings.%s: the chart sets it, because its volumes, ports and probes depend on it" .) }}
{{- end }}
{{- end }}
{{- range list "address" "admin_address" "namespace" "service" "configuration" "url" }}
{{- if hasKey $.Values.webhook.settings . }}
{{- fail (printf "webhook.settings.%s: the chart sets it, because its objects, ports and rights depend on it" .) }}
{{- end }}
{{- end }}
{{- if dig "certificates" "secret" "" .Values.webhook.settings }}
{{- fail "webhook.settings.certificates.secret: the chart sets it, because its rights depend on it" }}
{{- end }}
{{- if .Values.namespaces }}
{{- if not .Values.clusterName }}
{{- fail "clusterName: required with namespaces, because the uid of kube-system cannot be read there" }}
{{- end }}
{{- if .Values.webhook.enabled }}
{{- fail "webhook.enabled: must be false with namespaces, because a webhook is one for the whole cluster" }}
{{- end }}
{{- if .Values.secrets.namespaces }}
{{- fail "secrets.namespaces: has no meaning with namespaces, where only those are read" }}
{{- end }}
{{- end }}
{{- end }}
