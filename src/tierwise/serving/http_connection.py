"""One HTTP connection: requests are answered in their order, and a client that is too slow or too greedy is let go.

``POST /predict`` goes straight to its endpoint, which mostly answers before it returns: no task, no event, one write.
Everything else goes through the ASGI application. All answers leave in the same way, whenever they come.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from typing import TYPE_CHECKING, Any

from uvicorn.protocols.utils import get_local_addr, get_remote_addr

from tierwise.core.errors import InvalidRequestError, OverloadedError
from tierwise.serving import http_asgi
from tierwise.serving.http_parser import HttpLimits, RefusedError, RequestParser
from tierwise.serving.http_response import UNEXPECTED, Renderer, error_response
from tierwise.serving.lazy_timer import LazyTimer
from tierwise.serving.predict import PATH

if TYPE_CHECKING:
    from uvicorn import Config
    from uvicorn.server import ServerState

    from tierwise.serving.http_parser import HttpRequest
    from tierwise.serving.http_response import Response
    from tierwise.serving.predict import PredictEndpoint

FOR_PROBES = frozenset({"/health", "/health/live", "/metrics"})
"""What is answered also when too many connections are open."""

log = logging.getLogger("tierwise.http")


class Fullness:
    """Tells once a spell that no place is left; a spell ends when more than a tenth of the places is free again."""

    def __init__(self) -> None:
        self._is_told = False

    def note(self, others: int, places: int) -> None:
        """A client has come, and ``others`` are there."""
        if others >= places:
            if not self._is_told:
                log.warning("no more connections are taken (--max-connections)", extra={"open": others})
            self._is_told = True
        elif others < 0.9 * places:
            self._is_told = False


class HttpConnection(asyncio.Protocol):
    """What uvicorn makes for each client, and tells to ``shutdown``. A server sets the class attributes."""

    endpoint: PredictEndpoint
    limits = HttpLimits()
    renderer: Renderer
    fullness: Fullness
    transport: asyncio.Transport

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        del app_state  # there is no lifespan that could have one
        self.keep_alive_s: float = config.timeout_keep_alive
        self.write_paused = False
        """Whether the client does not take its answers."""
        self._app = config.loaded_app
        self._server = server_state
        self._loop = _loop or asyncio.get_running_loop()
        self._parser = RequestParser(self.limits)
        self._timer = LazyTimer(self._loop, self._passed)
        self._request: HttpRequest | None = None
        """The request that is being answered."""
        self._is_late = False
        """Whether its answer did not come at once."""
        self._task: asyncio.Task[None] | None = None
        self._awaited = 0
        """The request of which the rest is awaited, by its number."""
        self._read_paused = False
        self._ends = False
        """What comes is thrown away: the connection ends with the answer to what has come before."""
        self._refusal = b""
        """The last response, where it has to wait for those before it."""
        self._heard_all = False
        """The client has said that it sends nothing more."""
        self._lingers = False
        """All is said, and the client has a moment to hear it."""
        self._dropped = 0
        self._unsent = 0
        self._is_spare = False
        """All connections but those for probes are taken."""

    # --- the event loop and uvicorn call these

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as sockets have it
        """A client has come, and has to send a request in time."""
        self.transport = transport
        limits, others = self.limits, len(self._server.connections)
        self.fullness.note(others, limits.connections)
        if others >= limits.connections:
            if others >= limits.connections + limits.spare_connections:
                transport.write(self._rendered(_too_many(limits), None, keep_alive=False))
                transport.close()
                return
            self._is_spare = True
            self.limits = limits._replace(request_s=limits.spare_s)
        self._server.connections.add(self)  # type: ignore[arg-type]  # it names its own protocols only
        self._timer.set(self.limits.request_s)

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone."""
        del exc
        self._server.connections.discard(self)
        self._timer.cancel()
        self._parser.close()
        if self._task is not None:
            self._task.cancel()

    def data_received(self, data: bytes) -> None:
        """Answers what is complete, where that is possible at once."""
        if self._ends:
            self._dropped += len(data)
            if self._dropped > self.limits.request_bytes:
                self.transport.abort()
            return
        try:
            self._parser.feed(data)
        except RefusedError as refusal:
            self._parser.expects_continue = False
            self._go_on()
            self._refuse(refusal)
            return
        self._go_on()

    def eof_received(self) -> bool:
        """The client sends nothing more. Whether it may still take answers, and the connection stays open for them."""
        self._ends = self._heard_all = True
        if self._request is not None or self._parser.ready or self._refusal:
            return True
        if not self._lingers:
            self._await_reader()
        return False

    def pause_writing(self) -> None:
        """The client does not take its answers: no more requests are read from it, and none answered."""
        self.write_paused = True
        self._await_reader()
        self._set_reading()

    def resume_writing(self) -> None:
        """The client has taken most of what was written."""
        self.write_paused = False
        self._awaited = 0
        self._go_on()

    def shutdown(self) -> None:
        """The server stops: ends when what has come is answered."""
        if self._request is None and not self._parser.ready:
            self._close()
        else:
            self._ends = True

    # --- answering

    def _go_on(self) -> None:
        """Answers what can be answered, and sees to it that what comes next does come, in time."""
        parser = self._parser
        ready = parser.ready
        while ready and self._request is None and not self.write_paused:
            self._answer(ready.popleft())
        if self._ends or self.write_paused:
            if self._refusal and self._request is None and not ready:
                self._hang_up(self._refusal)
            return
        begun = parser.begun
        if begun:
            if begun != self._awaited:
                self._timer.set(self.limits.request_s)
            head = parser.head
            if parser.expects_continue and self._request is None and head is not None and head.version != "1.0":
                parser.expects_continue = False
                self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        elif self._request is None:
            self._timer.set(self.keep_alive_s)
        self._awaited = begun
        if self._read_paused or ready:
            self._set_reading()

    def _answer(self, request: HttpRequest) -> None:
        self._request = request
        if self._is_spare:
            request.keep_alive = False
            if request.target.path not in FOR_PROBES:
                self._respond(self._too_many_for(request))
                return
        if not _is_predict(request):
            self._is_late = True
            self._task = self._loop.create_task(self._call_app(request))
            self._server.tasks.add(self._task)
            self._task.add_done_callback(self._server.tasks.discard)
            return
        try:
            self.endpoint.submit(request.body, request.headers, self._respond)
        except Exception as error:  # one bad request must not end the service
            log.exception("a request failed unexpectedly", exc_info=error)
            self._fail()
        self._is_late = self._request is not None

    def _too_many_for(self, request: HttpRequest) -> Response:
        if _is_predict(request):
            return self.endpoint.refuse(_too_many_error(self.limits), request.headers)
        return _too_many(self.limits)

    def _fail(self) -> None:
        if self._request is None:  # it is answered already
            self._close()
        else:
            self._respond(error_response(500, UNEXPECTED))

    async def _call_app(self, request: HttpRequest) -> None:
        server, client = get_local_addr(self.transport), get_remote_addr(self.transport)
        try:
            self._respond(await http_asgi.answer(self._app, request, server=server, client=client))
        except asyncio.CancelledError:  # the client has gone, or the server's time to stop is over
            self.transport.abort()
            raise

    def _respond(self, response: Response) -> None:
        request, self._request = self._request, None
        if request is None or self.transport.is_closing():
            return  # the client has not waited for it
        keep_alive = (
            request.keep_alive
            and self.endpoint.plane.accepting
            and not (self._ends and not self._parser.ready and not self._refusal)
        )
        rendered = self._rendered(response, request, keep_alive=keep_alive)
        if not keep_alive:
            self._hang_up(rendered)
            return
        self.transport.write(rendered)
        if self._is_late:
            self._is_late = False
            self._go_on()

    def _rendered(self, response: Response, request: HttpRequest | None, *, keep_alive: bool) -> bytes:
        with_body = request is None or request.method != b"HEAD"
        return self.renderer.render(response, self._server.default_headers, keep_alive=keep_alive, with_body=with_body)

    # --- ending

    def _refuse(self, refusal: RefusedError) -> None:
        """Ends the connection at a request that is not read any further, with an answer when it is its turn."""
        head = self._parser.head
        if head is not None and _is_predict(head):
            response = self.endpoint.refuse(refusal.error, head.headers)._replace(status=refusal.status)
        else:
            response = error_response(refusal.status, str(refusal))
        rendered = self._rendered(response, head, keep_alive=False)
        if self._request is None and not self._parser.ready:
            self._hang_up(rendered)
        else:
            self._ends = True
            self._refusal = rendered
            self._set_reading()

    def _hang_up(self, response: bytes) -> None:
        """Answers for the last time. Closing at once would reset the connection of a client that is still sending."""
        if self._lingers or self.transport.is_closing():
            return
        self._ends = self._lingers = True
        self._refusal = b""
        self._parser.ready.clear()
        self.transport.write(response)
        if self._heard_all:
            self._close()
            return
        self._set_reading()
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._unsent = sys.maxsize  # who has not taken all by then has the usual time for the rest
        self._timer.set(self.limits.linger_s)

    def _close(self) -> None:
        """Closes when all answers have left."""
        self._ends = True
        self._parser.ready.clear()
        self.transport.close()
        self._await_reader()

    # --- time and flow

    def _passed(self) -> None:
        """What was awaited has not come in time."""
        if self._lingers or self.write_paused or self.transport.is_closing():
            unsent = self.transport.get_write_buffer_size()
            if 0 < unsent < self._unsent:
                self._await_reader()
            else:
                self.transport.abort()
        elif self._parser.begun:
            if self._read_paused:  # it is not the client that is slow
                self._timer.set(self.limits.request_s)
            else:
                error = InvalidRequestError(f"the request was not complete within {self.limits.request_s:g} s")
                self._refuse(RefusedError(408, error))
        elif self._request is None:
            self._close()

    def _await_reader(self) -> None:
        self._unsent = self.transport.get_write_buffer_size()
        self._timer.set(self.limits.stall_s)

    def _set_reading(self) -> None:
        """Reads no further while requests wait: for the client to read, or for one before them.

        What is thrown away is read, lest closing the connection resets it before the client has read its answers.
        """
        pause = not self._ends and (self.write_paused or bool(self._parser.ready))
        if pause == self._read_paused or self.transport.is_closing():
            return
        self._read_paused = pause
        if pause:
            self.transport.pause_reading()
        else:
            self.transport.resume_reading()


def _too_many_error(limits: HttpLimits) -> OverloadedError:
    return OverloadedError(f"{limits.connections} connections are open already (--max-connections)")


def _too_many(limits: HttpLimits) -> Response:
    error = _too_many_error(limits)
    return error_response(503, str(error), (b"retry-after", b"%d" % max(1, round(error.retry_after_s))))


def _is_predict(request: HttpRequest) -> bool:
    return request.target.path == PATH and request.method == b"POST"
