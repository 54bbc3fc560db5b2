"""Line protocol: whatever a name or value is, a parser that follows the specification reads it back."""

from __future__ import annotations

import math
import re

from hypothesis import given
from hypothesis import strategies as st

from tierwise.serving.lineprotocol import Point, encode, safe_name

_names = st.text(min_size=1, max_size=12) | st.text(alphabet="ab,= \\\n\"#'", min_size=1, max_size=12)
_finite = st.floats(allow_nan=False, allow_infinity=False)


def split(text: str, separator: str) -> list[str]:
    """Splits at separators that no backslash precedes."""
    return re.split(rf"(?<!\\){re.escape(separator)}", text)


def unescape(text: str) -> str:
    return re.sub(r"\\([,= ])", r"\1", text)


def parse(line: str) -> tuple[str, dict[str, str], dict[str, float], int]:
    """A small parser, written from InfluxDB's description of the format."""
    key, fields, timestamp = split(line, " ")
    measurement, *tags = split(key, ",")
    pairs = [split(tag, "=") for tag in tags]
    values = [split(field, "=") for field in split(fields, ",")]
    return (
        unescape(measurement),
        {unescape(name): unescape(value) for name, value in pairs},
        {unescape(name): float(value) for name, value in values},
        int(timestamp),
    )


@given(
    measurement=_names,
    tags=st.dictionaries(_names.map(safe_name), _names, max_size=5),
    fields=st.dictionaries(_names.map(safe_name), _finite, min_size=1, max_size=5),
    timestamp_ns=st.integers(0, 2**63 - 1),
)
def test_what_is_written_is_read_back(
    measurement: str, tags: dict[str, str], fields: dict[str, float], timestamp_ns: int
) -> None:
    line = encode(Point(measurement, tags, fields, timestamp_ns))
    assert line is not None
    text = line.decode()
    assert "\n" not in text
    assert parse(text) == (
        safe_name(measurement),
        {name: safe_name(value) for name, value in tags.items()},
        fields,
        timestamp_ns,
    )


def test_a_line_as_influxdb_documents_it() -> None:
    point = Point("my measurement", {"zone": "a,b", "model": "x=1"}, {"mean seconds": 0.25, "count": 3}, 1_700_000_000)
    assert encode(point) == rb"my\ measurement,model=x\=1,zone=a\,b mean\ seconds=0.25,count=3.0 1700000000"


def test_every_field_is_a_float() -> None:
    line = encode(Point("m", {}, {"whole": 7, "large": 1e300, "small": 1e-7, "yes": True}, 1))
    assert line == b"m whole=7.0,large=1e+300,small=1e-07,yes=1.0 1"


def test_what_is_no_number_is_left_out_and_nothing_is_no_line() -> None:
    assert encode(Point("m", {}, {"a": math.nan, "b": 1.0, "c": math.inf}, 1)) == b"m b=1.0 1"
    assert encode(Point("m", {}, {"a": math.nan}, 1)) is None


def test_an_empty_tag_is_left_out() -> None:
    assert encode(Point("m", {"version": "", "model": "x"}, {"a": 1.0}, 1)) == b"m,model=x a=1.0 1"
