"""What each model answers to each sample: the real model on the real samples, run once before the simulation."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tierwise.core.errors import ConfigurationError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from tierwise.core.runtime import Runtime
    from tierwise.scenario.parts import Dataset, Model
    from tierwise.scenario.schema import Scenario

_BATCH = 1024


@dataclass(frozen=True)
class Answers:
    """Of one artifact to all samples of a data set, in its order."""

    predictions: NDArray[np.float64]
    """Raw outputs, one row a sample."""
    labels: NDArray[np.int64]
    """Classes that the outputs stand for."""
    confidences: NDArray[np.float64]
    """How sure the model is, 0 to 1."""
    truth: NDArray[np.int64]
    """Classes that the samples are."""


def compute_answers(scenario: Scenario) -> dict[tuple[str, str], Answers]:
    """Runs every artifact of the models that have data. Empty where no model has.

    Raises ``ConfigurationError`` for data that cannot be read and ``ModelError`` for artifacts that cannot be run.
    """
    found = {}
    for name, model in scenario.models.items():
        if model.data is None:
            continue
        features, truth = read_samples(model.data)
        for tier in ("device", "edge", "cloud"):
            artifact = getattr(model, tier)
            if artifact is not None and artifact.artifact is not None:
                found[name, tier] = run_model(artifact.artifact, artifact.runtime, model, features, truth)
    return found


def read_samples(data: Dataset) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Features (samples first) and classes from a ``.npz`` file. Raises ``ConfigurationError``."""
    try:
        with np.load(data.file, allow_pickle=False) as file:
            missing = {data.features, data.labels} - set(file.files)
            if missing:
                known = ", ".join(file.files)
                raise ConfigurationError(f"{data.file} has no {', '.join(sorted(missing))} (it has: {known})")
            features, truth = file[data.features], file[data.labels]
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise ConfigurationError(f"cannot read the samples {data.file}: {error}") from error
    truth = truth.reshape(-1)
    if len(features) != len(truth) or not len(truth):
        raise ConfigurationError(f"{data.file}: {len(features)} samples and {len(truth)} labels")
    whole = truth.astype(np.int64)
    if (whole != truth).any() or (whole < 0).any():
        raise ConfigurationError(f"{data.file}: {data.labels} must be classes 0, 1, …")
    return features.astype(np.float32), whole


def run_model(
    path: Path, runtime: str | None, model: Model, features: NDArray[np.float32], truth: NDArray[np.int64]
) -> Answers:
    """Runs one artifact on all samples."""
    from tierwise.runtimes.loading import load_runtime  # noqa: PLC0415 -- runtimes' libraries are heavy

    loaded = load_runtime(path, runtime=runtime)
    try:
        outputs = [_outputs(loaded, features[first : first + _BATCH]) for first in range(0, len(features), _BATCH)]
    finally:
        loaded.close()
    predictions = np.concatenate(outputs).astype(np.float64)
    labels, confidences = classes(predictions, model.threshold)
    return Answers(predictions, labels, confidences, truth)


def _outputs(loaded: Runtime, batch: NDArray[np.float32]) -> NDArray[np.float32]:
    spec = loaded.signature.inputs[0]
    shape = tuple(-1 if size is None else size for size in spec.sample_shape)
    try:
        shaped = np.ascontiguousarray(batch.reshape(len(batch), *shape))
    except ValueError as error:
        raise ConfigurationError(f"samples of shape {batch.shape[1:]} do not fit the model's input {spec}") from error
    outputs = np.asarray(loaded.run({spec.name: shaped})[0])
    return outputs.reshape(len(batch), -1)


def classes(predictions: NDArray[np.float64], threshold: float) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Labels and confidences: of one probability by the threshold, of several scores by the largest.

    The confidence of a probability p is how far it is from the threshold, 0 at the threshold and 1 at 0 or 1; of
    scores it is the largest one's probability (softmax unless they are probabilities already).
    """
    if predictions.shape[1] == 1:
        p = np.clip(predictions[:, 0], 0.0, 1.0)
        labels = (p >= threshold).astype(np.int64)
        above, below = max(1e-12, 1.0 - threshold), max(1e-12, threshold)
        return labels, np.where(labels == 1, (p - threshold) / above, (threshold - p) / below)
    labels = predictions.argmax(axis=1)
    probable = bool((predictions >= 0).all()) and bool(np.allclose(predictions.sum(axis=1), 1.0, atol=1e-2))
    if not probable:
        shifted = np.exp(predictions - predictions.max(axis=1, keepdims=True))
        predictions = shifted / shifted.sum(axis=1, keepdims=True)
    return labels, predictions.max(axis=1)
