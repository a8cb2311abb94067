#!/usr/bin/env bash
# Takes the cluster away, with everything in it. Does nothing where there is none.
# Usage: delete-cluster.sh [CLUSTER]
set -euo pipefail
# shellcheck source=lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

(($# <= 1)) || fail "usage: delete-cluster.sh [CLUSTER]"
cluster="${1:-$default_cluster}"
require docker kind

if exists "$cluster"; then
    kind delete cluster --name "$cluster"
else
    echo "there is no cluster $cluster"
fi
