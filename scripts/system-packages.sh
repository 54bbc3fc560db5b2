#!/bin/sh
# Installs programs that pip cannot: system-packages.sh PACKAGE...
# Takes apt where it is there and may be used without asking (root, or sudo without a password), each package by
# itself. What cannot be had it says, and succeeds: the demo then uses an embedded broker, and each test that needs more
# names what it skips. Servers among the packages are neither started nor enabled: what needs one starts its own.
set -eu

# What packages ask before they start a server. On most machines there is none, which means yes.
policy="${POLICY_RC_D:-/usr/sbin/policy-rc.d}"
policy_note="# For the length of an installation by tierwise: no server is started. A file left behind may be removed."

is_there() {
    # /usr/sbin is not on every user's PATH, and mosquitto lives there.
    case "$1" in
    python3-venv) python3 -c 'import ensurepip' 2>/dev/null ;;
    gcc-arm-none-eabi) command -v arm-none-eabi-gcc >/dev/null 2>&1 ;;
    libnewlib-arm-none-eabi) test -f "$(arm-none-eabi-gcc -print-file-name=libc.a 2>/dev/null)" ;;
    mosquitto-clients) command -v mosquitto_sub >/dev/null 2>&1 ;;
    docker.io) PATH="$PATH:/usr/sbin:/sbin" command -v dockerd >/dev/null 2>&1 ;;
    golang-go) command -v go >/dev/null 2>&1 ;;
    etcd-server) command -v etcd >/dev/null 2>&1 ;;
    dpkg-dev) command -v dpkg-source >/dev/null 2>&1 ;;
    influxdb) command -v influxd >/dev/null 2>&1 ;;
    chromium) has_browser ;;
    *) PATH="$PATH:/usr/sbin:/sbin" command -v "$1" >/dev/null 2>&1 ;;
    esac
}

has_browser() {
    # Ubuntu's chromium-browser only starts a snap, which may not read the files of tests.
    for name in chromium chromium-browser google-chrome google-chrome-stable; do
        program="$(command -v "$name")" || continue
        case "$(readlink -f "$program")" in */snap) continue ;; esac
        head -c 4096 "$program" | grep -q /snap/ || return 0
    done
    return 1
}

how_to_be_root() {
    if [ "$(id -u)" = 0 ]; then
        sudo=""
    elif sudo -n true 2>/dev/null; then
        sudo="sudo -n"
    else
        return 1
    fi
}

forbid_starts() {
    if [ -e "$policy" ] && ! grep -qxF "$policy_note" "$policy"; then
        return 0 # somebody else's decision
    fi
    trap allow_starts EXIT
    trap 'exit 129' HUP
    trap 'exit 130' INT
    trap 'exit 143' TERM
    printf '#!/bin/sh\n%s\nexit 101\n' "$policy_note" | $sudo tee "$policy" >/dev/null && $sudo chmod 755 "$policy"
}

allow_starts() {
    $sudo rm -f "$policy" || echo "$policy could not be removed: without that, packages start no servers." >&2
}

install() {
    if ! said="$($sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$1" 2>&1)"; then
        # The last line is apt's own reason.
        echo "apt could not install $1: $(printf '%s\n' "$said" | tail -n 1)" >&2
        return 0
    fi
    if command -v systemctl >/dev/null 2>&1 && systemctl is-enabled "$1" >/dev/null 2>&1; then
        $sudo systemctl disable --now "$1" >/dev/null 2>&1 || true
        if systemctl is-active "$1" >/dev/null 2>&1; then
            echo "$1 was started by its package. To stop it: sudo systemctl disable --now $1" >&2
        else
            echo "$1 is installed, and not started. To have it running: sudo systemctl enable --now $1"
        fi
    fi
}

missing=""
for package in "$@"; do
    is_there "$package" || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

if ! command -v apt-get >/dev/null 2>&1; then
    echo "Not installed, and apt is not here to install it:$missing." >&2
elif ! how_to_be_root; then
    echo "Not installed, and apt may not be used without a password:$missing. To have it: sudo apt-get install$missing" >&2
else
    echo "Installing$missing with apt."
    $sudo apt-get update -qq >/dev/null || echo "apt could not update its lists and goes by the old ones." >&2
    forbid_starts || echo "$policy cannot be written: servers may be started for a moment." >&2
    for package in $missing; do
        install "$package"
    done
fi
