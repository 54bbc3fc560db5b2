"""uvicorn, with a short cut for ``POST /predict`` where the data plane answers at once.

An ASGI call costs a scope, a task, an event and two messages, which together take as long as answering does. Where the
answer is there before ``submit`` returns, the protocol writes it itself; all else (other paths, slow models, simulated
delays, bodies announced with ``Expect``) goes the ordinary way through the application.
"""

from __future__ import annotations

import contextlib
import socket
from typing import TYPE_CHECKING, Any

import uvicorn

from tierwise.core.errors import ConfigurationError, InvalidRequestError
from tierwise.serving.http_guard import GuardedProtocol, HttpLimits, HungUpError
from tierwise.serving.predict import PATH

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

    from tierwise.serving.http import HttpApp
    from tierwise.serving.predict import PredictEndpoint, Response
    from tierwise.serving.settings import Endpoint

_PATH = PATH.encode()
CLOSING_S = 3
"""How long a stopping server waits for clients to take their answers, which are all there by then."""
SPARE_BYTES = 2**24
"""Beyond the payload limit, for headers, for chunked bodies, and to see whether a body that was refused ends."""


class HttpServer(uvicorn.Server):
    """uvicorn without its own signal handling: the service decides when it stops."""

    def __init__(self, app: HttpApp, predict: PredictEndpoint) -> None:
        class Protocol(PredictProtocol):
            endpoint = predict
            immediate = predict.plane.immediate
            limits = HttpLimits(request_bytes=predict.max_payload_bytes + SPARE_BYTES)

        config = uvicorn.Config(
            app,
            http=Protocol,
            ws="none",
            lifespan="off",
            access_log=False,
            log_config=None,
            log_level="warning",
            server_header=False,
            timeout_graceful_shutdown=CLOSING_S,
        )
        super().__init__(config)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leaves the signals to the service."""
        yield

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Never called, as no signal is captured."""
        del sig, frame


class PredictProtocol(GuardedProtocol):
    """One connection. Between two requests it is uvicorn's protocol in every respect but its limits."""

    endpoint: PredictEndpoint
    immediate: bool
    """Whether ``endpoint`` nearly always answers before ``submit`` returns; without it there is no short cut."""
    _body: list[bytes] | None = None
    """Pieces of the body of a request on the short cut; ``None`` on the ordinary way."""
    _size = 0
    _waiting = False
    """Whether a request on the short cut has not been answered yet."""
    _is_late = False
    _is_last = False

    def on_message_begin(self) -> None:
        """A request begins. What the application needs to know of it is gathered only when it gets it."""
        if self._waiting:
            # Pipelined behind a request that is answered later: the connection ends after that answer.
            self._is_last = True
            raise HungUpError
        self.begin()
        self.url = b""
        self.headers = []
        self.expect_100_continue = False
        self._body = None

    def on_headers_complete(self) -> None:
        """Decides which way the request goes."""
        if self._hung_up:
            raise HungUpError
        if (
            self.url == _PATH
            and self.immediate
            and self.idle
            and not self.pipeline
            and not self.expect_100_continue
            and self.parser.get_method() == b"POST"
            and not self.parser.should_upgrade()
        ):
            self._in_head = False
            self._body = []
            self._size = 0
            return
        url, headers, expect_100_continue = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()
        self.url = url
        self.headers += headers
        self.expect_100_continue = expect_100_continue
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        if self._body is None:
            super().on_body(body)
            return
        self._size += len(body)
        if self._size > self.endpoint.max_payload_bytes:
            self._body = None
            self.hang_up(self.endpoint.refuse(self.endpoint.too_large(), self.headers))
            raise HungUpError
        self._body.append(body)

    def on_message_complete(self) -> None:
        """The request is complete: answers it."""
        pieces = self._body
        if pieces is None:
            super().on_message_complete()
            return
        self._waiting = True
        self.endpoint.submit(pieces[0] if len(pieces) == 1 else b"".join(pieces), self.headers, self._respond)
        if self._waiting:  # a large batch, or a request behind one: the answer comes later
            self._is_late = True
            self.flow.pause_reading()

    def refuse(self, response: Response) -> None:
        """Ends a request that is not read any further; notes it in the metrics as the ordinary way does."""
        if self._body is not None:
            self._body = None
            self.endpoint.refuse(InvalidRequestError("the request was not complete"), self.headers)
        super().refuse(response)

    def _respond(self, response: Response) -> None:
        self._waiting = False
        if self.transport.is_closing():
            return  # the client has not waited for it
        if self._is_late and not self.flow.write_paused:
            self.flow.resume_reading()
        self._is_late = False
        self.server_state.total_requests += 1
        self._in_request = False
        self._body = None
        keep_alive = self.parser.should_keep_alive() and self.endpoint.plane.accepting and not self._is_last
        self.write(response, keep_alive=keep_alive)
        if not keep_alive:
            self.transport.close()


def listen(endpoint: Endpoint) -> socket.socket:
    """A listening socket. Raises ``ConfigurationError`` where the address is taken, which uvicorn answers by exit."""
    family = socket.AF_INET6 if ":" in endpoint.host else socket.AF_INET
    try:
        return socket.create_server((endpoint.host, endpoint.port), family=family, backlog=2048)
    except (OSError, OverflowError) as error:
        reason: Any = getattr(error, "strerror", None) or error
        raise ConfigurationError(f"cannot listen on {endpoint} (--http): {reason}") from error
