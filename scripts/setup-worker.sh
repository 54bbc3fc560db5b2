#!/bin/sh
# Makes this machine a worker of the cluster whose master setup-master.sh has set up.
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
# shellcheck source=scripts/common.sh
. "$here/common.sh"

usage() {
    cat <<'EOF'
setup-worker.sh [--images ARCHIVE] [--dry-run] MASTER_IP NODE_TOKEN
setup-worker.sh --images ARCHIVE [--dry-run]

  MASTER_IP, NODE_TOKEN  as setup-master.sh printed them; NODE_TOKEN - reads it from standard input
  --images ARCHIVE       an image archive that this node shall have (repeatable); alone, on a worker that has joined
  --dry-run              say what would be done

Run it as root; a second run with the same arguments changes nothing.
EOF
}

archives=
master=
token=
while [ $# -gt 0 ]; do
    case $1 in
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
    -?*) misused "unknown option: $1" ;;
    *)
        if [ -z "$master" ]; then
            master=$1
        elif [ -z "$token" ]; then
            token=$1
        else
            misused "one argument too many: $1"
        fi
        ;;
    esac
    shift
done

joined_to=$K3S_CONFIG_DIR/tierwise-master
take_images() { printf '%s' "$archives" | while IFS= read -r archive; do copy_images "$archive"; done; }

if [ -z "$master" ] && [ -n "$archives" ] && [ -f "$joined_to" ]; then
    need_root
    take_images
    exit 0
fi
[ -n "$token" ] || misused "MASTER_IP and NODE_TOKEN are needed"
is_host "$master" || misused "not an address: $master"
[ "$token" != - ] || IFS= read -r token || fail "no token on standard input"
case $token in
"" | *[!A-Za-z0-9:._-]*) misused "not a node token; it is the line in /var/lib/rancher/k3s/server/node-token on the master" ;;
esac
case $master in
*:*) url="https://[$master]:6443" ;;
*) url="https://$master:6443" ;;
esac
need_root

take_images

reachable() {
    # Any answer will do: the API server says 401 to a stranger.
    curl -sk --max-time 5 -o /dev/null "$url/cacerts"
}
need curl
if [ -z "$DRY_RUN" ] && ! reachable; then
    fail "the master does not answer at $url: check the address, that the master runs, and that port 6443 (TCP) is open"
fi

if command -v k3s >/dev/null 2>&1 && [ -f "$joined_to" ]; then
    if [ "$(cat "$joined_to")" = "$url" ]; then
        say "This machine is a worker of $url already."
        exit 0
    fi
    fail "this machine belongs to $(cat "$joined_to"); remove it there first: k3s-agent-uninstall.sh"
fi

# In the environment and not among the arguments, where every user of the machine could read the token.
export K3S_URL="$url" K3S_TOKEN="$token"
install_k3s agent
if [ -n "$DRY_RUN" ]; then
    say "+ remember $url in $joined_to"
else
    mkdir -p "$K3S_CONFIG_DIR"
    printf '%s\n' "$url" >"$joined_to"
fi
printf 'Joined %s. On the master: k3s kubectl get nodes\n' "$url"
