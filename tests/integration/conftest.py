"""Real servers: a Docker engine with the images of this tree, each started once a session."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.components import missing
from tests.integration.engine import docker_engine

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.integration.engine import Engine

ROOT = Path(__file__).parents[2]
BUILD_CONTEXT = ("pyproject.toml", "README.md", "LICENSE", "src", "docker", "kubernetes", "monitoring")


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    """A running Docker engine."""
    with docker_engine() as found:
        if isinstance(found, str):
            missing(found)
        else:
            yield found


@pytest.fixture(scope="session")
def build_context(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the images are built from, with the wheel of PyTorch where pip finds its CPU build on this machine."""
    context = tmp_path_factory.mktemp("context")
    for name in BUILD_CONTEXT:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, context / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, context / name)
    return context


@pytest.fixture(scope="session")
def edge_image(engine: Engine, build_context: Path) -> str:
    """The image of the edge tier."""
    return engine.build(build_context, target="edge", tag="tierwise-test:edge")


@pytest.fixture(scope="session")
def cloud_image(engine: Engine, build_context: Path) -> str:
    """The image of the cloud tier."""
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-index", "--no-deps", "--only-binary", ":all:"]
    lock = str(build_context / "docker" / "requirements-torch.lock")
    wheels = str(build_context / "wheels")
    found = subprocess.run([*pip, "--require-hashes", "--dest", wheels, "-r", lock], capture_output=True, check=False)
    if found.returncode:
        missing("pip finds no wheel of PyTorch's CPU build by itself (find-links)")
    return engine.build(build_context, target="cloud", tag="tierwise-test:cloud")


@pytest.fixture
def readable_model(anomaly_detector: Path) -> Path:
    """A model's folder as a volume: readable for the container's user, who is nobody on this machine."""
    for path in (anomaly_detector, *anomaly_detector.iterdir()):
        path.chmod(path.stat().st_mode | 0o555)
    return anomaly_detector
