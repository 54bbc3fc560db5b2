"""An external node in a few lines of Python.

::

    from tierwise.sim.node import run_node, message

    def step(until_us, events, state):          # called for each ADVANCE
        return [message(until_us, "request", size_bytes=100)]

    run_node(step)

The module imports nothing of tierwise, so a node starts quickly and can be copied to where tierwise is not installed.
"""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:
    from collections.abc import Callable

Events = list[dict[str, Any]]
_NOTHING = b"[]\n"


def message(
    time_us: int, kind: str, payload: object = None, *, size_bytes: int = 0, src: str = "", dst: str = ""
) -> dict[str, Any]:
    """An event as the protocol writes it. ``size_bytes`` 0 is the size that the scenario states."""
    return {"time_us": time_us, "type": kind, "src": src, "dst": dst, "payload": payload, "size_bytes": size_bytes}


def run_node(
    step: Callable[[int, Events, dict[str, Any]], Events],
    incoming: BinaryIO | None = None,
    outgoing: BinaryIO | None = None,
) -> None:
    """Speaks the protocol until ``SHUTDOWN`` or the end of the input, by default on standard input and output.

    ``step`` gets the time to go to, the events that arrive by then, and a dictionary that is its own to keep; it starts
    with ``id`` and ``config``. It returns the events that the node sends, none later than the time to go to.
    """
    source = incoming or sys.stdin.buffer
    sink = outgoing or sys.stdout.buffer
    state: dict[str, Any] = {}
    while line := source.readline():
        word, _, rest = line.rstrip().partition(b" ")
        if word == b"ADVANCE":
            events = source.readline()
            sent = step(int(rest), [] if events == _NOTHING else json.loads(events), state)
            answer = json.dumps(sent, separators=(",", ":")).encode() + b"\n" if sent else _NOTHING
            sink.write(b"DONE\n" + answer)
        elif word == b"INIT":
            name, _, config = rest.partition(b" ")
            state.update(id=name.decode(), config=json.loads(config or b"{}"))
            sink.write(b"READY\n")
        elif word == b"SHUTDOWN":
            return
        else:
            raise ValueError(f"not a line of the protocol: {line!r}")
        sink.flush()
