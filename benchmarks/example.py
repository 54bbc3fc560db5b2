"""The model that the benchmarks serve, and one sample of it."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

MODEL = "anomaly-detector"


def model_folder() -> Path:
    """Folder of the model; created once and kept in ``models/`` of the checkout."""
    folder = Path(__file__).parent.parent / "models" / MODEL
    if not (folder / "model.yaml").exists():
        from tierwise.models.create import create_model  # noqa: PLC0415 -- needs torch; not on later runs
        from tierwise.runtimes import load_runtime  # noqa: PLC0415

        create_model(MODEL, folder, load=load_runtime)
    return folder


def onnx_file() -> Path:
    """The ONNX artifact."""
    from tierwise.models.card import load_card  # noqa: PLC0415 -- as above

    folder = model_folder()
    return folder / load_card(folder).artifact_for("onnx").file


def sample() -> list[float]:
    """32 features as a sensor has them: few digits."""
    return [round(value, 4) for value in np.random.default_rng(7).normal(size=32).tolist()]


def scratch() -> tempfile.TemporaryDirectory[str]:
    """A folder that goes away."""
    return tempfile.TemporaryDirectory(prefix="tierwise-bench-")
