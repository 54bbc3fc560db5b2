#!/bin/sh
# pip-install.sh PYTHON ARGUMENT...: installs wheels into the environment of PYTHON; only for use in the Dockerfile.
# An empty build argument must not reach pip, and a CA bundle is there only when it was given as a secret.
set -eu
[ -n "${PIP_INDEX_URL:-}" ] || unset PIP_INDEX_URL
[ -n "${PIP_EXTRA_INDEX_URL:-}" ] || unset PIP_EXTRA_INDEX_URL
if [ -s /run/secrets/ca ]; then
    export PIP_CERT=/run/secrets/ca
fi
python=$1
shift
exec /build/tools/bin/pip --python "$python" install --quiet --no-deps "$@"
