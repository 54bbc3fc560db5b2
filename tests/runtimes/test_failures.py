"""The reason of a failed call, and libraries' messages on one line."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tierwise.core.errors import InferenceError, InvalidInputError
from tierwise.core.tensors import Signature, TensorSpec
from tierwise.runtimes.failures import explain, misfit
from tierwise.runtimes.files import one_line, shortened

TWO = Signature(
    (TensorSpec("a", (None, 2), "float32"), TensorSpec("b", (1, None), "int8", scale=0.5, zero_point=0)), ()
)


def inputs(a: Any = (3, 2), b: Any = (3, 7), b_dtype: str = "float32") -> dict[str, Any]:
    """Both inputs with these shapes."""
    return {"a": np.zeros(a, np.float32), "b": np.zeros(b, b_dtype)}


@pytest.mark.parametrize("b_dtype", ["float32", "int8"])
def test_what_fits(b_dtype: str) -> None:
    assert misfit(TWO, inputs(b_dtype=b_dtype)) is None


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"a": np.zeros((1, 2))}, "expected the inputs a, b, got a"),
        (inputs(a=(3, 3)), "a: expected float32[?, 2], got shape [3, 3]"),
        (inputs(a=(2,)), "a: expected float32[?, 2], got shape [2]"),
        (inputs(b_dtype="uint8"), "b: expected float32 (int8[1, ?]), got uint8"),
        (inputs(b=(2, 7)), "the inputs must be batches of one size, got [2, 3]"),
        ({"a": np.zeros((3, 2), np.float32), "b": [1]}, "b: expected an array, got list"),
    ],
)
def test_what_does_not_fit_is_the_inputs_fault(given: dict[str, Any], message: str) -> None:
    error = explain(TWO, given, RuntimeError("some library's words"))
    assert isinstance(error, InvalidInputError)
    assert str(error) == message


def test_what_fits_and_fails_is_the_executions_fault() -> None:
    error = explain(TWO, inputs(), RuntimeError("\n\n  out of\tmemory \nFile 3, line 5\n"))
    assert isinstance(error, InferenceError)
    assert str(error) == "the model failed on this input: out of memory"


def test_one_line() -> None:
    assert one_line(ValueError("")) == "unexpected contents (ValueError)"
    assert one_line(KeyError("101")) == "unexpected contents (KeyError)"
    assert one_line(ValueError("a\nb")) == "a"


def test_shortened() -> None:
    assert shortened("a \x1b[31m\x07b\n c") == "a �[31m�b c"
    assert shortened("x" * 300) == "x" * 300
    assert shortened("x" * 301) == "x" * 300 + "…"
    assert shortened("x" * 200 + ". " + "y" * 200) == "x" * 200 + "."
