"""uvicorn's HTTP protocol with limits: on the head, the bytes and the time of a request, and on unread answers.

uvicorn takes headers of any length, waits for the rest of a request for ever, goes on reading a body that was refused,
and says what is wrong with malformed HTTP in plain text. A client that sends or reads too slowly or too much is let go
here, with an answer in JSON where one can still be given.
"""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import TYPE_CHECKING, NamedTuple

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from tierwise.serving.predict import UNEXPECTED, Response, error_body

if TYPE_CHECKING:
    import asyncio

    from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

_PIECE_BYTES = 16_384
"""Received bytes are counted in such pieces, so a limit may be exceeded by two of them."""
_STATUS_LINES = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-type: application/json\r\n".encode()
    for status in HTTPStatus
}

log = logging.getLogger("tierwise.http")


class HttpLimits(NamedTuple):
    """What a client may do. Sizes in bytes, durations in seconds."""

    head_bytes: int = 32_768
    """Request line and headers."""
    request_bytes: int = 2**24
    """A whole request as it travels, with all that is read of a body only to be thrown away."""
    request_s: float = 60.0
    """From the first byte of a request, or from the connection, until the request is complete."""
    stall_s: float = 30.0
    """A client that takes nothing of its answers for so long is cut off."""
    linger_s: float = 2.0
    """After a refusal: a client that is still sending would not see it if the connection were closed at once."""


class HungUpError(Exception):
    """Stops the parser: of this connection nothing more is read."""


class GuardedProtocol(HttpToolsProtocol):
    """One connection of uvicorn, within ``limits``."""

    limits = HttpLimits()
    _in_request = False
    _in_head = False
    _own: RequestResponseCycle | None = None
    """uvicorn's part of the request that is being received, once its head is complete."""
    _bytes = 0
    _since = 0.0
    """When the wait for the rest of a request began, 0 where none is awaited."""
    _hung_up = False
    _watch: asyncio.TimerHandle | None = None
    _stall: asyncio.TimerHandle | None = None

    # --- the event loop calls these

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        """A client has come, and has to send a request in time."""
        super().connection_made(transport)
        self._since = self.loop.time()
        self._watch = self.loop.call_later(self.limits.request_s, self._check)

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone."""
        for timer in (self._watch, self._stall):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Feeds the parser."""
        self._unset_keepalive_if_required()
        if len(data) <= _PIECE_BYTES:
            self._feed(data)
        else:
            view = memoryview(data)
            for start in range(0, len(data), _PIECE_BYTES):
                if not self.transport.is_closing():
                    self._feed(view[start : start + _PIECE_BYTES])
        if not self._in_request:
            self._since = 0.0
            self._await_request()  # what has come may have been an empty line
        elif not self._since:
            self._since = self.loop.time()

    def pause_writing(self) -> None:
        """The client does not take its answers: no more requests are read from it."""
        super().pause_writing()
        self.flow.pause_reading()
        self._unset_keepalive_if_required()
        unsent = self.transport.get_write_buffer_size()
        self._stall = self.loop.call_later(self.limits.stall_s, self._check_stall, unsent)

    def resume_writing(self) -> None:
        """The client has taken most of what was written."""
        if self._stall is not None:
            self._stall.cancel()
        super().resume_writing()
        if not self.pipeline:
            self.flow.resume_reading()
            self._await_request()

    # --- the parser calls these

    def on_message_begin(self) -> None:
        """A request begins."""
        self.begin()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """The head of a request is complete."""
        self._in_head = False
        super().on_headers_complete()
        self._own = self.cycle

    def on_message_complete(self) -> None:
        """A request is complete."""
        self._in_request = False
        super().on_message_complete()

    # --- uvicorn calls these

    def on_response_complete(self) -> None:
        """An answer is written. uvicorn reads on, whether or not the client does."""
        super().on_response_complete()
        if self.flow.write_paused:
            self.flow.pause_reading()
            self._unset_keepalive_if_required()

    # --- for the class on top

    def begin(self) -> None:
        """Notes that a request begins."""
        self._in_request = self._in_head = True
        self._own = None
        self._bytes = 0
        self._since = 0.0

    def write(self, response: Response, *, keep_alive: bool) -> None:
        """Writes an answer. Without ``keep_alive`` nothing more is read; closing is the caller's business."""
        parts = [_STATUS_LINES[response.status]]
        parts += [b"%b: %b\r\n" % header for header in response.headers]
        if not keep_alive:
            self._hung_up = True
            parts.append(b"connection: close\r\n")
        parts.append(b"content-length: %d\r\n\r\n" % len(response.body))
        parts.append(response.body)
        self.transport.write(b"".join(parts))

    def hang_up(self, response: Response) -> None:
        """Answers for the last time, and closes when the client has had a moment to see it."""
        self._bytes = 0
        self.write(response, keep_alive=False)
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.loop.call_later(self.limits.linger_s, self.transport.abort)

    def refuse(self, response: Response) -> None:
        """Ends a request that is not read any further: with ``response``, where it is this request's turn."""
        own, last = self._own, self._last
        if self._hung_up or self.transport.is_closing():
            return
        if own is None and last is not None and not last.response_complete:
            last.keep_alive = False  # those before it are still answered
            self._hung_up = True
        elif own is not None and (own.response_started or self.pipeline):
            self.transport.close()
        else:
            if own is not None:
                own.disconnected = True
                own.message_event.set()
            self.hang_up(response)

    @property
    def _last(self) -> RequestResponseCycle | None:
        """The last request that uvicorn has got; it declares ``cycle`` without the ``None`` that it begins with."""
        return self.cycle

    @property
    def idle(self) -> bool:
        """Whether all that uvicorn has got is answered."""
        last = self._last
        return last is None or last.response_complete

    # --- inside

    def _feed(self, piece: bytes | memoryview) -> None:
        if self._hung_up:
            self._bytes += len(piece)
            if self._bytes > self.limits.request_bytes:
                self.transport.abort()
            return
        continued = self._in_request
        try:
            self.parser.feed_data(piece)
        except httptools.HttpParserUpgrade:
            self._unsupported_upgrade_warning()
        except httptools.HttpParserCallbackError as error:
            self._failed(error.__context__)
        except httptools.HttpParserError as error:
            self.refuse(_error(400, f"not a valid HTTP request: {error}"))
        else:
            if continued and self._in_request:
                self._bytes += len(piece)
                self._check_size()

    def _failed(self, error: BaseException | None) -> None:
        """Something called by the parser has raised ``error``."""
        if isinstance(error, HungUpError):
            return
        if isinstance(error, httptools.HttpParserError):
            self.refuse(_error(400, f"not a valid HTTP request: {error}"))
            return
        log.error("a request failed unexpectedly", exc_info=error)
        if self._in_request:
            self.refuse(_error(500, UNEXPECTED))
        else:  # it is answered already
            self.transport.close()

    def _check_size(self) -> None:
        limits = self.limits
        if self._in_head and self._bytes > limits.head_bytes:
            self.refuse(_error(431, f"the headers have more than {limits.head_bytes} bytes"))
        elif self._bytes > limits.request_bytes:
            self.refuse(_error(413, f"the request has more than {limits.request_bytes} bytes"))

    def _check(self) -> None:
        """Whether the rest of a request has been awaited for too long."""
        now, wait_s = self.loop.time(), self.limits.request_s
        if self.transport.is_closing():  # and waits for the client to take its last answer
            self.loop.call_later(wait_s, self.transport.abort)
            return
        if self.flow.read_paused and self._since:
            self._since = now  # it is not the client that is slow
        due = (self._since or now) + wait_s
        if now < due:
            self._watch = self.loop.call_at(due, self._check)
        elif self._in_request:
            self.refuse(_error(408, f"the request was not complete within {wait_s:g} s"))
        else:
            self.transport.close()

    def _check_stall(self, unsent: int) -> None:
        left = self.transport.get_write_buffer_size()
        if left < unsent:
            self._stall = self.loop.call_later(self.limits.stall_s, self._check_stall, left)
        else:
            self.transport.abort()

    def _await_request(self) -> None:
        """Starts the time for which a connection without a request is kept, where it is not running."""
        if (
            self.timeout_keep_alive_task is None
            and not (self._in_request or self._hung_up or self.flow.write_paused)
            and self.idle
        ):
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )


def _error(status: int, message: str) -> Response:
    return Response(status, error_body(message))
