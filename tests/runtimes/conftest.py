"""Artifacts of the example models, and files of them with something wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

SUFFIXES = (".onnx", ".tflite", ".pt", ".pth", ".pt2", ".safetensors")


@pytest.fixture(scope="session")
def artifacts(anomaly_detector: Path, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """The anomaly detector's files by suffix, with ``.pth`` beside ``.pt``, and ``int8`` for the quantised one."""
    files = {path.suffix: path for path in anomaly_detector.glob("anomaly-detector.*")}
    pth = tmp_path_factory.mktemp("checkpoint") / "anomaly-detector.pth"
    pth.write_bytes(files[".pt"].read_bytes())
    return files | {".pth": pth, "int8": anomaly_detector / "anomaly-detector-int8.tflite"}


@pytest.fixture(scope="session")
def samples(anomaly_detector: Path) -> NDArray[np.float32]:
    """Held-out samples of the anomaly detector, float32 [n, 32]."""
    with np.load(anomaly_detector / "samples.npz") as archive:
        features: NDArray[np.float32] = archive["features"]
    return features
