#!/usr/bin/env bash
# Puts Tidings, a NATS and the example of the Todos into a cluster that create-cluster.sh has made. Can be called again after a change.
# Usage: deploy.sh [CLUSTER [y|n]]
#   y: build the image (the default); n: take the one that was built before
set -euo pipefail
# shellcheck source=lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

(($# <= 2)) || fail "usage: deploy.sh [CLUSTER [y|n]]"
cluster="${1:-$default_cluster}"
build="${2:-y}"
[[ "$build" == [yn] ]] || fail "the second argument is y (build the image) or n (take the one there is), not $build"
require docker kind kubectl helm
exists "$cluster" || fail "there is no cluster $cluster: $root/kind/create-cluster.sh $cluster makes it"

readonly repository=tidings.local/tidings
if [[ "$build" == y ]]; then
    docker build --file "$root/Containerfile" --tag "$repository:dev" "$root"
fi
# Its own id as a tag: another image makes other pods, and the same one none.
id="$(docker image inspect --format '{{.Id}}' "$repository:dev" 2>/dev/null)" ||
    fail "there is no image $repository:dev: call deploy.sh $cluster y"
tag="dev-${id:7:12}"
docker tag "$repository:dev" "$repository:$tag"
kind load docker-image --name "$cluster" "$repository:$tag"

kubectl() { command kubectl --context "kind-$cluster" "$@"; }

# Helm installs CRDs and never upgrades them.
kubectl apply --server-side --force-conflicts --filename "$root/charts/tidings/crds"
helm upgrade --install tidings "$root/charts/tidings" --kube-context "kind-$cluster" \
    --namespace tidings --create-namespace --values "$root/kind/values.yaml" \
    --set image.repository="$repository" --set-string image.tag="$tag" \
    --wait --timeout 5m

kubectl apply --server-side --filename "$root/kind/nats.yaml"
kubectl --namespace broker rollout status deployment/nats --timeout=3m
kubectl --namespace broker wait --for=condition=Complete job/streams --timeout=3m
kubectl apply --server-side --filename "$root/examples/todo/crd.yaml"
kubectl wait --for=condition=Established customresourcedefinition/todos.k8sasbackend.com --timeout=1m
kubectl apply --server-side --filename "$root/kind/subscription.yaml"
kubectl wait --for=condition=Delivering subscription/todos --timeout=2m
kubectl apply --server-side --filename "$root/examples/todo/todos.yaml"

cat <<END

Tidings runs in the namespace tidings, and sends every change of a Todo in the namespace default to NATS.
  kubectl --context kind-$cluster get subscriptions
  kubectl --context kind-$cluster edit todo water-the-plants
  kubectl --context kind-$cluster --namespace broker exec deployment/nats --container box -- nats stream view TODOS
END
