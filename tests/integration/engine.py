"""A real Docker engine for tests: the machine's own where one answers, else a private one that ends with the tests.

The private engine (root only) listens on a socket of its own, makes no bridge and no firewall rule, and keeps its
images in ``~/.cache/tierwise``, so that only the first run pays for the base image and the packages.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import shutil
import subprocess
import tempfile
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.network import insist

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tierwise"
PRIVATE_BASE = "tierwise-base"
_START_S = 60.0
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Container:
    """One container, running or ended."""

    engine: Engine
    id: str

    def inspect(self) -> dict[str, Any]:
        """What the engine knows of it."""
        return self.engine.inspect(self.id)

    def state(self) -> dict[str, Any]:
        """``Running``, ``ExitCode``, ``OOMKilled``, ``Health`` and more."""
        state: dict[str, Any] = self.inspect()["State"]
        return state

    def logs(self) -> str:
        """Both streams so far."""
        return self.engine.run("logs", self.id, both=True)

    def events(self, since: str) -> list[dict[str, Any]]:
        """What happened to it since an instant, up to the last whole second."""
        options = ("--since", since, "--until", "0s", "--filter", f"container={self.id}", "--format", "{{json .}}")
        return [json.loads(line) for line in self.engine.run("events", *options).splitlines()]

    def execute(self, *command: str, options: tuple[str, ...] = ()) -> str:
        """Runs a command inside; its output."""
        return self.engine.run("exec", *options, self.id, *command)

    def stop(self, *, grace_s: int = 10) -> float:
        """Stops it as Kubernetes does; returns the seconds that it took."""
        started = time.monotonic()
        self.engine.run("stop", "--time", str(grace_s), self.id)
        return time.monotonic() - started


@dataclass(frozen=True)
class Engine:
    """A Docker client that reaches a running engine. ``base`` is the base image that builds on it take."""

    client: str
    base: str
    env: Mapping[str, str] = field(default_factory=dict)

    def run(self, *arguments: str, timeout_s: float = 60.0, both: bool = False, check: bool = True) -> str:
        """Runs a Docker command; its output (with stderr where ``both``)."""
        done = subprocess.run(
            [self.client, *arguments],
            env={**os.environ, **self.env},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT if both else subprocess.PIPE,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        if check and done.returncode:
            raise AssertionError(f"docker {' '.join(arguments)}: {done.returncode}\n{done.stdout}\n{done.stderr}")
        return done.stdout

    def inspect(self, name: str) -> dict[str, Any]:
        """Facts of an image or container."""
        facts: dict[str, Any] = json.loads(self.run("inspect", name))[0]
        return facts

    def build(self, context: Path, *, target: str, tag: str) -> str:
        """Builds one target of ``docker/Dockerfile``; returns the tag."""
        file = str(context / "docker" / "Dockerfile")
        self.build_by("--file", file, "--target", target, "--tag", tag, *self.build_options, str(context))
        return tag

    def build_by(self, *arguments: str) -> None:
        """Builds an image; what was done before a package server went away is not done again."""
        insist(lambda: self.run("build", *arguments, timeout_s=900, both=True))

    @property
    def build_options(self) -> tuple[str, ...]:
        """What a build here needs. No bridge, no NAT: it reaches package servers through the machine's own network."""
        certificates = Path("/etc/ssl/certs/ca-certificates.crt")
        secret = ("--secret", f"id=ca,src={certificates}") if certificates.exists() else ()
        return ("--network", "host", "--build-arg", f"BASE_IMAGE={self.base}", *secret)

    @contextlib.contextmanager
    def container(self, image: str, *options: str, command: tuple[str, ...] = ()) -> Iterator[Container]:
        """Runs an image in the background on the machine's own network; it is gone after the block."""
        container_id = self.run("run", "--detach", "--network", "host", *options, image, *command).strip()
        try:
            yield Container(self, container_id)
        finally:
            self.run("rm", "--force", "--volumes", container_id)


def find_client() -> str | None:
    """A Docker client that can build with secrets: one with buildx, or one before 23 which has BuildKit built in."""
    for folder in os.get_exec_path():
        client = shutil.which("docker", path=folder)
        if client is None:
            continue
        version = subprocess.run([client, "--version"], capture_output=True, text=True, check=False).stdout
        major = version.removeprefix("Docker version ").partition(".")[0]
        buildx = subprocess.run([client, "buildx", "version"], capture_output=True, check=False)
        if buildx.returncode == 0 or (major.isdigit() and int(major) < 23):
            return client
    return None


@contextlib.contextmanager
def docker_engine() -> Iterator[Engine | str]:
    """The engine for tests, or in words why there is none."""
    client = find_client()
    if client is None:
        yield "a Docker client that can build (docker.io, or docker with buildx) is not installed"
        return
    missing = [name for name in ("dockerd", "debootstrap") if shutil.which(name) is None]
    can_make = os.geteuid() == 0 and not missing
    if subprocess.run([client, "info"], capture_output=True, check=False, timeout=30).returncode == 0:
        yield _with_base(client, can_make=can_make)
    elif can_make:
        with _private_engine(client) as engine:
            yield engine
    else:
        yield f"no Docker engine answers, and a private one needs root, dockerd and debootstrap (missing: {missing})"


def _with_base(client: str, *, can_make: bool) -> Engine | str:
    """The machine's own engine, with the base that it can pull, else with one that is made here."""
    env = {"DOCKER_BUILDKIT": "1"}
    base = os.environ.get("TIERWISE_TEST_BASE_IMAGE", "python:3.12-slim")
    for command in (("image", "inspect", base), ("pull", "--quiet", base)):
        if subprocess.run([client, *command], capture_output=True, check=False, timeout=600).returncode == 0:
            return Engine(client, base, env)
    if not can_make:
        return f"the Docker engine cannot pull {base}; TIERWISE_TEST_BASE_IMAGE names another"
    engine = Engine(client, f"{PRIVATE_BASE}:latest", env)
    if not engine.run("images", "--quiet", engine.base).strip():
        with tempfile.TemporaryDirectory(prefix="tierwise-base-") as folder:
            _import_base(engine, Path(folder) / "base")
    return engine


@contextlib.contextmanager
def _private_engine(client: str) -> Iterator[Engine]:
    CACHE.mkdir(parents=True, exist_ok=True)
    own = tempfile.TemporaryDirectory(prefix="tierwise-docker-", ignore_cleanup_errors=True)
    with own as name, (CACHE / "docker.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two engines must not share one data root
        folder = Path(name)
        socket = f"unix://{folder}/docker.sock"
        arguments = ["dockerd", "--data-root", str(CACHE / "docker"), "--exec-root", str(folder / "exec")]
        arguments += ["--pidfile", str(folder / "docker.pid"), "--host", socket, "--bridge", "none"]
        arguments += [f"--{name}=false" for name in ("iptables", "ip6tables", "ip-forward", "ip-masq")]
        log = folder / "dockerd.log"
        with log.open("wb") as output:
            daemon = subprocess.Popen(arguments, stdout=output, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            env = {"DOCKER_HOST": socket, "DOCKER_BUILDKIT": "1", "DOCKER_CONFIG": str(folder / "config")}
            engine = Engine(client, f"{PRIVATE_BASE}:latest", env)
            _await_start(engine, daemon, log)
            _remove_containers(engine)
            if not engine.run("images", "--quiet", engine.base).strip():
                _import_base(engine, folder / "base")
            yield engine
            _tidy(engine)
        finally:
            daemon.terminate()
            try:
                daemon.wait(timeout=30)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
            _unmount_below(folder)


def _unmount_below(folder: Path) -> None:
    """dockerd leaves its network namespace mounted, and then the folder cannot be removed.

    Lazily: what is still busy goes when its last user does.
    """
    mounted = [line.split(" ")[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    for path in reversed([path for path in mounted if path.startswith(f"{folder}/")]):
        done = subprocess.run(["umount", "--lazy", path], capture_output=True, text=True, check=False)
        if done.returncode:
            _log.warning("cannot unmount %s: %s", path, done.stderr)


def _tidy(engine: Engine) -> None:
    """Room for the next run. The tests are over: none fails because a busy disk takes minutes for it."""
    tasks = (("image", "prune", "--force"), ("builder", "prune", "--force", "--keep-storage", "3GB"))
    try:
        _remove_containers(engine)
        for task in tasks:
            engine.run(*task, timeout_s=300)
    except (AssertionError, subprocess.TimeoutExpired) as error:
        _log.warning("not tidied up, the next run will: %s", error)


def _await_start(engine: Engine, daemon: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _START_S
    while "Server Version" not in engine.run("info", check=False):
        if daemon.poll() is not None or time.monotonic() > deadline:
            raise AssertionError(f"dockerd did not start:\n{log.read_text(errors='replace')[-3000:]}")
        with contextlib.suppress(subprocess.TimeoutExpired):  # it runs, and does not answer yet
            daemon.wait(timeout=0.1)


def _remove_containers(engine: Engine) -> None:
    """An earlier run that was killed may have left some in the data root."""
    left = engine.run("ps", "--all", "--quiet").split()
    if left:
        engine.run("rm", "--force", "--volumes", *left)


def _import_base(engine: Engine, folder: Path) -> None:
    """Debian with Python, made here: no image can be pulled without a registry."""
    release = dict(line.partition("=")[::2] for line in Path("/etc/os-release").read_text().splitlines())
    root = insist(lambda: _bootstrap(release["VERSION_CODENAME"], folder))
    for downloaded in (root / "var/cache/apt/archives").glob("*.deb"):
        downloaded.unlink()
    for part in ("usr/share/doc", "usr/share/man", "usr/share/locale", "var/lib/apt/lists"):
        shutil.rmtree(root / part)
    with subprocess.Popen(["tar", "--directory", str(root), "--create", "."], stdout=subprocess.PIPE) as archive:
        subprocess.run(
            [engine.client, "import", "-", engine.base],
            stdin=archive.stdout,
            env={**os.environ, **engine.env},
            check=True,
            capture_output=True,
            timeout=300,
        )
    shutil.rmtree(root)


def _bootstrap(codename: str, folder: Path) -> Path:
    """Debian in a new folder below ``folder``: debootstrap does not go on where an earlier try stopped."""
    root = folder / uuid.uuid4().hex
    packages = "python3,python3-venv,ca-certificates"
    arguments = ["debootstrap", "--variant=minbase", f"--include={packages}", codename, str(root)]
    made = subprocess.run(arguments, capture_output=True, text=True, check=False, timeout=900)
    if made.returncode:
        raise AssertionError(f"debootstrap failed:\n{made.stdout[-3000:]}{made.stderr[-1000:]}")
    return root
