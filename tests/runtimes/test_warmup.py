"""Warming up: inputs of the right form, the time of a call, and an end to it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tierwise.core.errors import InferenceError
from tierwise.core.tensors import Signature, TensorSpec
from tierwise.runtimes import warmup
from tierwise.runtimes.warmup import warm_up, zeros

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray


class Recorder:
    """A runtime that keeps what it was given."""

    name = "recorder"

    def __init__(self, signature: Signature, act: Callable[[int, Mapping[str, NDArray[Any]]], None]) -> None:
        self.signature = signature
        self.seen: list[Mapping[str, NDArray[Any]]] = []
        self._act = act

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> Sequence[NDArray[Any]]:
        self.seen.append(inputs)
        self._act(len(self.seen), inputs)
        return []

    def close(self) -> None:
        raise AssertionError("nobody asked for that")


PLAIN = Signature((TensorSpec("x", (None, 4), "float32"),), ())
FREE = Signature((TensorSpec("x", (None, None, 3), "float32"),), ())


class Clock:
    """Time that passes only when the model says so."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def perf_counter(self) -> float:
        return self.now_s

    def spend(self, seconds: float) -> None:
        self.now_s += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock that warming up reads."""
    clock = Clock()
    monkeypatch.setattr(warmup, "time", SimpleNamespace(perf_counter=clock.perf_counter))
    return clock


def test_zeros_have_the_form_that_the_runtime_takes() -> None:
    signature = Signature(
        (
            TensorSpec("plain", (None, 4), "float32"),
            TensorSpec("fixed", (1, 2), "int64"),
            TensorSpec("quantised", (None, 3), "int8", scale=0.5, zero_point=1),
            TensorSpec("free", (None, None, 3), "float64"),
            TensorSpec("scalar", (), "float32"),
        ),
        (),
    )
    inputs = zeros(signature, batch=2, free=7)
    assert {name: (values.shape, str(values.dtype)) for name, values in inputs.items()} == {
        "plain": ((2, 4), "float32"),
        "fixed": ((1, 2), "int64"),
        "quantised": ((2, 3), "float32"),
        "free": ((2, 7, 3), "float64"),
        "scalar": ((), "float32"),
    }
    assert not any(values.any() for values in inputs.values())


def test_the_median_of_warm_calls_is_told_and_the_cold_one_is_not_counted(clock: Clock) -> None:
    runtime = Recorder(PLAIN, lambda count, _: clock.spend({1: 0.2, 3: 0.05}.get(count, 0.001)))
    assert warm_up(runtime, runs=5) == pytest.approx(0.001)
    assert len(runtime.seen) == 6
    assert runtime.seen[0]["x"].shape == (1, 4)


def test_a_slow_model_is_not_run_again_and_again(clock: Clock) -> None:
    runtime = Recorder(PLAIN, lambda *_: clock.spend(0.3))
    assert warm_up(runtime, runs=100) == pytest.approx(0.3)
    assert len(runtime.seen) == 3  # one cold, two until half a second had passed


def test_free_dimensions_grow_until_the_model_runs() -> None:
    def at_least_20(_: int, inputs: Mapping[str, NDArray[Any]]) -> None:
        if inputs["x"].shape[1] < 20:
            raise InferenceError("too short")

    runtime = Recorder(FREE, at_least_20)
    warm_up(runtime, runs=1)
    assert [inputs["x"].shape for inputs in runtime.seen] == [(1, 1, 3), (1, 32, 3), (1, 32, 3)]


@pytest.mark.parametrize(("signature", "tries"), [(PLAIN, 1), (FREE, 3)])
def test_a_model_that_never_runs_is_told(signature: Signature, tries: int) -> None:
    def fail(*_: object) -> None:
        raise InferenceError("no")

    runtime = Recorder(signature, fail)
    with pytest.raises(InferenceError, match="no"):
        warm_up(runtime)
    assert len(runtime.seen) == tries


def test_zeros_are_what_it_is_given() -> None:
    runtime = Recorder(PLAIN, lambda *_: None)
    warm_up(runtime, runs=1)
    assert all(np.count_nonzero(inputs["x"]) == 0 for inputs in runtime.seen)
