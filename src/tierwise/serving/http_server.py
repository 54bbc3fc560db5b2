"""uvicorn, with a short cut for ``POST /predict`` where the data plane answers at once.

An ASGI call costs a scope, a task, an event and two messages, which together take as long as answering does. Where the
answer is there before ``submit`` returns, the protocol writes it itself; all else (other paths, slow models, simulated
delays, bodies announced with ``Expect``) goes the ordinary way through the application.
"""

from __future__ import annotations

import contextlib
import socket
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from tierwise.core.errors import ConfigurationError
from tierwise.serving.predict import PATH, Response

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

    from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

    from tierwise.serving.http import HttpApp
    from tierwise.serving.predict import PredictEndpoint
    from tierwise.serving.settings import Endpoint

_PATH = PATH.encode()
_STATUS_LINES = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-type: application/json\r\n".encode()
    for status in HTTPStatus
}


class HttpServer(uvicorn.Server):
    """uvicorn without its own signal handling: the service decides when it stops."""

    def __init__(self, app: HttpApp, predict: PredictEndpoint, *, drain_s: float) -> None:
        class Protocol(PredictProtocol):
            endpoint = predict

        config = uvicorn.Config(
            app,
            http=Protocol if predict.plane.immediate else "httptools",
            ws="none",
            lifespan="off",
            access_log=False,
            log_config=None,
            log_level="warning",
            server_header=False,
            timeout_graceful_shutdown=max(1, round(drain_s)),
        )
        super().__init__(config)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leaves the signals to the service."""
        yield

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Never called, as no signal is captured."""
        del sig, frame


class PredictProtocol(HttpToolsProtocol):
    """One connection. Between two requests it is uvicorn's protocol in every respect."""

    endpoint: PredictEndpoint
    _body: list[bytes] | None = None
    """Pieces of the body of a request on the short cut; ``None`` on the ordinary way."""
    _size = 0
    _refused = False

    def on_message_begin(self) -> None:
        """A request begins. What the application needs to know of it is gathered only when it gets it."""
        self.url = b""
        self.headers = []
        self.expect_100_continue = False
        self._body = None

    def on_headers_complete(self) -> None:
        """Decides which way the request goes."""
        cycle: RequestResponseCycle | None = self.cycle  # uvicorn declares it without the None that it begins with
        idle = cycle is None or cycle.response_complete
        if (
            self.url == _PATH
            and idle
            and not self.pipeline
            and not self.expect_100_continue
            and self.parser.get_method() == b"POST"
            and not self.parser.should_upgrade()
        ):
            self._body = []
            self._size = 0
            self._refused = False
            return
        url, headers, expect_100_continue = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()
        self.url = url
        self.headers += headers
        self.expect_100_continue = expect_100_continue
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A piece of the body. What is beyond the limit is read, for a while, but not kept."""
        if self._body is None:
            super().on_body(body)
        elif not self._refused:
            self._size += len(body)
            if self._size <= self.endpoint.max_payload_bytes:
                self._body.append(body)
                return
            # Closing now would reset the connection while the client still sends, and it would not see the answer.
            self._refused = True
            self._body = []
            self._write(self.endpoint.refuse(self.endpoint.too_large(), self.headers), keep_alive=False)

    def on_message_complete(self) -> None:
        """The request is complete: answers it."""
        if self._body is None:
            super().on_message_complete()
        elif self._refused:
            self.transport.close()
        else:
            body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
            self.endpoint.submit(body, self.headers, self._respond)

    def _respond(self, response: Response) -> None:
        self.server_state.total_requests += 1
        keep_alive = self.parser.should_keep_alive() and self.endpoint.plane.accepting
        self._write(response, keep_alive=keep_alive)
        if not keep_alive:
            self.transport.close()

    def _write(self, response: Response, *, keep_alive: bool) -> None:
        parts = [_STATUS_LINES[response.status]]
        parts += [b"%b: %b\r\n" % header for header in response.headers]
        if not keep_alive:
            parts.append(b"connection: close\r\n")
        parts.append(b"content-length: %d\r\n\r\n" % len(response.body))
        parts.append(response.body)
        self.transport.write(b"".join(parts))
        self._unset_keepalive_if_required()
        self.timeout_keep_alive_task = self.loop.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)


def listen(endpoint: Endpoint) -> socket.socket:
    """A listening socket. Raises ``ConfigurationError`` where the address is taken, which uvicorn answers by exit."""
    family = socket.AF_INET6 if ":" in endpoint.host else socket.AF_INET
    try:
        return socket.create_server((endpoint.host, endpoint.port), family=family, backlog=2048)
    except (OSError, OverflowError) as error:
        reason: Any = getattr(error, "strerror", None) or error
        raise ConfigurationError(f"cannot listen on {endpoint} (--http): {reason}") from error
