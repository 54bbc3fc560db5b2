"""A model as the compiler sees it: tensors with quantisation, operators in order of execution."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tierwise.core.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray


class UnsupportedModelError(ModelError):
    """The model is sound but cannot run on the device; the message names operator, index and reason."""

    code = "model_unsupported"


@dataclass(frozen=True)
class Quantization:
    """real = scale · (q - zero_point). One entry, or one for each index along ``axis``."""

    scales: tuple[float, ...]
    """float32 values, held exactly."""
    zero_points: tuple[int, ...]
    axis: int = 0

    @property
    def scale(self) -> float:
        """The scale of a tensor that has one."""
        return self.scales[0]

    @property
    def zero_point(self) -> int:
        """The zero point of a tensor that has one."""
        return self.zero_points[0]


@dataclass(frozen=True, eq=False)
class Tensor:
    """One tensor. ``data`` holds the values of a constant, ``None`` for what is computed."""

    index: int
    name: str
    shape: tuple[int, ...]
    dtype: str
    """numpy name: ``int8``, ``int32``, ``float32``, …"""
    quantization: Quantization | None = None
    data: NDArray[Any] | None = None

    @property
    def size(self) -> int:
        """Number of values."""
        return math.prod(self.shape)

    @property
    def item_bytes(self) -> int:
        """Bytes of one value."""
        return {"int8": 1, "uint8": 1, "bool": 1, "int16": 2, "float16": 2, "int64": 8}.get(self.dtype, 4)

    @property
    def bytes(self) -> int:
        """Bytes of all values."""
        return self.size * self.item_bytes

    @property
    def quantized(self) -> Quantization:
        """The quantisation of a tensor that must have one."""
        if self.quantization is None:
            raise ValueError(f"tensor {self.name!r} has no quantisation")
        return self.quantization

    def __str__(self) -> str:
        return f"{self.name!r} {self.dtype}[{', '.join(map(str, self.shape))}]"


@dataclass(frozen=True, eq=False)
class Operator:
    """One operator: its inputs (``None`` where an optional one is left out), outputs and options."""

    index: int
    name: str
    """As the schema spells it: ``CONV_2D``, …"""
    inputs: tuple[Tensor | None, ...]
    outputs: tuple[Tensor, ...]
    options: Mapping[str, float] = field(default_factory=dict)

    def refuse(self, reason: str) -> UnsupportedModelError:
        """The error for an operator that cannot be compiled."""
        return UnsupportedModelError(f"operator {self.index} ({self.name}) cannot run on the device: {reason}")

    def input(self, position: int) -> Tensor:
        """An input that must be there."""
        tensor = self.inputs[position] if position < len(self.inputs) else None
        if tensor is None:
            raise self.refuse(f"input {position} is missing")
        return tensor

    def optional(self, position: int) -> Tensor | None:
        """An input that may be left out."""
        return self.inputs[position] if position < len(self.inputs) else None

    @property
    def output(self) -> Tensor:
        """The only output."""
        if len(self.outputs) != 1:
            raise self.refuse(f"it has {len(self.outputs)} outputs where one is expected")
        return self.outputs[0]

    def option(self, name: str) -> int:
        """An integer option."""
        return int(self.options[name])


@dataclass(frozen=True, eq=False)
class Graph:
    """A model with one subgraph. ``name`` comes from the file's name."""

    name: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    operators: tuple[Operator, ...]
    crc32: int
    """Of the whole .tflite file."""
    model_bytes: int
