#!/bin/sh
# Brings the image into the cluster, applies the manifests, and waits until the service is ready.
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
root=$(dirname -- "$here")
# shellcheck source=scripts/common.sh
. "$here/common.sh"

usage() {
    cat <<'END'
deploy.sh [--model FILE | --from DIR] [--overlay NAME] [--image-only FILE | --image-archive FILE | --no-image]
          [--timeout SECONDS] [--dry-run] [-- BUILD_OPTION...]

  --model FILE           an .onnx model of at most 900 kB; models/anomaly-detector/anomaly-detector.onnx otherwise
  --from DIR             a folder written by "tierwise deploy", with its own model, options and passwords
  --overlay NAME         k3s, dev or minimal (k3s)
  --image-only FILE      build the image into the archive FILE, and change nothing else
  --image-archive FILE   take the image from such an archive instead of building it
  --no-image             keep the image that the cluster runs
  --timeout SECONDS      how long to wait until the service is ready (300)
  --dry-run              say what would be done
  BUILD_OPTION           of docker build: --build-arg BASE_IMAGE=..., --build-arg TORCH_INDEX=..., --secret id=ca,src=...

Run it on the master as root. A second run changes only what has changed; passwords stay. An image is built where the
manifests want tierwise:edge or tierwise:cloud, and gets a tag of its own, so that a changed one replaces every pod.
END
}

random() { od -An -N 24 -t x1 /dev/urandom | tr -d ' \n'; }

model=
from=
overlay=k3s
archive=
only=
build=yes
timeout=300
while [ $# -gt 0 ]; do
    case $1 in
    --model) model=$(value_of "$@") || exit 2; shift ;;
    --from) from=$(value_of "$@") || exit 2; shift ;;
    --overlay) overlay=$(value_of "$@") || exit 2; shift ;;
    --image-only) only=$(value_of "$@") || exit 2; shift ;;
    --image-archive) archive=$(value_of "$@") || exit 2
        build=
        shift
        ;;
    --no-image) build= ;;
    --timeout) timeout=$(value_of "$@") || exit 2; shift ;;
    --dry-run) DRY_RUN=yes ;;
    -h | --help)
        usage
        exit 0
        ;;
    --)
        shift
        break
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
[ -z "$only" ] || [ -n "$build" ] || misused "--image-only builds an image; it excludes --image-archive and --no-image"
[ -z "$archive" ] || [ -f "$archive" ] || fail "no image archive at $archive"

# --- what the manifests want ---
namespace=tierwise
image=tierwise:edge
if [ -n "$from" ]; then
    [ -f "$from/kustomization.yaml" ] || fail "$from is no folder of \"tierwise deploy\" (no kustomization.yaml)"
    said() { sed -n "s/^[ -]*$1: *//p" "$from/kustomization.yaml" | tr -d "'\"" | head -n 1; }
    namespace=$(said namespace)
    image=$(said newName):$(said newTag)
fi
ours=yes
case $image in
tierwise:edge | tierwise:cloud) ;;
*)
    ours=
    [ -z "$only$archive" ] || fail "$from wants another image than tierwise:edge or tierwise:cloud; push it to its registry"
    build=
    ;;
esac
[ -n "$build" ] || [ $# -eq 0 ] || misused "no image is built here: $* would do nothing"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM

# --- the image ---
git_says() { git -c safe.directory="$root" -C "$root" "$@" 2>/dev/null || true; }

# Builds the image into the archive $1 and sets $image to its tag, which tells its content: nodes and pods that have
# another one can be told from those that have it.
build_image() {
    built_archive=$1
    shift
    need docker
    docker info >/dev/null 2>&1 || [ -n "$DRY_RUN" ] || fail "no Docker engine answers; start it, or give --image-archive or --no-image"
    version=$(git_says describe --tags --always --dirty)
    revision=$(git_says rev-parse HEAD)
    run docker build --file "$root/docker/Dockerfile" --target "${image#*:}" --tag "$image" \
        --build-arg "VERSION=${version:-dev}" --build-arg "REVISION=${revision:-unknown}" "$@" "$root" ||
        fail "the image could not be built; docs/deploy.md, troubleshooting"
    id=CONTENT
    [ -n "$DRY_RUN" ] || id=$(docker image inspect --format '{{.Id}}' "$image")
    tagged=$image-$(printf '%.12s' "${id#sha256:}")
    run docker tag "$image" "$tagged"
    run docker save --output "$built_archive" "$tagged"
    run chmod 644 "$built_archive"
    image=$tagged
}

if [ -n "$only" ]; then
    build_image "$only" "$@"
    say "$image is in $only. To the workers: scripts/setup-worker.sh --images; here: scripts/deploy.sh --image-archive"
    exit 0
fi

if [ -z "$from" ]; then
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

wanted=$image
if [ -n "$build" ]; then
    archive=$work/image.tar
    build_image "$archive" "$@"
elif [ -n "$archive" ]; then
    image=$(tar -xOf "$archive" manifest.json | tr ',' '\n' | sed -n "s/.*\"\($wanted-[0-9a-zA-Z]*\)\".*/\1/p" | head -n 1)
    [ -n "$image" ] || fail "$archive holds no image $wanted-...; make it with deploy.sh --image-only${from:+ --from $from}"
elif [ -n "$ours" ]; then
    running=$(kubectl get deployment inference --namespace "$namespace" --ignore-not-found \
        --output 'jsonpath={.spec.template.spec.containers[0].image}' 2>/dev/null) || running=
    case $running in
    "$wanted"-*) image=$running ;;
    esac
fi
if [ -n "$archive" ] && command -v k3s >/dev/null 2>&1; then
    copy_images "$archive" tierwise.tar
fi

# One line for each node that takes pods and lacks the image $1.
nodes_without() {
    kubectl get nodes --field-selector spec.unschedulable=false --output 'jsonpath={range .items[*]}{.metadata.name}{" "}{.status.conditions[?(@.type=="Ready")].status}{" "}{.status.images[*].names[*]}{"\n"}{end}' |
        while read -r node ready names; do
            [ "$ready" = True ] || continue
            case " $names " in
            *"/$1 "* | *" $1 "*) ;;
            *) printf '%s\n' "$node" ;;
            esac
        done
}
every_node_has() { [ -z "$(nodes_without "$1")" ]; }

case $image in
"$wanted"-*)
    # A node tells its images every ten seconds. One without would try to pull, for ever.
    if ! (wait_for 30 "$image on every node" every_node_has "$image"); then
        copy=$K3S_DATA_DIR/agent/images/tierwise.tar
        nodes_without "$image" | while read -r node; do
            say "  sudo scp $copy $node:    and there: sudo scripts/setup-worker.sh --images tierwise.tar"
        done
        fail "some nodes lack the image (above); nothing was deployed. Bring it there and run this again."
    fi
    ;;
esac

# --- the manifests ---
lacks_secret() {
    found=$(kubectl get secret "$1" --namespace "$namespace" --ignore-not-found --output name) || [ -n "$DRY_RUN" ] ||
        fail "the cluster does not tell whether the secret $1 is there"
    [ -z "$found" ]
}

# A kustomization as "tierwise deploy" writes it; passwords are made where the cluster has none.
compose_manifests() {
    mkdir "$work/docker"
    cp -R "$root/kubernetes" "$root/monitoring" "$work"
    cp -R "$root/docker/mosquitto" "$work/docker"
    cp "$model" "$work/model.onnx"
    cat >"$work/kustomization.yaml" <<END
apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
namespace: $namespace
configMapGenerator:
  - name: tierwise-model
    files: [model.onnx]
  - name: tierwise-settings
    behavior: merge
    literals: [MODEL_SHA256=$(sha256sum "$model" | cut -d ' ' -f 1)]
resources:
  - kubernetes/overlays/$overlay
END
    [ "$overlay" != dev ] || return 0
    for secret in tierwise-mqtt tierwise-grafana; do
        lacks_secret "$secret" || continue
        printf '  - %s.yaml\n' "$secret" >>"$work/kustomization.yaml"
        cat >"$work/$secret.yaml" <<END
apiVersion: v1
kind: Secret
metadata:
  name: $secret
stringData:
  username: tierwise
  password: "$(random)"
END
    done
}

if [ -z "$from" ]; then
    compose_manifests
    from=$work
fi
# First with a kubectl of its own, as that of an old K3s cannot build these manifests.
{ command kubectl kustomize "$from" 2>/dev/null || kubectl kustomize "$from"; } >"$work/built.yaml" ||
    fail "the manifests cannot be built; if kubectl does not know a field, put a newer one (1.27) on PATH"
sed "s|^\([ -]*image: \)$wanted\$|\1$image|" "$work/built.yaml" >"$work/manifests.yaml"
run kubectl apply --server-side --force-conflicts -f "$work/manifests.yaml"
run kubectl rollout status deployment/inference --namespace "$namespace" --timeout "${timeout}s" ||
    fail "the service is not ready; see: kubectl get pods -n $namespace, kubectl logs -n $namespace -l app=ml-inference --all-containers"
say "Deployed. Test it: tests/test-inference.sh http://ADDRESS_OF_A_NODE"
