"""Reading FlatBuffers without trusting them.

Only what a .tflite file needs: tables, scalars, strings, vectors. Every offset is checked against the buffer, so a
truncated or corrupted file ends in ``ModelFileError`` and nothing else. The generated classes of LiteRT's schema cost
an extra package of tens of megabytes and raise whatever ``struct`` and numpy raise.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from tierwise.core.errors import ModelFileError

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_VECTOR: Final = 1 << 28
"""Elements in one vector. Anything longer is a corrupted length, not a model for a microcontroller."""


class Buffer:
    """The bytes of a file, with checked reads. ``name`` is what error messages call it."""

    def __init__(self, data: bytes, name: str) -> None:
        self.data = data
        self.name = name

    def fail(self, what: str) -> ModelFileError:
        """The error for a file that contradicts itself."""
        return ModelFileError(f"{self.name} is truncated or corrupted: {what}")

    def scalar(self, form: str, at: int) -> Any:  # noqa: ANN401 - int, float or bool, as ``form`` says
        """One little-endian scalar of ``struct`` format ``form`` at byte ``at``."""
        size = struct.calcsize(form)
        if at < 0 or at + size > len(self.data):
            raise self.fail(f"a value at byte {at} lies outside the file's {len(self.data)} bytes")
        return struct.unpack_from("<" + form, self.data, at)[0]

    def root(self) -> Table:
        """The root table."""
        return Table(self, int(self.scalar("I", 0)))


class Table:
    """One table: fields by slot number, in the order of the schema."""

    def __init__(self, buffer: Buffer, at: int) -> None:
        self.buffer = buffer
        self.at = at
        self._vtable = at - int(buffer.scalar("i", at))
        self._vtable_size = int(buffer.scalar("H", self._vtable))

    def _field(self, slot: int) -> int | None:
        entry = 4 + 2 * slot
        if entry + 2 > self._vtable_size:
            return None
        offset = int(self.buffer.scalar("H", self._vtable + entry))
        return self.at + offset if offset else None

    def _target(self, slot: int) -> int | None:
        at = self._field(slot)
        return None if at is None else at + int(self.buffer.scalar("I", at))

    def integer(self, slot: int, form: str, default: int = 0) -> int:
        """An integer field of ``struct`` format ``form``."""
        at = self._field(slot)
        return default if at is None else int(self.buffer.scalar(form, at))

    def real(self, slot: int, default: float = 0.0) -> float:
        """A float32 field."""
        at = self._field(slot)
        return default if at is None else float(self.buffer.scalar("f", at))

    def table(self, slot: int) -> Table | None:
        """A table field."""
        at = self._target(slot)
        return None if at is None else Table(self.buffer, at)

    def _vector(self, slot: int, item_size: int) -> tuple[int, int]:
        at = self._target(slot)
        if at is None:
            return 0, 0
        length = int(self.buffer.scalar("I", at))
        if length > MAX_VECTOR or at + 4 + length * item_size > len(self.buffer.data):
            raise self.buffer.fail(f"a vector of {length} items at byte {at} reaches past the end")
        return at + 4, length

    def array(self, slot: int, dtype: str) -> NDArray[Any]:
        """A vector of scalars as a read-only array of little-endian ``dtype`` (empty where the field is absent)."""
        kind = np.dtype(dtype).newbyteorder("<")
        at, length = self._vector(slot, kind.itemsize)
        return np.frombuffer(self.buffer.data, kind, count=length, offset=at)

    def tables(self, slot: int) -> list[Table]:
        """A vector of tables."""
        at, length = self._vector(slot, 4)
        places = range(at, at + 4 * length, 4)
        return [Table(self.buffer, place + int(self.buffer.scalar("I", place))) for place in places]

    def text(self, slot: int) -> str:
        """A string field; bytes that are not UTF-8 are replaced."""
        at, length = self._vector(slot, 1)
        return self.buffer.data[at : at + length].decode("utf-8", "replace")
