"""Held-out samples of a model, as a sensor sends them."""

from __future__ import annotations

import zipfile
from typing import TYPE_CHECKING

import numpy as np

from tierwise.core.errors import ModelError, ModelFileError
from tierwise.live.sensor import Sample

if TYPE_CHECKING:
    from pathlib import Path

    from tierwise.models.card import ModelCard


def held_out_samples(card: ModelCard, folder: Path, *, count: int, seed: int) -> list[Sample]:
    """``count`` samples in an order that the seed fixes; where there are fewer, they come around again.

    Raises ``ModelFileError`` where the samples that the card names cannot be read and ``ModelError`` where it names
    none, or where features and labels do not fit together.
    """
    if card.samples is None:
        raise ModelError(f"model {card.name} {card.version} has no held-out samples (samples: in its model.yaml)")
    file = folder / card.samples
    try:
        # numpy leaves a file open that turns out to be no archive.
        with file.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
            features, labels = archive["features"], archive["labels"]
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise ModelFileError(f"cannot read the samples in {file}: {error}") from error
    if not len(features) or len(features) != len(labels):
        raise ModelError(f"{file}: {len(features)} samples and {len(labels)} labels")
    order = np.random.default_rng(seed).permutation(len(features))
    chosen = (int(order[number % len(order)]) for number in range(count))
    return [
        Sample(f"{number:05d}-sample-{index}", features[index], _name(card, int(labels[index])))
        for number, index in enumerate(chosen)
    ]


def _name(card: ModelCard, index: int) -> str:
    if not 0 <= index < len(card.labels):
        raise ModelError(f"model {card.name}: a sample has the label {index}, the card names {len(card.labels)} labels")
    return card.labels[index]
