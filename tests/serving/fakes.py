"""A model made of a Python function, for tests of what happens around the model."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from tierwise.core.tensors import Signature, TensorSpec
from tierwise.serving.model import ServedModel

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray


class FunctionRuntime:
    """Runs ``function`` on the one input, float32[?, 4] → float32[?, 1]."""

    name = "function"

    def __init__(self, function: Callable[[NDArray[Any]], NDArray[Any]]) -> None:
        self.signature = Signature(
            inputs=(TensorSpec(name="features", shape=(None, 4), dtype="float32"),),
            outputs=(TensorSpec(name="sum", shape=(None, 1), dtype="float32"),),
        )
        self.closed = False
        self._function = function

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> Sequence[NDArray[Any]]:
        return [self._function(inputs["features"])]

    def close(self) -> None:
        self.closed = True


def row_sums(features: NDArray[Any]) -> NDArray[Any]:
    """Sum of each sample, float32[n, 1]."""
    total: NDArray[Any] = features.sum(axis=1, keepdims=True)
    return total


def held() -> tuple[ServedModel, threading.Event]:
    """A model that runs in a thread of its own, and answers nothing before the event is set."""
    may_finish = threading.Event()

    def wait(features: NDArray[Any]) -> NDArray[Any]:
        assert may_finish.wait(60)
        return row_sums(features)

    return served(wait, warm_s=1.0), may_finish


def served(function: Callable[[NDArray[Any]], NDArray[Any]] = row_sums, *, warm_s: float = 1e-6) -> ServedModel:
    """A served model named ``sum``, version 1, without a card."""
    return ServedModel(FunctionRuntime(function), name="sum", version="1", card=None, warm_s=warm_s)
