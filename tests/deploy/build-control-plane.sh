#!/bin/sh
# Builds Kubernetes' control plane from Debian's source package: build-control-plane.sh OUT
# Debian packages the client alone, but the source of its release 12 is whole. OUT gets kube-apiserver,
# kube-controller-manager and kube-scheduler, after some five minutes of one core. Nothing else stays, and nothing on the
# machine changes. Exit code 3, and one line: the source or a tool cannot be had here.
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
# shellcheck disable=SC2016  # apt replaces these
mirror=$(apt-get indextargets --format '$(ORIGIN) $(LABEL) $(REPO_URI)' 'Created-By: Packages' |
    sed -n 's/^Debian Debian //p' | head -n 1)
[ -n "$mirror" ] || not_here "apt knows no archive of Debian (has \"apt-get update\" been run?)"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# --- the source, by lists of its own ---
mkdir -p "$work/lists/partial" "$work/cache/archives/partial"
echo "deb-src [signed-by=$keyring] $mirror $release main" >"$work/sources.list"
apt() {
    apt-get -qq -o Dir::Etc::SourceList="$work/sources.list" -o Dir::Etc::SourceParts=- -o Dir::State::Lists="$work/lists" \
        -o Dir::Cache="$work/cache" -o APT::Sandbox::User="$(id -un)" -o APT::Update::Error-Mode=any \
        -o Acquire::Retries=3 "$@"
}
cd "$work"
{ apt update && apt source --download-only --only-source kubernetes; } >apt.log 2>&1 ||
    not_here "the source package kubernetes of $release could not be had from Debian's mirror: $(grep "^[EW]: " apt.log | head -n 1)"
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

mkdir -p "$(dirname "$out")"
rm -rf "$out"
mv "$work/bin" "$out"
