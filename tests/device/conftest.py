"""The MLPerf Tiny models, where they are at hand, built once a run."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.components import need

if TYPE_CHECKING:
    from collections.abc import Callable

    from tierwise.device.manifest import Build

_BESIDE = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "mlperf-tiny"


@pytest.fixture(scope="session")
def mlperf_tiny() -> Path:
    """Folder of the MLPerf Tiny reference models: ``TIERWISE_MLPERF_TINY``, or beside the checkout."""
    folder = Path(os.environ.get("TIERWISE_MLPERF_TINY", _BESIDE))
    if not folder.is_dir():
        pytest.skip(f"the MLPerf Tiny models are not in {folder} (set TIERWISE_MLPERF_TINY)")
    return folder


@pytest.fixture(scope="session")
def built(mlperf_tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., tuple[Path, Build]]:
    """Builds ``anomaly`` or ``keyword`` for a target, at most once a session."""
    from tierwise.device.build import Options, build  # noqa: PLC0415 - only where the models are

    done: dict[tuple[str, bool, bool | None], tuple[Path, Build]] = {}

    def get(name: str, *, host: bool = False, fast: bool | None = None) -> tuple[Path, Build]:
        key = (name, host, fast)
        if key not in done:
            need(program="cc" if host else "arm-none-eabi-gcc")
            folder = tmp_path_factory.mktemp(name) / "build"
            options = Options(host=host, fast=fast, flags=("-Werror",))
            done[key] = folder, build(mlperf_tiny / f"{name}_int8.tflite", folder, options)
        return done[key]

    return get
