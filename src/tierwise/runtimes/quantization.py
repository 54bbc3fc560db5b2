"""Between real numbers and the integers of a quantised tensor: real = scale · (q - zero_point)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from tierwise.core.tensors import TensorSpec


def is_quantized(spec: TensorSpec) -> bool:
    """Whether the tensor holds integers that stand for real numbers."""
    return spec.scale is not None


def fed_dtype(spec: TensorSpec) -> np.dtype[Any]:
    """Dtype in which ``Runtime.run`` takes and gives the tensor: float32 for quantised ones, else the declared one."""
    return np.dtype(np.float32 if is_quantized(spec) else spec.dtype)
