"""The samples of a run, as a sensor sends them: given, held out by the model's card, or made up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from tierwise.core.errors import InvalidInputError, ModelError
from tierwise.live.sensor import Sample
from tierwise.models.samples import Samples, class_indices, load_samples
from tierwise.runtimes.example import random_samples
from tierwise.runtimes.inputs import to_inputs

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from tierwise.models.card import ModelCard

_MADE_UP = 256
"""Different random samples; a longer run sends them again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """The samples of a run and what they are, in words: a figure on random numbers says nothing about quality."""

    samples: list[Sample]
    kind: Literal["held-out", "given", "random"]
    has_truth: bool


def choose_samples(card: ModelCard, folder: Path, given: Samples | None, *, count: int, seed: int) -> Chosen:
    """``count`` samples: those ``given``, else those of the card, else random ones of the model's signature.

    Their order is the seed's; where there are fewer, they come around again. Raises ``ModelFileError`` where the
    samples that the card names cannot be read and ``ModelError`` where they do not fit the model, or features and
    labels not each other.
    """
    kind: Literal["held-out", "given", "random"] = "held-out"
    if given is not None:
        samples, kind = given, "given"
    elif card.samples is not None:
        samples = load_samples(folder / card.samples)
    else:
        samples, kind = Samples(random_samples(card.signature, min(count, _MADE_UP), seed=seed)), "random"
    try:
        truth = class_indices(samples, card.labels) if card.labels else None
    except ModelError as error:
        raise ModelError(f"model {card.name}: {error}") from error
    _check(card, samples, source="--samples" if given is not None else str(card.samples))
    order = np.random.default_rng(seed).permutation(len(samples))
    chosen = (int(order[number % len(order)]) for number in range(count))
    return Chosen(
        samples=[
            Sample(
                f"{number:05d}-sample-{index}",
                _one(samples.features, index),
                None if truth is None else card.labels[truth[index]],
            )
            for number, index in enumerate(chosen)
        ],
        kind=kind,
        has_truth=truth is not None,
    )


def _check(card: ModelCard, samples: Samples, *, source: str) -> None:
    """As every service would, but before one is started. Raises ``ModelError`` naming the first that does not fit."""
    for index in range(len(samples)):
        try:
            to_inputs(_one(samples.features, index), card.signature)
        except InvalidInputError as error:
            raise ModelError(f"{source}: sample {index + 1} does not fit the model {card.name}: {error}") from error


def _one(features: NDArray[Any] | Mapping[str, NDArray[Any]], index: int) -> NDArray[Any] | dict[str, NDArray[Any]]:
    if isinstance(features, Mapping):
        return {name: array[index] for name, array in features.items()}
    sample: NDArray[Any] = features[index]
    return sample
