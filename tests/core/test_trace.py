"""Traces as CSV: what comes back, and what is told of a file that is none."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tierwise.core.errors import ConfigurationError
from tierwise.core.trace import TRACE_COLUMNS, TraceRow, read_trace_csv, write_trace_csv

if TYPE_CHECKING:
    from pathlib import Path

ROWS = [
    TraceRow(request_id="1", device_id="d,1", model="m", tier="edge", created_us=5, prediction="[1,2]", outcome="x"),
    TraceRow(request_id="2", device_id="d2", model="m", tier="cloud", created_us=6, inference_us=0.5, outcome="lost"),
]


def test_what_was_written_is_read(tmp_path: Path) -> None:
    write_trace_csv(ROWS, tmp_path / "trace.csv")
    assert read_trace_csv(tmp_path / "trace.csv") == ROWS


def test_more_columns_than_a_trace_has_are_left_alone(tmp_path: Path) -> None:
    write_trace_csv(ROWS[:1], tmp_path / "trace.csv")
    header, row = (tmp_path / "trace.csv").read_text().splitlines()
    (tmp_path / "trace.csv").write_text(f"{header},note\n{row},mine\n")
    assert read_trace_csv(tmp_path / "trace.csv") == ROWS[:1]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\xff\xfe\x00", r"trace\.csv: not a trace: .*can't decode byte 0xff"),
        (b"request_id\n" + b"x" * 200_000, r"trace\.csv: not a trace: field larger than field limit"),
        (b"request_id\n1\n", r"trace\.csv:2: not a trace row: .*missing required field `device_id`"),
        (
            ",".join(TRACE_COLUMNS).encode() + b"\n" + b",".join([b"1"] * (len(TRACE_COLUMNS) + 2)) + b"\n",
            r"trace\.csv:2: not a trace row: 2 cells more than the header has",
        ),
    ],
)
def test_what_is_no_trace_is_one_error_with_its_place(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "trace.csv").write_bytes(content)
    with pytest.raises(ConfigurationError, match=said):
        read_trace_csv(tmp_path / "trace.csv")


def test_a_missing_trace_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"cannot read the trace .*: No such file"):
        read_trace_csv(tmp_path / "trace.csv")
