"""The HTTP transport as an ASGI application: ``POST /predict`` as a bare path, the rest on Starlette."""

from __future__ import annotations

import asyncio
import functools
from typing import TYPE_CHECKING

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Route

from tierwise.core.errors import InvalidRequestError, TierwiseError
from tierwise.serving.metrics import OPENMETRICS_CONTENT_TYPE, TEXT_CONTENT_TYPE
from tierwise.serving.predict import PATH, UNEXPECTED, error_body
from tierwise.serving.predict import Response as Prediction

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from starlette.requests import Request as HttpRequest
    from starlette.types import ASGIApp, Receive, Scope, Send

    from tierwise.serving.health import Health
    from tierwise.serving.metrics import ServiceMetrics
    from tierwise.serving.predict import PredictEndpoint

JSON = "application/json"
OPENMETRICS = "application/openmetrics-text"


class HttpApp:
    """ASGI application of one service."""

    def __init__(self, predict: PredictEndpoint, *, metrics: ServiceMetrics, health: Health) -> None:
        self._endpoint = predict
        self._rest: ASGIApp = Starlette(
            routes=[
                Route("/health", _health_endpoint(health), methods=["GET"]),
                Route("/metrics", _metrics_endpoint(metrics), methods=["GET"]),
            ],
            exception_handlers={HTTPException: _http_error, Exception: _unexpected},
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends ``POST /predict`` down the short path."""
        if scope["type"] == "http" and scope["path"] == PATH:
            if scope["method"] == "POST":
                await self._answer(receive, send, scope["headers"])
            else:
                await _send(send, Prediction(405, error_body("use POST"), ((b"allow", b"POST"),)))
        else:
            await self._rest(scope, receive, send)

    async def _answer(self, receive: Receive, send: Send, headers: Iterable[tuple[bytes, bytes]]) -> None:
        try:
            response = await self._predict(receive, headers)
        except Exception:
            await _send(send, Prediction(500, error_body(UNEXPECTED)))
            raise  # to uvicorn, which logs it
        await _send(send, response)

    async def _predict(self, receive: Receive, headers: Iterable[tuple[bytes, bytes]]) -> Prediction:
        try:
            body = await _read_body(receive, self._endpoint)
        except TierwiseError as error:
            return self._endpoint.refuse(error, headers)
        future: asyncio.Future[Prediction] = asyncio.get_running_loop().create_future()
        self._endpoint.submit(body, headers, functools.partial(_resolve, future))
        return await future


def _resolve(future: asyncio.Future[Prediction], response: Prediction) -> None:
    if not future.done():  # the server cancels what it still runs when its time to stop is over
        future.set_result(response)


async def _send(send: Send, response: Prediction) -> None:
    headers = [(b"content-type", JSON.encode()), (b"content-length", b"%d" % len(response.body)), *response.headers]
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    await send({"type": "http.response.body", "body": response.body})


async def _read_body(receive: Receive, endpoint: PredictEndpoint) -> bytes:
    """The whole body, read only up to the limit. Raises ``PayloadTooLargeError``."""
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise InvalidRequestError("the client went away before the request was complete")
        chunks.append(message.get("body", b""))
        size += len(chunks[-1])
        if size > endpoint.max_payload_bytes:
            raise endpoint.too_large()
        if not message.get("more_body"):
            return b"".join(chunks)


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
    return Response(error_body(str(error.detail)), error.status_code, headers=error.headers, media_type=JSON)


async def _unexpected(_: HttpRequest, error: Exception) -> Response:
    """Starlette raises ``error`` again afterwards, and uvicorn logs it."""
    del error
    return Response(error_body(UNEXPECTED), 500, media_type=JSON)
