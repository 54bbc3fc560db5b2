"""uvicorn's life of a server (start, clock, orderly stop) around connections of our own."""

from __future__ import annotations

import contextlib
import errno
import socket
from typing import TYPE_CHECKING, Any

import uvicorn

from tierwise.core.errors import ConfigurationError
from tierwise.serving.http_connection import Fullness, HttpConnection
from tierwise.serving.http_parser import HttpLimits
from tierwise.serving.http_response import Renderer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

    from starlette.types import ASGIApp

    from tierwise.serving.predict import PredictEndpoint
    from tierwise.serving.settings import Endpoint

CLOSING_S = 3
"""How long a stopping server waits for clients to take their answers, which are all there by then."""
SPARE_BYTES = 2**24
"""Beyond the payload limit, for headers, for chunked bodies, and to see whether a body that was refused ends."""


class HttpServer(uvicorn.Server):
    """uvicorn without its own signal handling: the service decides when it stops."""

    def __init__(self, app: ASGIApp, predict: PredictEndpoint, *, max_payload_bytes: int, max_connections: int) -> None:
        class Connection(HttpConnection):
            endpoint = predict
            limits = HttpLimits(
                body_bytes=max_payload_bytes,
                request_bytes=max_payload_bytes + SPARE_BYTES,
                connections=max_connections,
            )
            renderer = Renderer()
            fullness = Fullness()

        config = uvicorn.Config(
            app,
            http=Connection,
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


def listen(endpoint: Endpoint) -> socket.socket:
    """A listening socket. Raises ``ConfigurationError`` where the address is taken, which uvicorn answers by exit."""
    family = socket.AF_INET6 if ":" in endpoint.host else socket.AF_INET
    try:
        return socket.create_server((endpoint.host, endpoint.port), family=family, backlog=2048)
    except (OSError, OverflowError) as error:
        reason: Any = getattr(error, "strerror", None) or error
        is_taken = getattr(error, "errno", None) == errno.EADDRINUSE
        cure = "; end what listens there, or choose another port, as in --http 127.0.0.1:8081" if is_taken else ""
        raise ConfigurationError(f"cannot listen on {endpoint} (--http): {reason}{cure}") from error
