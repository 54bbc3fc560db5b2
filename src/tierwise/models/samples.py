"""Samples of a model: features, and what they really are where somebody knows it. As ``.npz`` beside its card."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from tierwise.core.errors import ModelError, ModelFileError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    Features = NDArray[Any] | Mapping[str, NDArray[Any]]

FEATURES, LABELS = "features", "labels"


@dataclass(frozen=True, slots=True, eq=False)
class Samples:
    """``features`` [n, ...], or one such array for each named input; ``labels`` [n]: class indices or their names."""

    features: Features
    labels: NDArray[Any] | None = None

    def __len__(self) -> int:
        arrays = self.features.values() if isinstance(self.features, Mapping) else (self.features,)
        return len(next(iter(arrays)))

    @property
    def array(self) -> NDArray[Any]:
        """The features of a model with one input. Raises ``ModelError`` where they are named."""
        if isinstance(self.features, Mapping):
            raise ModelError(f"expected the samples of one input, got {', '.join(self.features)}")
        return self.features


def load_samples(file: Path) -> Samples:
    """Reads an ``.npz`` file. Raises ``ModelFileError`` where that fails, and what ``read_npz`` raises."""
    try:
        with file.open("rb") as stream:
            return read_npz(stream, str(file))
    except OSError as error:
        raise ModelFileError(f"cannot read the samples in {file}: {error.strerror or error}") from error


def read_npz(stream: BinaryIO, name: str) -> Samples:
    """The archive's ``features`` and, where they are in it, its ``labels``. ``name`` is for messages.

    Raises ``ModelFileError`` where it is no such archive, ``ModelError`` where the two do not fit together.
    """
    try:
        with np.load(stream, allow_pickle=False) as archive:
            samples = Samples(archive[FEATURES], archive.get(LABELS))
    except (KeyError, ValueError, TypeError, AttributeError, EOFError, zipfile.BadZipFile) as error:
        raise ModelFileError(
            f"cannot read the samples in {name}: {str(error).splitlines()[0]}; expected an .npz with {FEATURES}"
        ) from error
    count = len(samples)
    labels = count if samples.labels is None else len(samples.labels)
    if not count or count != labels:
        raise ModelError(f"{name}: {count} samples and {labels} labels")
    return samples


def write_npz(samples: Samples, file: Path) -> None:
    """Raises ``ModelError`` for named inputs, which the form does not know, ``ModelFileError`` where writing fails."""
    arrays = {FEATURES: samples.array} | ({} if samples.labels is None else {LABELS: samples.labels})
    try:
        np.savez(file, allow_pickle=False, **arrays)
    except OSError as error:
        raise ModelFileError(f"cannot write {file}: {error.strerror}") from error


def class_indices(samples: Samples, names: Sequence[str]) -> NDArray[np.int64] | None:
    """The labels as indices into ``names``; ``None`` without any. Raises ``ModelError`` for one that is not there."""
    labels = samples.labels
    if labels is None:
        return None
    if labels.dtype.kind in "iu" or (labels.dtype.kind == "f" and bool((labels == np.trunc(labels)).all())):
        indices: NDArray[np.int64] = labels.astype(np.int64)
        strangers = indices[(indices < 0) | (indices >= len(names))]
        if strangers.size:
            raise ModelError(f"a sample has the label {strangers[0]}, the model has {len(names)} labels")
        return indices
    place = {name: index for index, name in enumerate(names)}
    words = [str(label) for label in labels]
    if unknown := sorted(set(words) - set(place)):
        raise ModelError(f"a sample has the label {unknown[0]!r}, the model's are {', '.join(names) or 'not named'}")
    return np.array([place[word] for word in words], np.int64)
