#!/bin/sh
# Takes the deployment out of the cluster; with --cluster also K3s off this machine.
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
# shellcheck source=scripts/common.sh
. "$here/common.sh"

usage() {
    cat <<'EOF'
teardown.sh [--namespace NAME] [--cluster] [--yes] [--dry-run]

  --namespace NAME  namespace of the deployment (tierwise); everything in it goes, stored metrics too
  --cluster         also remove K3s from this machine (master or worker)
  --yes             do not ask
  --dry-run         say what would be done
EOF
}

namespace=tierwise
cluster=
yes=
while [ $# -gt 0 ]; do
    case $1 in
    --namespace) namespace=$(value_of "$@") || exit 2; shift ;;
    --cluster) cluster=yes ;;
    --yes) yes=yes ;;
    --dry-run) DRY_RUN=yes ;;
    -h | --help)
        usage
        exit 0
        ;;
    *) misused "unknown argument: $1" ;;
    esac
    shift
done
case $namespace in
"" | *[!a-z0-9-]* | default | kube-*) misused "--namespace: $namespace is not the namespace of a deployment" ;;
esac

if [ -z "$yes" ] && [ -z "$DRY_RUN" ]; then
    [ -t 0 ] || fail "nobody can be asked here; say --yes"
    printf 'Delete the namespace %s%s? [y/N] ' "$namespace" "${cluster:+ and K3s on this machine}" >&2
    read -r answer
    [ "$answer" = y ] || fail "nothing was deleted"
fi

if command -v k3s >/dev/null 2>&1; then
    need_root
    kubectl() { k3s kubectl "$@"; }
fi
# The images of the service on this node, unless another namespace runs them.
forget_images() {
    command -v k3s >/dev/null 2>&1 || return 0
    users=$(kubectl get pods --all-namespaces --selector app=ml-inference --output name 2>/dev/null) || return 0
    [ -z "$users" ] || return 0
    run rm -f "$K3S_DATA_DIR/agent/images/tierwise.tar"
    k3s ctr images ls --quiet 2>/dev/null | grep '/tierwise:' | while read -r image; do
        run k3s ctr images rm "$image"
    done
}

if kubectl get --raw /readyz >/dev/null 2>&1 || [ -n "$DRY_RUN" ]; then
    run kubectl delete namespace "$namespace" --ignore-not-found --timeout 180s || {
        stuck="the namespace $namespace has not gone yet; see: kubectl get namespace $namespace -o yaml"
        [ -n "$cluster" ] || fail "$stuck"
        say "$stuck"
    }
    forget_images
elif [ -z "$cluster" ]; then
    fail "the cluster does not answer"
fi
[ -n "$cluster" ] || exit 0

need_root
uninstalled=
for name in k3s-uninstall.sh k3s-agent-uninstall.sh; do
    if [ -x "$K3S_BIN_DIR/$name" ]; then
        run "$K3S_BIN_DIR/$name"
        uninstalled=yes
    fi
done
run rm -f "$K3S_CONFIG_DIR/tierwise-master"
[ -n "$uninstalled" ] || say "K3s is not installed here."
