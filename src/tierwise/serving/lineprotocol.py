"""InfluxDB's line protocol, as far as InfluxDB 1, 2 and 3 read it alike."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

# A newline ends a line even where it is escaped, and a backslash is read differently by each generation of InfluxDB:
# no form of them is safe, so they are replaced. Other control characters come along; they help nobody in a name.
_unsafe = re.compile(r"[\\\x00-\x1f\x7f]")
_REPLACEMENT = "_"
_measurement_escapes = str.maketrans({",": r"\,", " ": r"\ "})
_key_escapes = str.maketrans({",": r"\,", " ": r"\ ", "=": r"\="})


class Point(NamedTuple):
    """One point: values of one measurement at one instant, nanoseconds since 1970-01-01 UTC."""

    measurement: str
    tags: Mapping[str, str]
    fields: Mapping[str, float]
    timestamp_ns: int


def safe_name(text: str) -> str:
    """``text`` with what no line can carry (backslashes, control characters) replaced by ``_``."""
    return _unsafe.sub(_REPLACEMENT, text)


def encode(point: Point) -> bytes | None:
    """The point as one line without its newline, or ``None`` where no field has a finite value.

    Fields are floats always: a field that was first written as an integer refuses floats for ever after. Tags are
    sorted, which InfluxDB asks for; a tag without a value is left out, as it may not be written.
    """
    fields = ",".join(
        f"{_key(name)}={float(value)!r}" for name, value in point.fields.items() if math.isfinite(value) and name
    )
    if not fields:
        return None
    tags = "".join(f",{_key(name)}={_key(value)}" for name, value in sorted(point.tags.items()) if name and value)
    measurement = safe_name(point.measurement).translate(_measurement_escapes)
    return f"{measurement}{tags} {fields} {point.timestamp_ns}".encode()


def _key(text: str) -> str:
    return safe_name(text).translate(_key_escapes)
