"""The HTTP transport: ``POST /predict`` as a bare ASGI path, the rest on Starlette."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Route

from tierwise.core.clocks import monotonic_ns
from tierwise.core.errors import (
    DeadlineExceededError,
    InvalidInputError,
    InvalidRequestError,
    OverloadedError,
    PayloadTooLargeError,
    TierwiseError,
    UnknownModelError,
)
from tierwise.messaging.predict_body import decode_predict, encode_predict
from tierwise.serving import traceparent
from tierwise.serving.metrics import OK, OPENMETRICS_CONTENT_TYPE, TEXT_CONTENT_TYPE
from tierwise.serving.tracing import traceparent_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.requests import Request as HttpRequest
    from starlette.types import ASGIApp, Receive, Scope, Send

    from tierwise.serving.dataplane import DataPlane
    from tierwise.serving.health import Health
    from tierwise.serving.metrics import ServiceMetrics
    from tierwise.serving.tracing import Tracer

STATUS: dict[type[TierwiseError], int] = {
    InvalidRequestError: 400,
    InvalidInputError: 400,
    UnknownModelError: 404,
    PayloadTooLargeError: 413,
    OverloadedError: 503,
    DeadlineExceededError: 504,
}
"""The one table from errors to HTTP; everything else is 500."""

JSON = "application/json"
OPENMETRICS = "application/openmetrics-text"


class HttpApp:
    """ASGI application of one service."""

    def __init__(
        self, plane: DataPlane, *, metrics: ServiceMetrics, health: Health, tracer: Tracer, max_payload_bytes: int
    ) -> None:
        self._plane = plane
        self._tracer = tracer
        self._max_payload_bytes = max_payload_bytes
        self._meter = metrics.meter(plane.model.name, plane.model.version, "http")
        self._rest: ASGIApp = Starlette(
            routes=[
                Route("/health", _health_endpoint(health), methods=["GET"]),
                Route("/metrics", _metrics_endpoint(metrics), methods=["GET"]),
            ],
            exception_handlers={HTTPException: _http_error},
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends ``POST /predict`` down the short path."""
        if scope["type"] == "http" and scope["path"] == "/predict":
            if scope["method"] == "POST":
                await self._predict(scope, receive, send)
            else:
                await _send(send, 405, _error_body("use POST"), (b"allow", b"POST"))
        else:
            await self._rest(scope, receive, send)

    async def _predict(self, scope: Scope, receive: Receive, send: Send) -> None:
        received_ns = monotonic_ns()
        trace = self._tracer.begin(traceparent_of(scope["headers"]))
        extra: tuple[tuple[bytes, bytes], ...] = () if trace is None else ((_TRACEPARENT, trace.traceparent.encode()),)
        body = b""
        answer = None
        try:
            body = await _read_body(scope, receive, self._max_payload_bytes)
            answer = await self._plane.ask(decode_predict(body, received_ns=received_ns), self._meter)
            payload = encode_predict(answer)
        except TierwiseError as error:
            code, status = error.code, STATUS.get(type(error), 500)
            payload = _error_body(str(error))
            if isinstance(error, OverloadedError):
                extra += ((_RETRY_AFTER, str(round(error.retry_after_s)).encode()),)
        else:
            code, status = OK, 200
        await _send(send, status, payload, *extra)
        self._meter.finished(code, monotonic_ns() - received_ns, len(body), len(payload))
        if trace is not None:
            self._tracer.finish(trace, self._meter, code, received_ns, answer)


_RETRY_AFTER = b"retry-after"
_TRACEPARENT = traceparent.HEADER.encode()
_CONTENT_TYPE = (b"content-type", JSON.encode())


async def _send(send: Send, status: int, body: bytes, *extra: tuple[bytes, bytes]) -> None:
    headers = [_CONTENT_TYPE, (b"content-length", b"%d" % len(body)), *extra]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _read_body(scope: Scope, receive: Receive, limit: int) -> bytes:
    """The whole body, read only up to ``limit`` bytes. Raises ``PayloadTooLargeError``."""
    for name, value in scope["headers"]:
        if name == b"content-length" and int(value) > limit:
            raise _too_large(limit)
    message = await receive()
    if message["type"] == "http.request" and not message.get("more_body"):
        body: bytes = message.get("body", b"")
        return body if len(body) <= limit else _raise(_too_large(limit))
    chunks, size = [], 0
    while message["type"] == "http.request":
        chunks.append(message.get("body", b""))
        size += len(chunks[-1])
        if size > limit:
            raise _too_large(limit)
        if not message.get("more_body"):
            return b"".join(chunks)
        message = await receive()
    raise InvalidRequestError("the client went away before the request was complete")


def _too_large(limit: int) -> PayloadTooLargeError:
    return PayloadTooLargeError(f"the request has more than {limit} bytes (--max-payload-bytes)")


def _raise(error: TierwiseError) -> bytes:
    raise error


def _error_body(message: str) -> bytes:
    return msgspec.json.encode({"error": message})


def _health_endpoint(health: Health) -> Callable[[HttpRequest], Awaitable[Response]]:
    async def endpoint(_: HttpRequest) -> Response:
        report = health.report()
        return Response(msgspec.json.encode(report), 200 if report["status"] == "ok" else 503, media_type=JSON)

    return endpoint


def _metrics_endpoint(metrics: ServiceMetrics) -> Callable[[HttpRequest], Awaitable[Response]]:
    async def endpoint(request: HttpRequest) -> Response:
        metrics.count()
        # Rendering takes a millisecond or two, which no request should wait for.
        accept = request.headers.get("accept", "")
        if OPENMETRICS in accept:
            text = await asyncio.to_thread(metrics.openmetrics)
            return Response(text, headers={"content-type": OPENMETRICS_CONTENT_TYPE})
        if JSON in accept:
            return Response(msgspec.json.encode(await asyncio.to_thread(metrics.json)), media_type=JSON)
        return Response(await asyncio.to_thread(metrics.text), headers={"content-type": TEXT_CONTENT_TYPE})

    return endpoint


async def _http_error(_: HttpRequest, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    body: dict[str, Any] = {"error": str(error.detail)}
    return Response(msgspec.json.encode(body), error.status_code, headers=error.headers, media_type=JSON)
