"""External nodes: programs that advance in lockstep, by lines over pipes or TCP.

Coordinator: ``INIT <node id> <json config>``, and the node answers ``READY``. ``ADVANCE <time_us>`` and a line with a
JSON list of the events that reach the node by then, and the node answers ``DONE`` and a line with the events it sends.
``SHUTDOWN``. An event is ``{time_us, type, src, dst, payload, size_bytes}``.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import subprocess
import time
from typing import TYPE_CHECKING, Any

import msgspec

from tierwise.core.errors import TransportError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import ExitStack

    from tierwise.sim.children import Children

_PIECE = 1 << 16
_LONGEST_LINE = 1 << 24
_END_S = 2.0


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """A message to or from an external node."""

    time_us: int
    type: str
    src: str
    dst: str
    payload: Any = None
    size_bytes: int = 0


_EVENTS = msgspec.json.Decoder(list[Event])
_ENCODE = msgspec.json.Encoder().encode


class Peer:
    """One external node. Whatever goes wrong is a ``TransportError`` that names the node.

    Nothing waits longer than ``timeout_s``, neither reading nor writing.
    """

    def __init__(self, name: str, timeout_s: float, ends: tuple[int, int], gone: Callable[[], str]) -> None:
        """``ends`` are the descriptors to write to and to read from, ``gone`` says why they closed."""
        self.name = name
        self._timeout_s = timeout_s
        self._in, self._out = ends
        self._gone = gone
        self._buffer = bytearray()
        for end in ends:
            os.set_blocking(end, False)

    @classmethod
    def started(cls, name: str, timeout_s: float, command: Sequence[str], children: Children) -> Peer:
        """A node that runs as a program of this machine, over pipes; ``children`` ends it."""
        parts = [part.replace("{id}", name) for part in command]
        try:
            process = children.start(parts)
        except (OSError, ValueError) as error:
            raise TransportError(f"cannot start the node {name} ({parts[0]}): {error}") from error
        if process.stdin is None or process.stdout is None:
            raise AssertionError("both were asked for")

        def gone() -> str:
            with contextlib.suppress(subprocess.TimeoutExpired):  # it may have closed its output only
                return f"the node {name} ended with exit code {process.wait(_END_S)}"
            return f"the node {name} closed its output"

        return cls(name, timeout_s, (process.stdin.fileno(), process.stdout.fileno()), gone)

    @classmethod
    def reached(cls, name: str, timeout_s: float, address: str, connections: ExitStack) -> Peer:
        """A node that listens at ``host:port``; ``connections`` closes the connection."""
        host, _, port = address.rpartition(":")
        try:
            connection = connections.enter_context(socket.create_connection((host, int(port)), timeout=timeout_s))
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except (OSError, ValueError, OverflowError) as error:
            raise TransportError(f"cannot reach the node {name} at {address!r}: {error}") from error
        return cls(name, timeout_s, (connection.fileno(),) * 2, lambda: f"the node {name} closed the connection")

    def init(self, config: dict[str, Any]) -> None:
        """Sends ``INIT`` and waits for ``READY``."""
        self._write(f"INIT {self.name} ".encode() + _ENCODE(config) + b"\n")
        line = self._line()
        if line != b"READY":
            raise TransportError(f"the node {self.name} answered INIT with {_shown(line)}, not READY")

    def advance(self, until_us: int, events: Sequence[Event]) -> None:
        """Asks the node to go to ``until_us``. The answer is read by ``done``, so that nodes work at the same time."""
        self._write(b"ADVANCE %d\n" % until_us + _ENCODE(events) + b"\n")

    def done(self, since_us: int, until_us: int) -> list[Event]:
        """The events that the node sends on its way to ``until_us``, in order of time."""
        line = self._line()
        if line != b"DONE":
            raise TransportError(f"the node {self.name} answered ADVANCE {until_us} with {_shown(line)}, not DONE")
        line = self._line()
        if line == b"[]":
            return []
        try:
            events = _EVENTS.decode(line)
        except msgspec.DecodeError as error:
            raise TransportError(
                f"the node {self.name} sent {_shown(line)}, which is no list of events: {error}"
            ) from error
        for event in events:
            if not since_us <= event.time_us <= until_us or event.size_bytes < 0:
                raise TransportError(
                    f"the node {self.name} sent an event of {event.time_us} us ({event.size_bytes} bytes) "
                    f"while it went from {since_us} to {until_us} us"
                )
        return sorted(events, key=lambda event: event.time_us)

    def shutdown(self) -> None:
        """``SHUTDOWN``, as far as it can be written at once: a node that does not read is ended all the same."""
        with contextlib.suppress(OSError):
            os.write(self._in, b"SHUTDOWN\n")

    def _write(self, data: bytes) -> None:
        deadline = time.monotonic() + self._timeout_s
        rest = memoryview(data)
        try:
            while rest:
                try:
                    rest = rest[os.write(self._in, rest) :]
                except BlockingIOError:  # a node that reads slowly, or not at all
                    left = deadline - time.monotonic()
                    if left <= 0 or not select.select([], [self._in], [], left)[1]:
                        what = f"the node {self.name} did not read within {self._timeout_s:g} s"
                        raise TransportError(what) from None
        except OSError as error:
            raise TransportError(self._gone()) from error

    def _line(self) -> bytes:
        deadline = time.monotonic() + self._timeout_s
        searched = 0
        while (end := self._buffer.find(b"\n", searched)) < 0:
            searched = len(self._buffer)
            try:
                piece = os.read(self._out, _PIECE)
            except BlockingIOError:
                left = deadline - time.monotonic()
                if left <= 0 or not select.select([self._out], [], [], left)[0]:
                    what = f"the node {self.name} did not answer within {self._timeout_s:g} s"
                    raise TransportError(what) from None
                continue
            except OSError as error:
                raise TransportError(self._gone()) from error
            if not piece:
                raise TransportError(self._gone())
            self._buffer += piece
            if len(self._buffer) > _LONGEST_LINE:
                raise TransportError(f"the node {self.name} sent a line of more than {_LONGEST_LINE >> 20} MiB")
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        return line.rstrip(b"\r")


def _shown(line: bytes) -> str:
    return repr(line[:80].decode("utf-8", "replace"))
