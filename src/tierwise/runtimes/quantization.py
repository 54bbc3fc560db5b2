"""Between real numbers and the integers of a quantised tensor: real = scale · (q - zero_point).

Rounds and saturates as TensorFlow Lite's own QUANTIZE does (``AffineQuantize`` in
``tensorflow/lite/kernels/internal/reference/quantize.h``): float32 division, half away from zero, clamp.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tierwise.core.errors import ConfigurationError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tierwise.core.tensors import TensorSpec


def is_quantized(spec: TensorSpec) -> bool:
    """Whether the tensor holds integers that stand for real numbers."""
    return spec.scale is not None


def fed_dtype(spec: TensorSpec) -> np.dtype[Any]:
    """Dtype in which ``Runtime.run`` takes and gives the tensor: float32 for quantised ones, else the declared one."""
    return np.dtype(np.float32 if is_quantized(spec) else spec.dtype)


# Far beyond the range x / scale is infinite, and stays so: it saturates like every other value out of range.
@np.errstate(over="ignore", invalid="ignore")
def quantize(x: NDArray[Any], spec: TensorSpec) -> NDArray[Any]:
    """Finite real numbers of any shape as the tensor's integers; what is out of range takes the nearest end.

    Raises ``ConfigurationError`` where ``spec`` has no scale.
    """
    scale, zero_point = _parameters(spec)
    scaled = np.asarray(x, dtype=np.float32) / scale
    whole = np.trunc(scaled)
    # Not floor(x + 0.5): that sum is itself rounded and takes 0.49999997 up to 1.
    whole += np.copysign(np.abs(scaled - whole) >= np.float32(0.5), scaled)
    whole += zero_point
    info = np.iinfo(spec.dtype)
    clipped: NDArray[Any] = np.clip(whole, info.min, info.max)
    return clipped.astype(spec.dtype)


def dequantize(q: NDArray[Any], spec: TensorSpec) -> NDArray[np.float32]:
    """The tensor's integers as real numbers, float32. Raises ``ConfigurationError`` where ``spec`` has no scale."""
    scale, zero_point = _parameters(spec)
    return (q.astype(np.float32) - zero_point) * scale


def _parameters(spec: TensorSpec) -> tuple[np.float32, np.float32]:
    if spec.scale is None:
        raise ConfigurationError(f"{spec}: not a quantised tensor, it has no scale")
    return np.float32(spec.scale), np.float32(spec.zero_point or 0)
