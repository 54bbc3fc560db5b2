"""Fixtures that several folders of tests share."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import hypothesis
import pytest

from tests.components import need
from tierwise.live.broker import private_broker

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tierwise.live.broker import PrivateBroker

# The same examples in every run, and no judgement by the clock: a loaded machine must not fail a test.
hypothesis.settings.register_profile(
    "tierwise",
    deadline=None,
    derandomize=True,
    suppress_health_check=[hypothesis.HealthCheck.too_slow, hypothesis.HealthCheck.function_scoped_fixture],
)
hypothesis.settings.load_profile("tierwise")

# A shell starts what it puts into the background with Ctrl-C ignored, and programs inherit that: tests of Ctrl-C would
# wait for ever.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

TRAINING_PACKAGES = ("torch", "safetensors", "onnx", "onnxruntime", "ai_edge_litert", "ai_edge_quantizer", "sklearn")


@pytest.fixture(scope="session")
def anomaly_detector(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the model ``anomaly-detector`` with its card, artifacts and samples."""
    return _created("anomaly-detector", tmp_path_factory)


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the model ``digits`` with its card, artifacts and samples."""
    return _created("digits", tmp_path_factory)


@pytest.fixture
async def broker() -> AsyncIterator[PrivateBroker]:
    """A real mosquitto of its own for the test."""
    need(program="mosquitto")
    async with private_broker("mosquitto") as running:
        yield running


def _created(name: str, factory: pytest.TempPathFactory) -> Path:
    for package in TRAINING_PACKAGES:
        need(package=package)
    from tierwise.models.create import create_model  # noqa: PLC0415  needs the training extra
    from tierwise.runtimes import load_runtime  # noqa: PLC0415  so that it fails here, not at collection

    folder = factory.mktemp("models") / name
    create_model(name, folder, load=load_runtime)
    return folder
