"""What goes into a model and what comes out: tensor specs and signatures."""

from __future__ import annotations

import math
from typing import Annotated

import msgspec

DTYPES = (
    "float32", "float16", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "bool",
)  # fmt: skip
"""Numpy names of what a tensor may hold: all that the runtimes take and give."""

Dtype = Annotated[str, msgspec.Meta(extra={"words": DTYPES})]
"""One of ``DTYPES``. A card with another one is refused; runtimes hand on what a file says."""


class TensorSpec(msgspec.Struct, frozen=True, omit_defaults=True):
    """One input or output of a model.

    ``shape`` counts the batch dimension first; ``None`` is a dimension of any size. ``dtype`` is a numpy name
    (``float32``, ``int8``, …). Quantised tensors carry ``scale`` and ``zero_point``: real = scale · (q - zero_point).
    """

    name: str
    shape: tuple[int | None, ...]
    dtype: Dtype
    scale: float | None = None
    zero_point: int | None = None

    @property
    def sample_shape(self) -> tuple[int | None, ...]:
        """Shape of one sample: without the batch dimension."""
        return self.shape[1:]

    @property
    def sample_size(self) -> int | None:
        """Number of values in one sample, or ``None`` where a dimension is free."""
        sizes = [size for size in self.sample_shape if size is not None]
        return math.prod(sizes) if len(sizes) == len(self.sample_shape) else None

    def __str__(self) -> str:
        dims = ", ".join("?" if size is None else str(size) for size in self.shape)
        return f"{self.name} {self.dtype}[{dims}]"


class Signature(msgspec.Struct, frozen=True):
    """Inputs and outputs of a model, in order."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
