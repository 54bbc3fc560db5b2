"""Real numbers to integers and back, as TensorFlow Lite does it."""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from tests.components import need
from tests.runtimes.tiny import tflite_quantize

from tierwise.core.errors import ConfigurationError
from tierwise.core.tensors import TensorSpec
from tierwise.runtimes import load_runtime
from tierwise.runtimes.quantization import dequantize, fed_dtype, is_quantized, quantize

if TYPE_CHECKING:
    from pathlib import Path

RNG = np.random.default_rng(5)
UNIT = TensorSpec("x", (None, 1), "int8", scale=1.0, zero_point=0)


def spec(scale: float, zero_point: int, dtype: str = "int8") -> TensorSpec:
    """A quantised tensor."""
    return TensorSpec("x", (None, 1), dtype, scale=scale, zero_point=zero_point)


@pytest.mark.parametrize(
    ("real", "integer"),
    [
        (0.5, 1), (-0.5, -1), (1.5, 2), (2.5, 3), (-2.5, -3), (0.49999997, 0), (-0.49999997, 0), (1.4999999, 1),
        (127.4, 127), (127.5, 127), (1e9, 127), (-128.4, -128), (-1e9, -128), (0.0, 0), (-0.0, 0),
    ],
)  # fmt: skip
def test_halves_are_rounded_away_from_zero_and_the_rest_to_the_nearest(real: float, integer: int) -> None:
    assert quantize(np.array([real], np.float32), UNIT).tolist() == [integer]


def test_zero_point_and_scale_are_applied() -> None:
    assert quantize(np.array([0.0, 1.0, -1.0], np.float32), spec(0.5, 10)).tolist() == [10, 12, 8]
    assert dequantize(np.array([10, 12, 8], np.int8), spec(0.5, 10)).tolist() == [0, 1, -1]


@pytest.mark.parametrize(("dtype", "low", "high"), [("int8", -128, 127), ("uint8", 0, 255), ("int16", -32768, 32767)])
def test_what_is_out_of_range_takes_the_nearest_end(dtype: str, low: int, high: int) -> None:
    quantized = quantize(np.array([-3e38, 3e38], np.float32), spec(1e-3, 5, dtype))
    assert quantized.dtype == np.dtype(dtype)
    assert quantized.tolist() == [low, high]


def test_shape_is_kept_and_float64_is_taken() -> None:
    assert quantize(np.zeros((2, 3, 4)), UNIT).shape == (2, 3, 4)
    assert dequantize(np.zeros((2, 3, 4), np.int8), UNIT).dtype == np.float32


def test_a_tensor_without_scale_is_not_quantised() -> None:
    plain = TensorSpec("x", (None, 1), "float32")
    assert not is_quantized(plain)
    assert fed_dtype(plain) == fed_dtype(UNIT) == np.dtype(np.float32)
    for function in (quantize, dequantize):
        with pytest.raises(ConfigurationError, match="has no scale"):
            function(np.zeros(1, np.float32), plain)


PARAMETERS = st.tuples(
    st.floats(2.0**-10, 64.0, width=32), st.sampled_from(["int8", "uint8", "int16"]), st.integers(-100, 100)
).map(lambda drawn: spec(drawn[0], abs(drawn[2]) if drawn[1] == "uint8" else drawn[2], drawn[1]))


@given(tensor=PARAMETERS, data=st.data())
def test_every_integer_comes_back_as_itself(tensor: TensorSpec, data: st.DataObject) -> None:
    q = data.draw(hnp.arrays(np.dtype(tensor.dtype), 16))
    np.testing.assert_array_equal(quantize(dequantize(q, tensor), tensor), q)


@given(tensor=PARAMETERS, data=st.data())
def test_a_number_in_range_comes_back_within_half_a_step(tensor: TensorSpec, data: st.DataObject) -> None:
    assert tensor.scale is not None
    assert tensor.zero_point is not None
    info = np.iinfo(tensor.dtype)
    low, high = (float(np.float32((end - tensor.zero_point) * tensor.scale)) for end in (info.min, info.max))
    x = data.draw(hnp.arrays(np.float32, 16, elements=st.floats(low, high, width=32)))
    error = np.abs(dequantize(quantize(x, tensor), tensor) - x)
    assert (error <= tensor.scale * 0.5 + np.abs(x) * 1e-6 + tensor.scale * 1e-3).all()


@pytest.mark.parametrize(("runtime", "package"), [("litert", "ai_edge_litert"), ("tflm", "tflite_micro")])
def test_it_is_what_the_operator_quantize_does(tmp_path: Path, runtime: str, package: str) -> None:
    need(package="ai_edge_litert")
    need(package=package)
    tensor = spec(0.25, 3)
    model = load_runtime(tflite_quantize(tmp_path / "quantize.tflite", 0.25, 3), runtime=runtime)
    halves = np.arange(-32, 32, dtype=np.float32) * np.float32(0.125)
    below = np.nextafter(halves, np.float32(0))
    # Beyond 2^31 steps the operator's cast to int32 overflows, and it answers -128 to a huge number; here it is 127.
    far = np.geomspace(1, 4e8, 64, dtype=np.float32) * np.where(np.arange(64) % 2, 1, -1).astype(np.float32)
    for real in (halves, below, far, RNG.normal(0, 20, 64).astype(np.float32)):
        (answer,) = model.run({"real": real[np.newaxis]})
        # LiteRT's delegate XNNPACK takes an exact half to the even neighbour; nothing else may differ.
        compared = real % 0.25 != 0.125 if runtime == "litert" else np.full(64, fill_value=True)
        assert compared.sum() >= 32
        np.testing.assert_array_equal(quantize(answer[0], tensor)[compared], quantize(real, tensor)[compared])


@given(real=st.floats(-200, 200, width=32), scale=st.floats(2.0**-10, 64.0, width=32))
def test_rounding_is_exact(real: float, scale: float) -> None:
    quotient = Decimal(float(np.float32(real) / np.float32(scale)))
    expected = min(max(int(quotient.to_integral_value(ROUND_HALF_UP)), -128), 127)
    assert quantize(np.array([real], np.float32), spec(scale, 0)).tolist() == [expected]
