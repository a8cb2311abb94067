# shellcheck shell=bash
# shellcheck disable=SC2034 # variables are for those who source it
# What the scripts of this folder share. It is sourced.

# The checkout, wherever the scripts are called from.
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
readonly root

# Of the study that this continues.
readonly default_cluster=k8s-as-backend

fail() {
    echo "error: $*" >&2
    exit 1
}

# Says all that is missing at once, and where it comes from.
require() {
    local missing=0 tool
    for tool in "$@"; do
        command -v "$tool" >/dev/null && continue
        missing=1
        case "$tool" in
            docker) echo "missing: docker, which runs the nodes: https://docs.docker.com/engine/install" >&2 ;;
            kind) echo "missing: kind, which makes the cluster: https://kind.sigs.k8s.io/docs/user/quick-start" >&2 ;;
            kubectl) echo "missing: kubectl: https://kubernetes.io/docs/tasks/tools" >&2 ;;
            helm) echo "missing: helm 3 or 4, which installs the chart: https://helm.sh/docs/intro/install" >&2 ;;
            *) echo "missing: $tool" >&2 ;;
        esac
    done
    ((missing == 0)) || exit 1
    docker info >/dev/null 2>&1 || fail "docker does not answer: is it running, and may you use it? (\`docker info\` says more)"
}

# Whether there is such a cluster.
exists() {
    kind get clusters 2>/dev/null | grep --quiet --line-regexp --fixed-strings -- "$1"
}
