{{- define "granary.labels" -}}
app.kubernetes.io/name: granary
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- /* Of pods: nothing that changes with a release, which would restart them for nothing. */ -}}
{{- define "granary.podLabels" -}}
app.kubernetes.io/name: granary
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "granary.image" -}}
{{- $tag := .Values.image.tag | default .Chart.AppVersion -}}
{{- $repository := .Values.image.repository -}}
{{- with .Values.image.registry }}{{ $repository = printf "%s/%s" . $repository }}{{ end -}}
{{- if .Values.image.digest }}{{ printf "%s@%s" $repository .Values.image.digest }}{{ else }}{{ printf "%s:%s" $repository $tag }}{{ end -}}
{{- end }}

{{- /* Where the keeper's socket is, on the host and in both pods. */ -}}
{{- define "granary.keeperDir" -}}
{{ .Values.kubeletDir }}/plugins/csi.granary.dev/keeper
{{- end }}

{{- define "granary.storeUrl" -}}
https://granary-operator.{{ .Release.Namespace }}.svc:8443
{{- end }}


{{- /* The default class as JSON: the operator applies it, since Helm maps every kind before it installs the first CRD. */ -}}
{{- define "granary.defaultClass" -}}
{{- $cache := dict "minFreePercent" (int .Values.defaultClass.cache.minFreePercent) "minFree" .Values.defaultClass.cache.minFree -}}
{{- with .Values.defaultClass.cache.maxSize }}{{ $_ := set $cache "maxSize" . }}{{ end -}}
{{- $spec := dict "cache" $cache "sourcePolicy" .Values.defaultClass.sourcePolicy -}}
{{- dict "apiVersion" "granary.dev/v1alpha1" "kind" "DataStorageClass" "metadata" (dict "name" "granary") "spec" $spec | toPrettyJson -}}
{{- end }}

{{- define "granary.operatorSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{- define "granary.operatorPodSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end }}
