"""The models that tierwise can create: what they are called, where their data comes from, how they are trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tierwise.models.bearing import labelled_recordings
from tierwise.models.card import DataSource

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Dataset:
    """Labelled samples (features float32, batch first; labels int64), split into training and held-out ones."""

    training: tuple[NDArray[np.float32], NDArray[np.int64]]
    held_out: tuple[NDArray[np.float32], NDArray[np.int64]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How one model is made. ``architecture`` is its name in ``tierwise.architectures`` too."""

    name: str
    version: str
    task: str
    description: str
    labels: tuple[str, ...]
    threshold: float | None
    architecture: str
    """``module:function`` that builds the untrained module, whose class has a ``signature``."""
    data: DataSource
    dataset: Callable[[int], Dataset]
    """The data for a seed."""
    epochs: int
    batch_size: int = 64
    learning_rate: float = 0.01
    int8_error_bound: float
    """What the int8 artifact may differ from the float model in any output value on held-out data."""


def _bearing(seed: int) -> Dataset:
    features, labels = labelled_recordings(6000, seed)
    return Dataset((features[:4000], labels[:4000]), (features[4000:], labels[4000:]))


def _digits(seed: int) -> Dataset:
    """A fifth of every class is held out."""
    from sklearn.datasets import load_digits  # noqa: PLC0415  only who trains has scikit-learn

    bunch = load_digits()
    images = (bunch.images / 16.0).astype(np.float32)[..., None]
    labels = bunch.target.astype(np.int64)
    order = np.random.default_rng(seed).permutation(len(labels))
    rank = np.empty(len(labels))
    for digit in range(10):
        members = order[labels[order] == digit]
        rank[members] = np.arange(len(members)) / len(members)
    test = rank[order] < 0.2  # noqa: PLR2004  the share that is held out
    training, held_out = order[~test], order[test]
    return Dataset((images[training], labels[training]), (images[held_out], labels[held_out]))


_RECIPES = (
    Recipe(
        name="anomaly-detector",
        version="1.0.0",
        task="binary-classification",
        description="Tells a faulty rolling bearing from a healthy one by 32 band energies of its vibration.",
        labels=("normal", "faulty"),
        threshold=0.5,
        architecture="tierwise.models.anomaly_detector:build",
        data=DataSource(
            name="simulated bearing vibration",
            source="tierwise.models.bearing, after Randall & Antoni, Mech. Syst. Signal Process. 25 (2011) 485-520",
            seed=20251115,
        ),
        dataset=_bearing,
        epochs=30,
        batch_size=128,
        int8_error_bound=0.1,
    ),
    Recipe(
        name="digits",
        version="1.0.0",
        task="multiclass-classification",
        description="Reads a handwritten digit in an 8x8 grey image (0 paper, 1 ink).",
        labels=tuple("0123456789"),
        threshold=None,
        architecture="tierwise.models.digits:build",
        data=DataSource(
            name="UCI Optical Recognition of Handwritten Digits (test part, as in scikit-learn)",
            source="E. Alpaydin & C. Kaynak, UCI Machine Learning Repository, 1998, doi:10.24432/C50P49",
            license="CC BY 4.0",
            seed=20251115,
        ),
        dataset=_digits,
        epochs=30,
        int8_error_bound=0.1,
    ),
)

RECIPES = {recipe.name: recipe for recipe in _RECIPES}
