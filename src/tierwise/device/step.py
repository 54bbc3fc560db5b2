"""What an operator becomes: one call of a C kernel with constants in flash."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from tierwise.device.graph import Operator, Tensor


@dataclass(frozen=True, eq=False)
class Constant:
    """An array in flash. ``c_type`` is the C element type; rows of a 2-D array become struct initialisers."""

    c_type: str
    values: NDArray[Any]
    note: str = ""

    @property
    def bytes(self) -> int:
        """Flash it takes."""
        return int(self.values.size) * {"int8_t": 1, "int16_t": 2}.get(self.c_type, 4)


Field = int | float | tuple[int, ...] | Constant
"""A member of a params struct: a number, an array of numbers, or a pointer to a constant."""


@dataclass(frozen=True, eq=False)
class Step:
    """One kernel call: ``kernel(params, inputs…, output[, scratch])``.

    ``params`` is the C struct's name and its members, or a bare table with the number of values (``tw_lookup``).
    """

    operator: Operator
    kernel: str
    source: str
    """The file that defines it, in ``c/kernels``."""
    struct: str | None
    fields: Mapping[str, Field]
    inputs: tuple[Tensor, ...]
    output: Tensor
    scratch_bytes: int = 0
    macs: int = 0
    """Multiply-accumulates of one inference."""
    note: str = ""
    """Why this kernel, where it is not the first choice."""
    arguments: tuple[Field, ...] = field(default=())
    """Arguments that take the place of the params struct."""


@dataclass(frozen=True, eq=False)
class Alias:
    """An operator that only gives the same bytes another shape: no code, no memory."""

    operator: Operator
    source: Tensor
    output: Tensor
