"""A real Kubernetes control plane of the oldest version that is supported: API server, controllers, scheduler.

Nodes are entries without a machine behind them, so pods are made, checked and placed, and never run.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import secrets
import signal
import socket
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.components import missing, need
from tests.deploy.kustomize import Object, find_kubectl
from tests.integration.engine import CACHE
from tierwise.core.subprocesses import tied_to_parent
from tierwise.live.processes import find_program, free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_BUILD = Path(__file__).with_name("build-control-plane.sh")
_NOT_HERE = 3
_BUILD_S = 3600.0
_WAIT_S = 180.0
_TRIES = 5
_ETCD = "localhost:1"  # a socket in the server's own folder, whose name must look like a port
_PEERS = "unix://localhost:2"


@dataclass(frozen=True)
class Cluster:
    """A client of the API server, with all rights."""

    program: str
    folder: Path

    @property
    def env(self) -> dict[str, str]:
        """What a program needs to reach this cluster and no other, with ``kubectl`` on its ``PATH``."""
        path = f"{Path(self.program).parent}{os.pathsep}{os.environ['PATH']}"
        return {**os.environ, "PATH": path, "KUBECONFIG": str(self.folder / "kubeconfig"), "HOME": str(self.folder)}

    def run(self, *arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        """A ``kubectl`` command, whatever comes of it."""
        command = [self.program, *arguments]
        return subprocess.run(
            command, env=self.env, input=stdin, capture_output=True, text=True, check=False, timeout=_WAIT_S
        )

    def kubectl(self, *arguments: str, stdin: str | None = None) -> list[str]:
        """The lines that a ``kubectl`` command prints; neither an error nor a warning is taken."""
        done = self.run(*arguments, stdin=stdin)
        assert (done.returncode, done.stderr) == (0, ""), f"kubectl {arguments}: {done.returncode}\n{done.stderr}"
        return done.stdout.splitlines()

    def create(self, *objects: Object) -> None:
        """Makes objects, and gives them the status that they come with, which a server else leaves to its programs."""
        self.kubectl("create", "--filename=-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))
        for item in objects:
            if "status" in item:
                patch = json.dumps({"status": item["status"]})
                self.kubectl(
                    "patch", item["kind"], item["metadata"]["name"], "--subresource=status", f"--patch={patch}"
                )

    def items(self, kinds: str, *, namespace: str, selector: str = "") -> list[Object]:
        """The objects of some kinds, as the server has them."""
        arguments = ("get", kinds, f"--namespace={namespace}", f"--selector={selector}", "--output=json")
        found: list[Object] = json.loads("\n".join(self.kubectl(*arguments)))["items"]
        return found

    def until(self, condition: Callable[[], bool], what: str) -> None:
        """Returns as soon as ``condition`` holds."""
        deadline = time.monotonic() + _WAIT_S
        while not condition():
            assert time.monotonic() < deadline, f"not within {_WAIT_S:.0f} s: {what}"
            time.sleep(0.3)  # each look is a process

    def empty(self, namespace: str) -> None:
        """Removes all pods of a namespace and what would make new ones, without the word of their nodes."""
        at_once = ("--all", "--force", "--grace-period=0", "--wait=false", f"--namespace={namespace}")

        def empty() -> bool:
            self.run("delete", "deployments,replicasets,pods", *at_once)
            return not self.items("pods", namespace=namespace)

        self.until(empty, f"{namespace} has no pods")


@contextlib.contextmanager
def control_plane() -> Iterator[Cluster]:
    """A control plane of its own for the length of the block, on the loopback interface."""
    need(program="etcd")
    kubectl = find_kubectl()
    programs = _built()
    # Not pytest's folders: their names are too long for a socket.
    with tempfile.TemporaryDirectory(prefix="tierwise-k8s-") as name, contextlib.ExitStack() as stack:
        cluster = Cluster(kubectl, Path(name))
        _issue_key(cluster.folder)
        etcd = ["etcd", "--data-dir=data", "--unsafe-no-fsync", f"--initial-cluster=default={_PEERS}"]
        etcd += [f"--listen-client-urls=unix://{_ETCD}", f"--advertise-client-urls=unix://{_ETCD}"]
        etcd += [f"--listen-peer-urls={_PEERS}", f"--initial-advertise-peer-urls={_PEERS}"]
        _await_listener(cluster.folder, stack.enter_context(_running(cluster.folder, etcd)))
        for left in reversed(range(_TRIES)):
            server = stack.enter_context(_running(cluster.folder, _api_server(programs, cluster.folder)))
            if _is_ready(cluster, server, may_fail=left > 0):
                break
        # 0 is no port: nobody asks them.
        common = ["--kubeconfig=kubeconfig", "--leader-elect=false", "--port=0", "--secure-port=0"]
        common += ["--kube-api-qps=1000", "--kube-api-burst=1000"]
        # What tells lost nodes from others would find that none of these answers.
        controllers = ["--controllers=*,-nodelifecycle", "--service-account-private-key-file=key.pem"]
        stack.enter_context(_running(cluster.folder, [f"{programs}/kube-controller-manager", *common, *controllers]))
        stack.enter_context(_running(cluster.folder, [f"{programs}/kube-scheduler", *common]))
        yield cluster


def _built() -> Path:
    """Folder of the programs, which the first use builds."""
    folder = CACHE / f"control-plane-{hashlib.sha256(_BUILD.read_bytes()).hexdigest()[:8]}"
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "control-plane.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            _build(folder, lock.fileno())
    return folder


def _build(folder: Path, lock: int) -> None:
    """The build holds the lock as well: it goes on where the tests are killed, and the next run then waits for it."""
    command = [str(_BUILD), str(folder)]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        pass_fds=(lock,),
    ) as build:
        try:
            said, _ = build.communicate(timeout=_BUILD_S)
        finally:
            if build.poll() is None:  # the compilers with it
                os.killpg(build.pid, signal.SIGTERM)
    if build.returncode:
        reason = said.strip() if build.returncode == _NOT_HERE else f"{_BUILD.name} failed: {said.strip()[-2000:]}"
        missing(f"Kubernetes' control plane: {reason}")


def _issue_key(folder: Path) -> None:
    """The key that service accounts' tokens are signed with, and the token of the one user."""
    need(program="openssl")
    command = ["openssl", "genpkey", "-algorithm", "RSA", "-out", str(folder / "key.pem")]
    subprocess.run(command, check=True, capture_output=True)
    (folder / "tokens.csv").write_text(f'{secrets.token_hex()},admin,admin,"system:masters"\n')


def _api_server(programs: Path, folder: Path) -> list[str]:
    """Its command, on a port that is free now; ``kubeconfig`` then names that port."""
    port = free_port()
    server = {"server": f"https://127.0.0.1:{port}", "certificate-authority": str(folder / "apiserver.crt")}
    token = (folder / "tokens.csv").read_text().partition(",")[0]
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "test", "cluster": server}],
        "users": [{"name": "test", "user": {"token": token}}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        "current-context": "test",
    }
    (folder / "kubeconfig").write_text(json.dumps(config))
    keys = ["--service-account-key-file=key.pem", "--service-account-signing-key-file=key.pem"]
    return [
        f"{programs}/kube-apiserver",
        *(f"--etcd-servers=unix://{_ETCD}", "--cert-dir=."),
        *("--token-auth-file=tokens.csv", "--authorization-mode=RBAC"),
        *("--bind-address=127.0.0.1", "--advertise-address=127.0.0.1", f"--secure-port={port}"),
        # The server's own endpoint would be refused: it may not be a loopback address.
        *("--service-cluster-ip-range=10.96.0.0/16", "--endpoint-reconciler-type=none"),
        *("--service-account-issuer=https://kubernetes.default.svc", *keys),
        # New nodes count as unready until a controller that we have not says otherwise.
        "--disable-admission-plugins=TaintNodesByCondition",
    ]


def _await_listener(folder: Path, etcd: subprocess.Popen[bytes]) -> None:
    """Returns as soon as etcd takes connections: the API server gives up on one that is late."""
    deadline = time.monotonic() + _WAIT_S
    while True:
        with socket.socket(socket.AF_UNIX) as client, contextlib.suppress(FileNotFoundError, ConnectionRefusedError):
            client.connect(str(folder / _ETCD))
            return
        if etcd.poll() is not None or time.monotonic() > deadline:
            raise AssertionError(f"etcd did not start:\n{_log_of(folder, 'etcd')}")
        time.sleep(0.1)


def _is_ready(cluster: Cluster, server: subprocess.Popen[bytes], *, may_fail: bool) -> bool:
    """Whether it serves; an early end is no failure where it ``may_fail``.

    It ends when somebody else took its port, and on a busy machine also when it is too slow for itself.
    """
    deadline = time.monotonic() + _WAIT_S
    while cluster.run("get", "--raw", "/readyz", "--request-timeout=10s").stdout != "ok":
        ended = server.poll() is not None
        if ended and may_fail:
            return False
        if ended or time.monotonic() > deadline:
            raise AssertionError(f"kube-apiserver did not start:\n{_log_of(cluster.folder, 'kube-apiserver')}")
        time.sleep(1)  # each look is a process
    return True


@contextlib.contextmanager
def _running(folder: Path, command: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    """A program in ``folder`` for the length of the block; its log is there too. It ends with the tests in any case."""
    program = find_program(command[0])
    assert program is not None, command[0]
    tied = tied_to_parent(program, command)
    with (folder / f"{Path(command[0]).name}.log").open("wb") as log:
        process = subprocess.Popen(tied, cwd=folder, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _log_of(folder: Path, program: str) -> str:
    """Its last words."""
    return (folder / f"{program}.log").read_text(errors="replace")[-3000:]


def ready_node(name: str, *, labels: dict[str, str] | None = None) -> Object:
    """A node of two cores and 4 GiB, as one that is well would tell of itself."""
    room = {"cpu": "2", "memory": "4Gi", "ephemeral-storage": "20Gi", "pods": "110"}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name, **(labels or {})}},
        "status": {"capacity": room, "allocatable": room, "conditions": [{"type": "Ready", "status": "True"}]},
    }


STORAGE_CLASS: Object = {
    "apiVersion": "storage.k8s.io/v1",
    "kind": "StorageClass",
    "metadata": {"name": "local", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
    "provisioner": "kubernetes.io/no-provisioner",
    "volumeBindingMode": "WaitForFirstConsumer",
}
"""The cluster's default, as K3s has one; volumes of it are made by hand."""


def volume(name: str) -> Object:
    """A volume of the default storage class, as K3s' ``local-path`` makes them on demand."""
    spec = {
        "capacity": {"storage": "5Gi"},
        "accessModes": ["ReadWriteOnce"],
        "storageClassName": STORAGE_CLASS["metadata"]["name"],
        "persistentVolumeReclaimPolicy": "Retain",
        "hostPath": {"path": "/none"},
    }
    return {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name}, "spec": spec}
