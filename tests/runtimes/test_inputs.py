"""A client's numbers as a batch: shapes, dtypes, values, and the message when they do not fit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tierwise.core.errors import InvalidInputError
from tierwise.core.tensors import Signature, TensorSpec
from tierwise.runtimes.inputs import InputAdapter, to_inputs

if TYPE_CHECKING:
    from numpy.typing import NDArray

RNG = np.random.default_rng(3)


def signature(shape: tuple[int | None, ...], dtype: str = "float32", **quantization: Any) -> Signature:
    """A model with one input ``x`` of this shape."""
    return Signature(inputs=(TensorSpec("x", shape, dtype, **quantization),), outputs=())


def batch_of(
    features: Any, shape: tuple[int | None, ...], dtype: str = "float32", **rest: Any
) -> tuple[NDArray[Any], bool]:
    """What the input ``x`` becomes."""
    inputs, is_batch = to_inputs(features, signature(shape, dtype, **rest))
    assert list(inputs) == ["x"]
    return inputs["x"], is_batch


def refusal(features: Any, shape: tuple[int | None, ...], dtype: str = "float32", **rest: Any) -> str:
    """The message with which the features are refused."""
    with pytest.raises(InvalidInputError) as caught:
        batch_of(features, shape, dtype, **rest)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("given_shape", "shape", "target", "is_batch"),
    [
        ((32,), (None, 32), (1, 32), False),
        ((1, 32), (None, 32), (1, 32), True),
        ((5, 32), (None, 32), (5, 32), True),
        ((64,), (None, 1, 8, 8), (1, 1, 8, 8), False),
        ((8, 8), (None, 1, 8, 8), (1, 1, 8, 8), False),
        ((1, 8, 8), (None, 1, 8, 8), (1, 1, 8, 8), False),
        ((8, 8, 1), (None, 8, 8, 1), (1, 8, 8, 1), False),
        ((8, 8), (None, 8, 8, 1), (1, 8, 8, 1), False),
        ((1, 1, 8, 8), (None, 1, 8, 8), (1, 1, 8, 8), True),
        ((3, 8, 8), (None, 1, 8, 8), (3, 1, 8, 8), True),
        ((3, 1, 8, 8), (None, 1, 8, 8), (3, 1, 8, 8), True),
        ((3, 64), (None, 1, 8, 8), (3, 1, 8, 8), True),
        ((8, 64), (None, 8, 8), (8, 8, 8), True),
        ((), (None, 1), (1, 1), False),
        ((1,), (None, 1), (1, 1), False),
        ((4,), (None, 1), (4, 1), True),
        ((), (None,), (1,), False),
        ((3,), (None,), (3,), True),
        ((32,), (1, 32), (1, 32), False),
        ((3, 32), (1, 32), (3, 32), True),
        ((4, 32), (4, 32), (4, 32), True),
        ((7,), (None, None), (1, 7), False),
        ((2, 7), (None, None), (2, 7), True),
        ((9, 3), (None, None, 3), (1, 9, 3), False),
        ((2, 9, 3), (None, None, 3), (2, 9, 3), True),
        ((), (), (), False),
    ],
)
def test_shapes(
    given_shape: tuple[int, ...], shape: tuple[int | None, ...], target: tuple[int, ...], *, is_batch: bool
) -> None:
    features: NDArray[Any] = np.asarray(RNG.standard_normal(given_shape))
    values, batched = batch_of(features, shape)
    assert values.shape == target
    assert batched is is_batch
    assert values.dtype == np.float32
    assert values.flags.c_contiguous
    np.testing.assert_array_equal(values.ravel(), features.astype(np.float32).ravel())


@pytest.mark.parametrize(
    ("given_shape", "shape", "message"),
    [
        ((31,), (None, 32), "x: expected 32 values a sample (float32[?, 32]), got 31"),
        ((0,), (None, 32), "x: expected 32 values a sample (float32[?, 32]), got 0"),
        ((), (None, 32), "x: expected 32 values a sample (float32[?, 32]), got shape []"),
        ((2, 31), (None, 32), "x: expected 32 values a sample (float32[?, 32]), got shape [2, 31]"),
        ((1, 1, 32), (None, 32), "x: expected 32 values a sample (float32[?, 32]), got shape [1, 1, 32]"),
        ((8, 9), (None, 1, 8, 8), "x: expected 64 values a sample (float32[?, 1, 8, 8]), got shape [8, 9]"),
        ((0, 32), (None, 32), "x: the batch is empty"),
        ((0, 1, 8, 8), (None, 1, 8, 8), "x: the batch is empty"),
        ((0, 5, 3), (None, None, 3), "x: the batch is empty"),
        ((5, 4), (None, None, 3), "x: expected samples of shape float32[?, ?, 3], got shape [5, 4]"),
        ((0, 3), (None, None, 3), "x: expected samples of shape float32[?, ?, 3], got shape [0, 3]"),
        ((3, 32), (4, 32), "x: the model takes batches of exactly 4 samples, got 3"),
        ((32,), (4, 32), "x: expected a batch of 4, 32 values a sample (float32[4, 32]), got 32"),
    ],
)
def test_shapes_that_do_not_fit(given_shape: tuple[int, ...], shape: tuple[int | None, ...], message: str) -> None:
    assert refusal(np.zeros(given_shape), shape) == message


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", ">f4", ">f8", "int8", "uint8", "int64", "uint64"])
@pytest.mark.parametrize("declared", ["float16", "float32", "float64"])
def test_numbers_become_the_declared_float(dtype: str, declared: str) -> None:
    features = np.arange(6, dtype=dtype)
    values, _ = batch_of(features, (None, 6), declared)
    assert values.dtype == np.dtype(declared)
    assert values.dtype.isnative
    np.testing.assert_array_equal(values[0], np.arange(6))


def test_what_fits_is_not_copied() -> None:
    features = np.ones((2, 4), np.float32)
    values, _ = batch_of(features, (None, 4))
    assert np.shares_memory(values, features)


@pytest.mark.parametrize("features", [np.ones((4, 8))[:, ::2], np.ones((4, 4)).T, np.ones(8, np.float32)[::2]])
def test_strided_memory_becomes_contiguous(features: NDArray[Any]) -> None:
    values, _ = batch_of(features, (None, 4))
    assert values.flags.c_contiguous


def test_transposed_memory_keeps_its_meaning() -> None:
    features = np.arange(12, dtype=np.float32).reshape(3, 4).T
    np.testing.assert_array_equal(batch_of(features, (None, 3))[0], features)


@pytest.mark.parametrize(
    ("features", "what"),
    [
        (np.array([True, False]), "bool"),
        (np.array(["1", "2"]), "text"),
        (np.array([b"1", b"2"]), "bytes"),
        (np.array([1, None]), "objects"),
        (np.array([1j, 2]), "complex numbers"),
        (np.array(["2020-01-01", "2020-01-02"], "datetime64[D]"), "datetime64[D]"),
    ],
)
@pytest.mark.parametrize("declared", ["float32", "int64"])
def test_only_numbers_are_taken(features: NDArray[Any], what: str, declared: str) -> None:
    assert refusal(features, (None, 2), declared) == f"x: expected numbers ({declared}), got {what}"


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("declared", ["float32", "float64", "int64", "int8"])
def test_every_number_must_be_finite(bad: float, dtype: type, declared: str) -> None:
    features: NDArray[Any] = np.zeros((3, 4), dtype)
    features[1, 2] = features[2, 0] = bad
    assert refusal(features, (None, 4), declared) == f"x[1, 2] is {bad}; inputs must be finite numbers"


def test_infinities_that_cancel_out_are_found() -> None:
    assert refusal(np.array([0, np.inf, -np.inf]), (None, 3)).startswith("x[1] is inf")


def test_a_single_number_is_named_without_an_index() -> None:
    assert refusal(np.array(np.nan), (None, 1)) == "x is nan; inputs must be finite numbers"


@pytest.mark.parametrize(
    ("value", "declared"), [(1e300, "float32"), (-1e39, "float32"), (70000.0, "float16"), (2**40, "float16")]
)
def test_what_overflows_the_declared_float_is_refused(value: float, declared: str) -> None:
    message = refusal(np.array([0, value]), (None, 2), declared)
    assert message.startswith("x[1] is ")
    assert message.endswith(f", too large for {declared}")


def test_large_numbers_that_fit_are_taken() -> None:
    features = np.array([3e38, -3e38])
    np.testing.assert_array_equal(batch_of(features, (None, 2))[0][0], features.astype(np.float32))


@pytest.mark.parametrize(
    ("value", "declared", "message"),
    [
        (1.5, "int64", "x[1] is 1.5, but the model takes whole numbers (int64)"),
        (128, "int8", "x[1] is 128, out of range for int8 (-128 to 127)"),
        (-1, "uint8", "x[1] is -1, out of range for uint8 (0 to 255)"),
        (256.0, "uint8", "x[1] is 256.0, out of range for uint8 (0 to 255)"),
        (2.0**63, "int64", "x[1] is 9.223372036854776e+18, out of range for int64"),
        (2, "bool", "x[1] is 2, out of range for bool (0 to 1)"),
    ],
)
def test_integer_inputs_take_whole_numbers_in_range(value: float, declared: str, message: str) -> None:
    told = refusal(np.array([0, value]), (None, 2), declared)
    assert told == message or told.startswith(message.split("e+18", maxsplit=1)[0][:20])
    assert f"({declared})" in told or f"for {declared}" in told


@pytest.mark.parametrize(
    ("value", "declared"),
    [(3.0, "int64"), (127, "int8"), (-128.0, "int8"), (255, "uint8"), (1, "bool"), (-(2.0**63), "int64")],
)
def test_integer_inputs_become_the_declared_dtype(value: float, declared: str) -> None:
    values, _ = batch_of(np.array([0, value]), (None, 2), declared)
    assert values.dtype == np.dtype(declared)
    assert values[0, 1] == value


def test_unsigned_numbers_beyond_int64_are_refused() -> None:
    assert "out of range for int64" in refusal(np.array([2**63], np.uint64), (None, 1), "int64")


def test_a_bool_input_takes_bools() -> None:
    values, _ = batch_of(np.array([True, False]), (None, 2), "bool")
    assert values.dtype == np.bool_


QUANTIZED = {"scale": 0.5, "zero_point": 3}


def test_a_quantised_input_takes_its_own_integers_as_they_are() -> None:
    features = np.array([-128, 127], np.int8)
    values, _ = batch_of(features, (None, 2), "int8", **QUANTIZED)
    assert values.dtype == np.int8
    np.testing.assert_array_equal(values[0], features)


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int64, np.uint8])
def test_a_quantised_input_takes_everything_else_as_real_numbers(dtype: type) -> None:
    values, _ = batch_of(np.array([100, 7], dtype), (None, 2), "int8", **QUANTIZED)
    assert values.dtype == np.float32
    assert values.tolist() == [[100, 7]]


def test_a_quantised_input_refuses_nan_and_bool() -> None:
    assert "x[0] is nan" in refusal(np.array([np.nan, 0]), (None, 2), "int8", **QUANTIZED)
    assert "got bool" in refusal(np.array([True, False]), (None, 2), "int8", **QUANTIZED)


TWO = Signature(inputs=(TensorSpec("a", (None, 2), "float32"), TensorSpec("b", (None, 3), "int64")), outputs=())


def test_named_inputs() -> None:
    inputs, is_batch = to_inputs({"b": np.array([1, 2, 3]), "a": np.array([0.5, 1])}, TWO)
    assert not is_batch
    assert list(inputs) == ["a", "b"]
    assert [str(values.dtype) for values in inputs.values()] == ["float32", "int64"]
    assert (inputs["a"].shape, inputs["b"].shape) == ((1, 2), (1, 3))
    inputs, is_batch = to_inputs({"a": np.zeros((4, 2)), "b": np.zeros((4, 3))}, TWO)
    assert is_batch
    assert inputs["b"].shape == (4, 3)


def test_one_input_may_be_named_too() -> None:
    inputs, is_batch = to_inputs({"x": np.zeros(4)}, signature((None, 4)))
    assert inputs["x"].shape == (1, 4)
    assert not is_batch


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ({"a": np.zeros(2)}, "expected the inputs a, b, got a"),
        ({}, "expected the inputs a, b, got none"),
        ({"a": np.zeros(2), "b": np.zeros(3), "c": np.zeros(1)}, "expected the inputs a, b, got a, b, c"),
        (np.zeros(5), "the model has several inputs: give one array for each of a, b"),
        ({"a": np.zeros((2, 2)), "b": np.zeros((3, 3))}, "got a: a batch of 2, b: a batch of 3"),
        ({"a": np.zeros((2, 2)), "b": np.zeros(3)}, "got a: a batch of 2, b: one sample"),
        ({"a": np.zeros(3), "b": np.zeros(3)}, "a: expected 2 values a sample (float32[?, 2]), got 3"),
        ({"a": [0, 1], "b": np.zeros(3)}, "a: expected an array, got list"),
        ([0.0], "features must be an array or one array a named input, got list"),
        (None, "features must be an array or one array a named input, got NoneType"),
    ],
)
def test_named_inputs_that_do_not_fit(features: Any, message: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        to_inputs(features, TWO)
    assert str(caught.value).endswith(message)


ANY_ARRAY = hnp.arrays(
    dtype=st.one_of(hnp.floating_dtypes(), hnp.integer_dtypes(), hnp.boolean_dtypes(), hnp.complex_number_dtypes()),
    shape=hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=8),
)
ANY_SPEC = st.builds(
    TensorSpec,
    name=st.just("x"),
    shape=st.one_of(
        st.sampled_from(
            [(None, 4), (None, 2, 2), (None, 1, 4), (None, 1), (None,), (1, 4), (2, 4), (None, None, 2), ()]
        )
    ),
    dtype=st.sampled_from(["float16", "float32", "float64", "int8", "uint8", "int32", "int64", "bool"]),
)


@given(features=ANY_ARRAY, spec=ANY_SPEC)
def test_whatever_comes_is_a_fitting_batch_or_refused(features: NDArray[Any], spec: TensorSpec) -> None:
    try:
        inputs, is_batch = InputAdapter(Signature(inputs=(spec,), outputs=()))(features)
    except InvalidInputError as error:
        if not str(error).startswith("x"):
            raise
        return
    values = inputs["x"]
    assert values.dtype == np.dtype(spec.dtype)
    assert values.flags.c_contiguous
    assert len(values.shape) == len(spec.shape)
    assert values.size == features.size > 0
    assert not spec.shape or is_batch or len(values) == 1
    assert np.isfinite(values).all()
    rounded = features.astype(np.dtype(spec.dtype))
    np.testing.assert_array_equal(values.ravel(), rounded.ravel())
