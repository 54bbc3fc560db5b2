#!/bin/sh
# Writes the lock files of the images anew: every version pinned, every wheel by its hash, for amd64 and arm64.
# Needs uv. Run it after dependencies changed in pyproject.toml, then build and test the images.
set -eu
cd "$(dirname "$0")"

lock() {
    output=$1
    shift
    uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
        --config-file uv.toml --constraint constraints.txt --output-file "$output" --upgrade "$@"
}

lock requirements-build.lock requirements-build.in
lock requirements-edge.lock --extra edge ../pyproject.toml
# PyTorch has a lock file of its own, kept by hand: its CPU builds are not on the index that the rest comes from.
lock requirements-cloud.lock --extra cloud --no-emit-package torch ../pyproject.toml
