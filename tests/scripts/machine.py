"""A machine for scripts: a PATH with a few ordinary tools, and stubs that note how they were called."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from ruamel.yaml import YAML
from tests.deploy.kustomize import Object, find_kubectl

SCRIPTS = Path(__file__).parents[2] / "scripts"
TOOLS = (
    "awk", "cat", "chmod", "cp", "cut", "dirname", "env", "grep", "head", "id", "mkdir", "mktemp", "od", "rm", "sed",
    "sh", "sha256sum", "sleep", "tar", "test", "touch", "tr", "wc",
)  # fmt: skip

# Answers as K3s does, once it "runs": a file says so. Kustomizations are built for real.
K3S = """
case "$*" in
--version) echo "k3s version v1.31.5+k3s1 (56ec5dd4)" ;;
"kubectl kustomize "*) [ ! -f "$STATE/old-kubectl" ] || exit 1; exec "$REAL_KUBECTL" kustomize "$3" ;;
"kubectl get --raw /readyz") [ -f "$STATE/running" ] || exit 1 ;;
"kubectl get secret "*) [ ! -f "$STATE/no-answer" ] || exit 1; [ ! -f "$STATE/$4" ] || echo "secret/$4" ;;
"kubectl get pods "*) [ ! -f "$STATE/pods" ] || cat "$STATE/pods" ;;
"kubectl get nodes "*) [ ! -f "$STATE/nodes" ] || cat "$STATE/nodes" ;;
"kubectl get deployment "*) [ ! -f "$STATE/running-image" ] || cat "$STATE/running-image" ;;
"kubectl apply "*)
    for file; do :; done
    cp "$file" "$STATE/applied"
    for secret in tierwise-mqtt tierwise-grafana; do
        ! grep -q "^  name: $secret$" "$file" || touch "$STATE/$secret"
    done
    ;;
"kubectl rollout "*) [ ! -f "$STATE/not-ready" ] || exit 1 ;;
"kubectl delete namespace "*) [ ! -f "$STATE/stuck" ] || exit 1 ;;
"ctr version") [ -f "$STATE/running" ] || exit 1 ;;
"ctr images ls "*) [ ! -f "$STATE/images" ] || cat "$STATE/images" ;;
esac
"""

# K3s' installer: installs the stub, starts it, writes the node token.
INSTALLER = """
echo "installer $* url=${K3S_URL:-} token=${K3S_TOKEN:-} skip=${INSTALL_K3S_SKIP_DOWNLOAD:-}" >>"$STATE/calls"
[ ! -f "$STATE/installer-fails" ] || exit 1
[ -f "$BIN/k3s" ] || cp "$STATE/k3s" "$BIN/k3s"
touch "$STATE/running"
mkdir -p "$K3S_DATA_DIR/server"
[ "$1" = agent ] || echo "K10abc::server:secret" >"$K3S_DATA_DIR/server/node-token"
"""

CURL = """
[ ! -f "$STATE/no-network" ] || exit 7
while [ $# -gt 0 ]; do
    case $1 in -o) out=$2; shift ;; esac
    shift
done
[ "$out" = /dev/null ] || cp "$STATE/installer" "$out"
"""

DOCKER = """
case "$1" in
info) [ ! -f "$STATE/no-engine" ] || exit 1 ;;
build) [ ! -f "$STATE/build-fails" ] || exit 1 ;;
image) echo "sha256:$(cat "$STATE/image-id" 2>/dev/null || echo 0123456789abcdef)" ;;
save)
    printf '[{"Config":"c.json","RepoTags":["%s"],"Layers":[]}]' "$4" >"$STATE/manifest.json"
    tar -cf "$3" -C "$STATE" manifest.json
    ;;
esac
"""


@dataclass(frozen=True)
class Machine:
    """``bin`` is its PATH, ``state`` what the stubs know, ``data`` K3s' data folder."""

    folder: Path

    @property
    def bin(self) -> Path:
        return self.folder / "bin"

    @property
    def state(self) -> Path:
        return self.folder / "state"

    @property
    def data(self) -> Path:
        return self.folder / "rancher"

    def stub(self, name: str, body: str, *, where: Path | None = None) -> None:
        """A program that notes its arguments and then runs ``body``."""
        path = (where or self.bin) / name
        path.write_text(f'#!/bin/sh\necho "{name} $*" >>"$STATE/calls"\n{body}')
        path.chmod(0o755)

    def set(self, fact: str) -> None:
        """``running``, ``no-network``, ``installer-fails``, ``not-ready``, ``no-engine``, ``build-fails``,
        ``old-kubectl``, ``no-answer``, ``stuck``."""
        (self.state / fact).touch()

    def tell(self, what: str, text: str) -> None:
        """``nodes``, ``pods``, ``images``, ``running-image``, ``image-id``: what the cluster or the engine answers."""
        (self.state / what).write_text(text)

    def applied(self) -> list[Object]:
        """The objects of the last ``kubectl apply``."""
        return list(YAML(typ="safe", pure=True).load_all((self.state / "applied").read_text()))

    def install_k3s(self) -> None:
        """K3s is installed and runs."""
        shutil.copy(self.state / "k3s", self.bin / "k3s")
        self.set("running")

    def calls(self) -> list[str]:
        """What was called so far, in order."""
        path = self.state / "calls"
        return path.read_text().splitlines() if path.exists() else []

    def run(self, script: str, *arguments: str, text: str = "", **env: str) -> subprocess.CompletedProcess[str]:
        """Runs one of the scripts with nothing but this machine's PATH."""
        environment = {
            "PATH": str(self.bin),
            "STATE": str(self.state),
            "REAL_KUBECTL": find_kubectl(),
            "BIN": str(self.bin),
            "K3S_DATA_DIR": str(self.data),
            "K3S_CONFIG_DIR": str(self.folder / "etc"),
            "K3S_BIN_DIR": str(self.bin),
            "K3S_INSTALL_URL": "https://k3s.invalid/install",
            "TIERWISE_SKIP_ROOT_CHECK": "yes",
            "POLL_S": "0.01",
            **env,
        }
        command = ["sh", str(SCRIPTS / script), *arguments]
        return subprocess.run(
            command, env=environment, input=text, capture_output=True, text=True, check=False, timeout=60
        )


def make_machine(folder: Path) -> Machine:
    """A machine with curl, docker and ip, and without K3s."""
    machine = Machine(folder)
    machine.bin.mkdir()
    machine.state.mkdir()
    for tool in TOOLS:
        found = shutil.which(tool, path=os.defpath + ":/usr/bin:/bin")
        assert found is not None, tool
        (machine.bin / tool).symlink_to(found)
    machine.stub("k3s", K3S, where=machine.state)
    (machine.state / "installer").write_text(INSTALLER)
    machine.stub("curl", CURL)
    machine.stub("docker", DOCKER)
    machine.stub("ip", 'echo "192.0.2.1 via 10.0.0.1 dev eth0 src 10.0.0.7 uid 0"')
    return machine
