# shellcheck shell=sh
# What the scripts of this folder share; read in with ". common.sh", never run.

: "${DRY_RUN:=}"
K3S_CONFIG_DIR=${K3S_CONFIG_DIR:-/etc/rancher/k3s}
K3S_DATA_DIR=${K3S_DATA_DIR:-/var/lib/rancher/k3s}
K3S_BIN_DIR=${K3S_BIN_DIR:-/usr/local/bin}
K3S_INSTALL_URL=${K3S_INSTALL_URL:-https://get.k3s.io}
# Where the installer puts k3s, which sudo leaves out of PATH on some systems.
PATH=$PATH:$K3S_BIN_DIR

say() { printf '%s\n' "$*" >&2; }

fail() {
    say "${0##*/}: $*"
    exit 1
}

# Wrong arguments: what is wrong, how it is used, exit code 2.
misused() {
    say "${0##*/}: $*"
    usage >&2
    exit 2
}

# Runs a command, or says it with --dry-run.
run() {
    if [ -n "$DRY_RUN" ]; then
        say "+ $*"
    else
        "$@"
    fi
}

need() {
    for program in "$@"; do
        command -v "$program" >/dev/null 2>&1 || fail "$program is not installed, or not on PATH"
    done
}

need_root() {
    [ -n "$DRY_RUN" ] || [ "${TIERWISE_SKIP_ROOT_CHECK:-}" = yes ] || [ "$(id -u)" = 0 ] || fail "run it as root (sudo)"
}

# The argument of an option, which must be there and no option itself.
value_of() {
    [ $# -ge 2 ] || misused "$1 needs a value"
    case $2 in
    "" | -*) misused "$1 needs a value" ;;
    esac
    printf '%s\n' "$2"
}

# An IPv4 or IPv6 address or a host name, and nothing that a shell or a URL reads otherwise.
is_host() {
    case $1 in
    "" | -* | *[!A-Za-z0-9.:-]*) return 1 ;;
    esac
}

# Polls a command until it succeeds: wait_for SECONDS WHAT COMMAND...
wait_for() {
    seconds=$1
    what=$2
    shift 2
    if [ -n "$DRY_RUN" ]; then
        say "+ wait until: $*"
        return 0
    fi
    while ! "$@" >/dev/null 2>&1; do
        seconds=$((seconds - 1))
        [ "$seconds" -gt 0 ] || fail "$what: gave up waiting"
        sleep "${POLL_S:-1}"
    done
}

# Puts an image archive (docker save, or k3s's own airgap images) where K3s imports it at every start, and into a K3s
# that runs: copy_images ARCHIVE [NAME]
copy_images() {
    [ -f "$1" ] || [ -n "$DRY_RUN" ] || fail "no image archive at $1"
    copy=$K3S_DATA_DIR/agent/images/${2:-${1##*/}}
    run mkdir -p "$K3S_DATA_DIR/agent/images"
    run cp "$1" "$copy"
    run chmod 644 "$copy"
    if command -v k3s >/dev/null 2>&1 && k3s ctr version >/dev/null 2>&1; then
        run k3s ctr images import "$1"
    fi
}

# Installs K3s with the roles of the arguments, unless it is installed: from a local binary and install script
# (K3S_BINARY, K3S_INSTALL_SCRIPT: no network is used), else from K3S_INSTALL_URL.
install_k3s() {
    if [ -n "${K3S_BINARY:-}" ]; then
        [ -f "$K3S_BINARY" ] || fail "no k3s binary at $K3S_BINARY"
        [ -f "${K3S_INSTALL_SCRIPT:-}" ] || fail "K3S_INSTALL_SCRIPT must name K3s' install script where K3S_BINARY is given"
        run mkdir -p "$K3S_BIN_DIR"
        run cp "$K3S_BINARY" "$K3S_BIN_DIR/k3s"
        run chmod 755 "$K3S_BIN_DIR/k3s"
        run env INSTALL_K3S_SKIP_DOWNLOAD=true sh "$K3S_INSTALL_SCRIPT" "$@"
        return
    fi
    need curl
    if [ -n "$DRY_RUN" ]; then
        say "+ curl -sfL $K3S_INSTALL_URL | sh -s - $*"
        return
    fi
    # To a file first: a pipe would run half a script when the connection breaks, and hide that curl failed.
    script=$(mktemp)
    trap 'rm -f "$script"' EXIT
    curl -sfL "$K3S_INSTALL_URL" -o "$script" || fail "cannot download the K3s installer from $K3S_INSTALL_URL (no network? see K3S_BINARY in docs/deploy.md)"
    sh "$script" "$@" || fail "the K3s installer failed; its messages are above"
}
