"""From a prediction to the word for it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from tierwise.core.errors import InferenceError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from tierwise.core.messages import Prediction

# Once a request: a tuple is checked several times faster than a union.
_NUMBER = (float, int)
_PLAIN = (float, list, int, str)


def label_of(
    prediction: Prediction | NDArray[Any], labels: Sequence[str], threshold: float | None, *, model: str
) -> str | list[str] | None:
    """The label of a prediction, or a list of them for a batch; ``None`` where there are no labels.

    A model with a threshold yields one value a sample: a number, or for a batch a list of numbers (or of one-element
    lists). Any other model with labels yields one score a class: a list, or for a batch a list of lists; the first of
    equal largest scores wins. Raises ``InferenceError`` for anything else, NaN among it.
    """
    values = prediction if isinstance(prediction, _PLAIN) else prediction.tolist()
    try:
        if threshold is not None:
            names = labels or ("negative", "positive")
            if isinstance(values, list):
                return [names[_is_above(value, threshold)] for value in values]
            return names[_is_above(values, threshold)]
        if not labels:
            return None
        if isinstance(values, list) and (not values or isinstance(values[0], list)):
            return [_largest(scores, labels) for scores in values]
        return _largest(values, labels)
    except (TypeError, ValueError) as error:
        raise InferenceError(f"model {model}: cannot label {prediction!r:.200}: {error}") from error


def _is_above(value: Prediction, threshold: float) -> bool:
    if isinstance(value, list):
        [value] = value
    if not isinstance(value, _NUMBER) or math.isnan(value):
        raise ValueError("it must be a number")
    return value >= threshold


def _largest(scores: Prediction, labels: Sequence[str]) -> str:
    if not isinstance(scores, list) or len(scores) != len(labels):
        raise ValueError(f"it must be {len(labels)} scores")
    if math.isnan(sum(scores)):  # one NaN makes the sum one; what is no number cannot be added
        raise ValueError("it must be numbers")
    return labels[scores.index(max(scores))]
