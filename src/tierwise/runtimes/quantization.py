"""Between real numbers and the integers of a quantised tensor: real = scale · (q - zero_point).

Rounds and saturates as TensorFlow Lite's reference QUANTIZE does (``AffineQuantize`` in
``tensorflow/lite/kernels/internal/reference/quantize.h``), which is what a microcontroller runs: float32 division,
half away from zero, clamp. (XNNPACK, to which LiteRT delegates, takes an exact half to the even neighbour instead.)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tierwise.core.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from tierwise.core.tensors import TensorSpec

# The largest number below 1/2: x + 1/2 is itself rounded and would take 0.49999997 up to 1.
_BELOW_HALF = np.nextafter(np.float32(0.5), np.float32(0))


def is_quantized(spec: TensorSpec) -> bool:
    """Whether the tensor holds integers that stand for real numbers."""
    return spec.scale is not None


def fed_dtype(spec: TensorSpec) -> np.dtype[Any]:
    """Dtype in which ``Runtime.run`` takes and gives the tensor: float32 for quantised ones, else the declared one."""
    return np.dtype(np.float32 if is_quantized(spec) else spec.dtype)


def quantize(x: NDArray[Any], spec: TensorSpec) -> NDArray[Any]:
    """Finite real numbers of any shape as the tensor's integers; what is out of range takes the nearest end.

    Raises ``ConfigurationError`` where ``spec`` has no scale.
    """
    return quantizer(spec)(np.asarray(x, dtype=np.float32))


def dequantize(q: NDArray[Any], spec: TensorSpec) -> NDArray[np.float32]:
    """The tensor's integers as real numbers, float32. Raises ``ConfigurationError`` where ``spec`` has no scale."""
    return dequantizer(spec)(q)


def quantizer(spec: TensorSpec) -> Callable[[NDArray[np.float32]], NDArray[Any]]:
    """``quantize`` for one tensor and float32 arrays, with everything worked out that does not depend on the array."""
    scale, zero_point = _parameters(spec)
    dtype = np.dtype(spec.dtype)
    info = np.iinfo(dtype)
    # Clamped as real numbers, so that the quotient cannot overflow. Where the bound itself would, no number exceeds it.
    largest = float(np.finfo(np.float32).max)
    low, high = (
        np.float32(min(max((end - int(zero_point)) * float(scale), -largest), largest)) for end in (info.min, info.max)
    )
    copysign, divide, maximum, minimum, trunc = np.copysign, np.divide, np.maximum, np.minimum, np.trunc

    def to_integers(x: NDArray[np.float32]) -> NDArray[Any]:
        values = minimum(maximum(x, low), high)
        divide(values, scale, values)
        values += copysign(_BELOW_HALF, values)
        trunc(values, values)
        values += zero_point
        return values.astype(dtype)

    return to_integers


def dequantizer(spec: TensorSpec) -> Callable[[NDArray[Any]], NDArray[np.float32]]:
    """``dequantize`` for one tensor."""
    scale, zero_point = _parameters(spec)

    def to_reals(q: NDArray[Any]) -> NDArray[np.float32]:
        values = q.astype(np.float32)
        values -= zero_point
        values *= scale
        return values

    return to_reals


def _parameters(spec: TensorSpec) -> tuple[np.float32, np.float32]:
    if spec.scale is None:
        raise ConfigurationError(f"{spec}: not a quantised tensor, it has no scale")
    return np.float32(spec.scale), np.float32(spec.zero_point or 0)
