"""What every runtime does alike: refuse what does not fit, run what does, and close."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from tests.runtimes.conftest import SUFFIXES

from tierwise.core.errors import InferenceError, InvalidInputError
from tierwise.runtimes import load_runtime, warm_up

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from tierwise.core.runtime import Runtime


@pytest.fixture(params=[*SUFFIXES, "int8", "tflm"])
def runtime(request: pytest.FixtureRequest, artifacts: Mapping[str, Path]) -> Iterator[Runtime]:
    """The anomaly detector on each runtime in turn."""
    micro = request.param == "tflm"
    loaded = load_runtime(artifacts["int8" if micro else request.param], runtime="tflm" if micro else None)
    yield loaded
    loaded.close()


@pytest.mark.parametrize("shape", [(1, 31), (32,), (1, 1, 32), (1, 33), ()])
def test_a_wrong_shape_is_refused_and_the_model_still_runs(runtime: Runtime, shape: tuple[int, ...]) -> None:
    with pytest.raises(InvalidInputError, match=r"features: expected (int8|float32)") as caught:
        runtime.run({"features": np.zeros(shape, np.float32)})
    assert str(list(shape)) in str(caught.value)
    assert runtime.run({"features": np.zeros((2, 32), np.float32)})[0].shape == (2, 1)


def test_an_empty_batch_is_refused_or_gives_an_empty_answer(runtime: Runtime) -> None:
    empty = {"features": np.zeros((0, 32), np.float32)}
    if runtime.name == "onnx":
        assert runtime.run(empty)[0].shape == (0, 1)
    else:
        with pytest.raises(InvalidInputError, match=r"got shape \[0, 32\]"):
            runtime.run(empty)


@pytest.mark.parametrize("dtype", [np.float64, np.int64, np.bool_, np.float16])
def test_a_wrong_dtype_is_refused(runtime: Runtime, dtype: type) -> None:
    runtime.run({"features": np.zeros((1, 32), np.float32)})
    with pytest.raises(InvalidInputError, match=f"features: expected float32 .*got {np.dtype(dtype)}"):
        runtime.run({"features": np.zeros((1, 32), dtype)})


def test_a_wrong_name_is_refused(runtime: Runtime) -> None:
    with pytest.raises(InvalidInputError, match="expected the inputs features, got x"):
        runtime.run({"x": np.zeros((1, 32), np.float32)})
    with pytest.raises(InvalidInputError, match="expected the inputs features, got none"):
        runtime.run({})


def test_memory_of_a_request_may_be_read_only(runtime: Runtime, samples: NDArray[np.float32]) -> None:
    payload = np.frombuffer(samples[:2].tobytes(), np.float32).reshape(2, 32)
    assert not payload.flags.writeable
    np.testing.assert_array_equal(runtime.run({"features": payload})[0], runtime.run({"features": samples[:2]})[0])


def test_answers_keep_their_values_after_the_next_call(runtime: Runtime, samples: NDArray[np.float32]) -> None:
    first = runtime.run({"features": samples[:1]})[0]
    kept = first.copy()
    runtime.run({"features": samples[5:6] + 1})
    np.testing.assert_array_equal(first, kept)


def test_a_closed_model_is_an_error_and_closing_twice_is_none(runtime: Runtime) -> None:
    runtime.close()
    runtime.close()
    with pytest.raises(InferenceError, match="the model is closed"):
        runtime.run({"features": np.zeros((1, 32), np.float32)})


def test_warming_up_tells_the_time_of_a_call(runtime: Runtime) -> None:
    assert 0 < warm_up(runtime, runs=3) < 1


def test_two_models_of_one_file_are_independent(artifacts: Mapping[str, Path], samples: NDArray[np.float32]) -> None:
    one, other = load_runtime(artifacts[".onnx"]), load_runtime(artifacts[".onnx"])
    one.close()
    assert other.run({"features": samples[:1]})[0].shape == (1, 1)
