#!/bin/sh
# Brings the image into the cluster, applies the manifests, and waits until the service is ready.
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
root=$(dirname -- "$here")
# shellcheck source=scripts/common.sh
. "$here/common.sh"

usage() {
    cat <<'EOF'
deploy.sh [--model FILE | --from DIR] [--overlay NAME] [--image-archive FILE | --no-image] [--dry-run]

  --model FILE           an .onnx model of at most 900 kB; models/anomaly-detector/anomaly-detector.onnx otherwise
  --from DIR             a folder written by "tierwise deploy", with its own model, options and passwords
  --overlay NAME         k3s, dev or minimal (k3s)
  --image-archive FILE   take the image from an archive (docker save) instead of building it
  --no-image             the image is in the cluster already, or in a registry that it reaches
  --base-image NAME      base of the built image (python:3.12-slim)
  --timeout SECONDS      how long to wait until the service is ready (300)
  --dry-run              say what would be done

Run it on the master as root. A second run changes only what has changed; passwords stay.
EOF
}

random() { od -An -N 24 -t x1 /dev/urandom | tr -d ' \n'; }

image=tierwise:edge
model=
from=
overlay=k3s
archive=
build=yes
base_image=
timeout=300
while [ $# -gt 0 ]; do
    case $1 in
    --model) model=$(value_of "$@") || exit 2; shift ;;
    --from) from=$(value_of "$@") || exit 2; shift ;;
    --overlay) overlay=$(value_of "$@") || exit 2; shift ;;
    --image-archive) archive=$(value_of "$@") || exit 2
        build=
        shift
        ;;
    --no-image) build= ;;
    --base-image) base_image=$(value_of "$@") || exit 2; shift ;;
    --timeout) timeout=$(value_of "$@") || exit 2; shift ;;
    --dry-run) DRY_RUN=yes ;;
    -h | --help)
        usage
        exit 0
        ;;
    *) misused "unknown argument: $1" ;;
    esac
    shift
done

case $overlay in
k3s | dev | minimal) ;;
*) misused "--overlay: expected k3s, dev or minimal, got $overlay" ;;
esac
case $timeout in
"" | *[!0-9]*) misused "--timeout: expected seconds, got $timeout" ;;
esac
[ -z "$model" ] || [ -z "$from" ] || misused "--model and --from exclude each other"
[ -z "$archive" ] || [ -f "$archive" ] || fail "no image archive at $archive"
if [ -n "$from" ]; then
    [ -f "$from/kustomization.yaml" ] || fail "$from is no folder of \"tierwise deploy\" (no kustomization.yaml)"
else
    model=${model:-$root/models/anomaly-detector/anomaly-detector.onnx}
    [ -f "$model" ] || fail "no model at $model; make one with: tierwise model create anomaly-detector"
    [ "$(wc -c <"$model")" -le 900000 ] || fail "$model is too large for a ConfigMap; use tierwise deploy with --delivery pvc or url, then --from"
fi

if command -v k3s >/dev/null 2>&1; then
    need_root
    kubectl() { k3s kubectl "$@"; }
else
    command -v kubectl >/dev/null 2>&1 || fail "neither k3s nor kubectl is installed; run setup-master.sh first"
fi
kubectl get --raw /readyz >/dev/null 2>&1 || [ -n "$DRY_RUN" ] || fail "the cluster does not answer; is K3s running? (systemctl status k3s)"

# --- the image ---
if [ -n "$build" ]; then
    need docker
    docker info >/dev/null 2>&1 || [ -n "$DRY_RUN" ] || fail "no Docker engine answers; start it, or give --image-archive or --no-image"
    run docker build --file "$root/docker/Dockerfile" --target edge --tag "$image" \
        ${base_image:+--build-arg "BASE_IMAGE=$base_image"} "$root" || fail "the image could not be built; docs/deploy.md, troubleshooting"
    archive=$(mktemp)
    trap 'rm -f "$archive"' EXIT
    run docker save --output "$archive" "$image"
fi
if [ -n "$archive" ]; then
    if command -v k3s >/dev/null 2>&1; then
        run k3s ctr images import "$archive"
        # K3s imports what lies here at every start of a node; workers need a copy each: setup-worker.sh --images.
        run mkdir -p "$K3S_DATA_DIR/agent/images"
        run cp "$archive" "$K3S_DATA_DIR/agent/images/tierwise.tar"
        run chmod 644 "$K3S_DATA_DIR/agent/images/tierwise.tar"
        say "Workers need the image too: copy $K3S_DATA_DIR/agent/images/tierwise.tar to the same place there (docs/deploy.md)."
    else
        say "No k3s here: load $archive into the cluster's nodes yourself, or use --no-image with a registry."
    fi
fi

# --- the model and the passwords, where "tierwise deploy" has not made them ---
namespace=tierwise
if [ -n "$from" ]; then
    manifests=$from
    namespace=$(sed -n 's/^namespace: *//p' "$from/kustomization.yaml")
else
    manifests=$root/kubernetes/overlays/$overlay
    run kubectl apply --server-side --force-conflicts -f "$root/kubernetes/base/namespace.yaml"
    if [ -n "$DRY_RUN" ]; then
        say "+ kubectl create configmap tierwise-model --from-file model.onnx=$model"
    else
        kubectl create configmap tierwise-model --namespace "$namespace" --from-file "model.onnx=$model" \
            --dry-run=client --output yaml | kubectl apply --server-side --force-conflicts -f -
    fi
    if [ "$overlay" != dev ] && ! kubectl get secret tierwise-mqtt --namespace "$namespace" >/dev/null 2>&1; then
        password=$(random)
        grafana=$(random)
        if [ -n "$DRY_RUN" ]; then
            say "+ kubectl create secret generic tierwise-mqtt tierwise-grafana (random passwords)"
        else
            # Through standard input: arguments can be read by every user of the machine.
            kubectl create -f - <<EOF
apiVersion: v1
kind: Secret
metadata:
  name: tierwise-mqtt
  namespace: $namespace
stringData:
  username: tierwise
  password: "$password"
---
apiVersion: v1
kind: Secret
metadata:
  name: tierwise-grafana
  namespace: $namespace
stringData:
  password: "$grafana"
EOF
        fi
    fi
fi

# --- the manifests ---
run kubectl apply --server-side --force-conflicts -k "$manifests"
if [ -z "$from" ]; then
    # The model is not part of the manifests, so pods must be told of a new one. The same model tells them nothing new.
    checksum=$(sha256sum "$model" | cut -d ' ' -f 1)
    run kubectl patch deployment inference --namespace "$namespace" --patch \
        "{\"spec\":{\"template\":{\"metadata\":{\"annotations\":{\"tierwise/model-sha256\":\"$checksum\"}}}}}"
fi
run kubectl rollout status deployment/inference --namespace "$namespace" --timeout "${timeout}s" ||
    fail "the service is not ready; see: kubectl get pods -n $namespace, kubectl logs -n $namespace -l app=ml-inference --all-containers"
say "Deployed. Test it: tests/test-inference.sh http://ADDRESS_OF_A_NODE"
