"""Puts finished requests in the order in which they were made, and hands them on."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Protocol

import numpy as np

from tierwise.sim.kernel.tables import (
    K_BITS,
    R_ANSWERED,
    R_ARRIVED,
    R_CREATED,
    R_DEVICE,
    R_ENERGY,
    R_FINISHED,
    R_K,
    R_OUTCOME,
    R_SENT,
    R_STARTED,
    R_TIER,
)
from tierwise.sim.rows import Rows, joined, order_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


class Sink(Protocol):
    """Takes finished requests, in the order in which they were made."""

    def take(self, rows: Rows) -> None:
        """The next ones."""


def in_order_of_creation(finished: Iterable[tuple[int, Rows]]) -> Iterator[Rows]:
    """Sorts an engine's output by (created, device, number), holding back what earlier requests may precede."""
    waiting: list[Rows] = []
    for settled, rows in finished:
        if rows.size:
            waiting.append(rows)
        if not waiting:
            continue
        known = _sorted(joined(waiting))
        ready = int(np.searchsorted(known[R_CREATED], settled))
        waiting = [known.take(slice(ready, None))] if ready < known.size else []
        if ready:
            yield known.take(slice(0, ready))
    if waiting:
        yield _sorted(joined(waiting))


def _sorted(rows: Rows) -> Rows:
    order = order_of(rows[R_CREATED], rows[R_DEVICE], rows[R_K])
    return rows if order is None else rows.take(order)


class Digest:
    """SHA-256 of the trace: of each request, little-endian 64-bit integers, nanoseconds.

    (device << 31 | number), created, sent, arrived, started, finished, answered, (outcome << 8 | tier + 1),
    device energy in nJ; -1 where it never came to that.
    """

    _COLUMNS = (R_CREATED, R_SENT, R_ARRIVED, R_STARTED, R_FINISHED, R_ANSWERED)

    def __init__(self) -> None:
        self._hash = hashlib.sha256()

    def take(self, rows: Rows) -> None:
        """See ``Sink``."""
        block = np.empty((rows.size, 9), "<i8")
        block[:, 0] = (rows[R_DEVICE] << K_BITS) | rows.columns[R_K]
        for position, column in enumerate(self._COLUMNS, 1):
            block[:, position] = rows.columns[column]
        block[:, 7] = (rows[R_OUTCOME] << 8) | (rows[R_TIER] + 1)
        block[:, 8] = rows.columns[R_ENERGY]
        self._hash.update(block.data)

    def hexdigest(self) -> str:
        """Of all that was taken."""
        return self._hash.hexdigest()
