#!/bin/sh
# Builds Kubernetes' control plane from Debian's source package: build-control-plane.sh OUT
# Debian packages the client alone, but the source of its release 12 is whole. OUT gets kube-apiserver,
# kube-controller-manager and kube-scheduler, after five to ten minutes. Nothing else stays, and nothing on the machine
# changes. Exit code 3, and one line: the source or a tool cannot be had here.
set -eu
case $1 in
/*) out=$1 ;;
*) out=$PWD/$1 ;;
esac
release=bookworm
keyring=/usr/share/keyrings/debian-archive-keyring.gpg

not_here() {
    echo "$*" >&2
    exit 3
}

for program in apt-get dpkg-source go; do
    command -v "$program" >/dev/null || not_here "$program is not installed"
done
[ -f "$keyring" ] || not_here "no key of Debian's archive at $keyring"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
mkdir "$work/tmp"
export TMPDIR="$work/tmp" # go leaves its own there when it is killed

# --- the source, by lists of its own: the machine's may never have been fetched ---
mkdir -p "$work/lists/partial" "$work/cache/archives/partial"
apt() {
    apt-get -qq -o Dir::State::Lists="$work/lists" -o Dir::Cache="$work/cache" -o APT::Sandbox::User="$(id -un)" "$@"
}
apt_for_source() {
    apt -o Dir::Etc::SourceList="$work/sources.list" -o Dir::Etc::SourceParts=- -o APT::Update::Error-Mode=any "$@"
}
fetch_source() {
    apt update || : # another source of the machine may always fail; what counts is Debian's
    # shellcheck disable=SC2016  # apt replaces these
    mirror=$(apt indextargets --format '$(ORIGIN) $(LABEL) $(REPO_URI)' 'Created-By: Packages' |
        sed -n 's/^Debian Debian //p' | head -n 1)
    [ -n "$mirror" ] || {
        echo "E: no archive of Debian answers among apt's sources"
        return 1
    }
    echo "deb-src [signed-by=$keyring] $mirror $release main" >"$work/sources.list"
    apt_for_source update && apt_for_source source --download-only --only-source kubernetes
}
cd "$work"
fetched=false
for pause_s in 0 5 30; do # a mirror may be away for a moment
    sleep "$pause_s"
    if fetch_source >apt.log 2>&1; then
        fetched=true
        break
    fi
done
$fetched || not_here "the source package kubernetes of $release could not be had from Debian's mirror:" \
    "$(grep "^[EW]: " apt.log | paste -s -d ' ' -)"
tree=$work/go/src/k8s.io/kubernetes
mkdir -p "$(dirname "$tree")"
dpkg-source --extract kubernetes_*.dsc "$tree" >extract.log 2>&1 || {
    tail -n 5 extract.log >&2
    exit 1
}
# Debian's "1.20.5+really1.20.2-1" is 1.20.2.
version=$(basename kubernetes_*.dsc .dsc | sed 's/^kubernetes_//; s/.*really//; s/[-+].*//')
minor=${version#*.}

# --- the programs, as their own makefile builds them; without the drivers of cloud providers, which are half of them ---
cd "$tree"
export GO111MODULE=off GOPATH="$work/go" GOCACHE="$work/go-cache" GOFLAGS='' GOTOOLCHAIN=local CGO_ENABLED=0
go build -o "$work/openapi-gen" ./vendor/k8s.io/kube-openapi/cmd/openapi-gen
packages=$(grep -rl --include='*.go' '+k8s:openapi-gen=' pkg/apis staging/src/k8s.io |
    grep -v -e /code-generator/ -e /sample-apiserver/ | xargs -n 1 dirname | sort -u |
    sed 's|^staging/src|vendor|; s|^|k8s.io/kubernetes/|' | paste -s -d , -)
"$work/openapi-gen" --logtostderr --input-dirs "$packages" --output-package k8s.io/kubernetes/pkg/generated/openapi \
    --output-file-base zz_generated.openapi --go-header-file /dev/null --report-filename /dev/null
flags="-s -w"
for package in component-base/version client-go/pkg/version; do
    for field in gitVersion=v$version gitMajor="${version%%.*}" gitMinor="${minor%%.*}"; do
        flags="$flags -X k8s.io/kubernetes/vendor/k8s.io/$package.$field"
    done
done
mkdir "$work/bin"
go build -tags providerless -ldflags "$flags" -o "$work/bin/" \
    ./cmd/kube-apiserver ./cmd/kube-controller-manager ./cmd/kube-scheduler

# OUT is there whole or not at all: a move from another file system is a copy, a rename within a folder is not.
mkdir -p "$(dirname "$out")"
rm -rf "$out.new"
mv "$work/bin" "$out.new"
rm -rf "$out"
mv "$out.new" "$out"
