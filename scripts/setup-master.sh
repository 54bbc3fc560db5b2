#!/bin/sh
# Makes this machine the master of a K3s cluster, and prints what the workers need: master IP and node token.
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
# shellcheck source=scripts/common.sh
. "$here/common.sh"

usage() {
    cat <<'EOF'
setup-master.sh [--ip ADDRESS] [--images ARCHIVE] [--dry-run]

  --ip ADDRESS      address at which the workers reach this machine; that of the default route otherwise
  --images ARCHIVE  image archive for machines without a network (repeatable)
  --dry-run         say what would be done

Run it as root; a second run changes nothing that is right. Without a network: K3S_BINARY and K3S_INSTALL_SCRIPT name
local copies, see docs/deploy.md. INSTALL_K3S_VERSION pins the version of K3s.
EOF
}

ip=
archives=
while [ $# -gt 0 ]; do
    case $1 in
    --ip) ip=$(value_of "$@") || exit 2; shift ;;
    --images)
        archive=$(value_of "$@") || exit 2; shift
        archives="$archives$archive
"
        ;;
    --dry-run) DRY_RUN=yes ;;
    -h | --help)
        usage
        exit 0
        ;;
    *) misused "unknown argument: $1" ;;
    esac
    shift
done

default_ip() {
    # The source address that the kernel would take; no packet is sent.
    ip -4 route get 192.0.2.1 2>/dev/null | sed -n 's/.* src \([0-9.]*\).*/\1/p' | head -n 1
}

if [ -z "$ip" ]; then
    need ip
    ip=$(default_ip)
    [ -n "$ip" ] || fail "cannot tell this machine's address; give it with --ip"
fi
is_host "$ip" || misused "--ip: not an address: $ip"
need_root

printf '%s' "$archives" | while IFS= read -r archive; do copy_images "$archive"; done

if command -v k3s >/dev/null 2>&1 && k3s kubectl get --raw /readyz >/dev/null 2>&1; then
    say "K3s runs here already."
else
    install_k3s server --node-ip "$ip" --advertise-address "$ip" --tls-san "$ip" --write-kubeconfig-mode 600
fi
token_file=$K3S_DATA_DIR/server/node-token
wait_for 180 "the master of the cluster" k3s kubectl get --raw /readyz
wait_for 60 "the node token $token_file" test -s "$token_file"

if [ -n "$DRY_RUN" ]; then
    token="(in $token_file)"
else
    token=$(cat "$token_file")
fi
printf 'Master IP:  %s\nNode Token: %s\n' "$ip" "$token"
# A worker must not be newer than its master, also one that joins next year.
version=$(k3s --version 2>/dev/null | sed -n 's/^k3s version \([^ ]*\).*/\1/p') || version=
printf '\nOn each worker:\n  sudo %sscripts/setup-worker.sh %s %s\n' "${version:+INSTALL_K3S_VERSION=$version }" "$ip" "$token"
