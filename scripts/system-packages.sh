#!/bin/sh
# Installs programs that pip cannot: system-packages.sh PACKAGE...
# Takes apt where it is there and may be used without asking (root, or sudo without a password). Elsewhere it says what
# is missing and succeeds: the demo then uses an embedded broker, and each test that needs more names what it skips.
set -eu

is_there() {
    # /usr/sbin is not on every user's PATH, and mosquitto lives there.
    case "$1" in
    python3-venv) python3 -c 'import ensurepip' 2>/dev/null ;;
    gcc-arm-none-eabi) command -v arm-none-eabi-gcc >/dev/null 2>&1 ;;
    libnewlib-arm-none-eabi) test -f "$(arm-none-eabi-gcc -print-file-name=libc.a 2>/dev/null)" ;;
    mosquitto-clients) command -v mosquitto_sub >/dev/null 2>&1 ;;
    docker.io) PATH="$PATH:/usr/sbin:/sbin" command -v dockerd >/dev/null 2>&1 ;;
    influxdb) command -v influxd >/dev/null 2>&1 ;;
    *) PATH="$PATH:/usr/sbin:/sbin" command -v "$1" >/dev/null 2>&1 ;;
    esac
}

missing=""
for package in "$@"; do
    is_there "$package" || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

if command -v apt-get >/dev/null 2>&1; then
    if [ "$(id -u)" = 0 ]; then
        sudo=""
    elif sudo -n true 2>/dev/null; then
        sudo="sudo -n"
    else
        sudo=unavailable
    fi
    if [ "$sudo" != unavailable ]; then
        echo "Installing$missing with apt."
        # shellcheck disable=SC2086  # both are lists of words
        $sudo apt-get update -qq >/dev/null &&
            DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq --no-install-recommends $missing >/dev/null &&
            exit 0
    fi
fi
echo "Not installed, and apt may not be used here:$missing. To have it: sudo apt-get install$missing" >&2
