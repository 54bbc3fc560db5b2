"""The trace: one row a request with every instant. Simulations and live runs write the same columns."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING, Any, get_type_hints

import msgspec

from tierwise.core.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


class TraceRow(msgspec.Struct, frozen=True, kw_only=True):
    """One request. Instants are integer microseconds on one clock; ``None`` (an empty cell) where nobody knows them.

    created → sent (device) → arrived → started → finished (tier) → answered (device).
    ``outcome`` is ``answered``, or the code of the error, or why it was lost (``timeout``, ``link_loss``, …).
    """

    request_id: str
    device_id: str
    model: str
    tier: str
    created_us: int
    sent_us: int | None = None
    arrived_us: int | None = None
    started_us: int | None = None
    finished_us: int | None = None
    answered_us: int | None = None
    bytes_up: int = 0
    bytes_down: int = 0
    energy_device_j: float | None = None
    prediction: str | None = None
    """The answer as JSON: a number, or a list of them."""
    label: str | None = None
    """What the tier says it is."""
    truth: str | None = None
    """What it is, where the sample is labelled."""
    inference_us: float | None = None
    """The model's execution as the tier measured it."""
    configured_delay_us: int | None = None
    """Network delay that was configured, not measured (both ways)."""
    outcome: str


TRACE_COLUMNS: tuple[str, ...] = tuple(get_type_hints(TraceRow))


def write_trace_csv(rows: Iterable[TraceRow], path: Path) -> None:
    """Writes rows as CSV with a header; ``None`` becomes an empty cell."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(TRACE_COLUMNS)
        writer.writerows(msgspec.structs.astuple(row) for row in rows)


def read_trace_csv(path: Path) -> list[TraceRow]:
    """Reads a trace that ``write_trace_csv`` wrote. Raises ``ConfigurationError`` naming the file and line."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            return [_row(record, f"{path}:{reader.line_num}") for record in reader]
    except OSError as error:
        raise ConfigurationError(f"cannot read the trace {path}: {error.strerror}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise ConfigurationError(f"{path}: not a trace: {error}") from error


def _row(record: dict[str | None, Any], place: str) -> TraceRow:
    if None in record:  # where the reader puts what has no column
        raise ConfigurationError(f"{place}: not a trace row: {len(record[None])} cells more than the header has")
    try:
        return msgspec.convert({name: cell for name, cell in record.items() if cell}, TraceRow, strict=False)
    except msgspec.ValidationError as error:
        raise ConfigurationError(f"{place}: not a trace row: {error}") from error
