#!/usr/bin/env bash
# Makes a cluster of three nodes with kind. Does nothing where it exists.
# Usage: create-cluster.sh [CLUSTER]
set -euo pipefail
# shellcheck source=lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

(($# <= 1)) || fail "usage: create-cluster.sh [CLUSTER]"
cluster="${1:-$default_cluster}"
require docker kind kubectl

if exists "$cluster"; then
    echo "the cluster $cluster exists"
else
    kind create cluster --name "$cluster" --config "$root/kind/cluster.yaml" --wait 3m
fi
kubectl --context "kind-$cluster" wait --for=condition=Ready nodes --all --timeout=3m
echo "next: $root/kind/deploy.sh $cluster y"
