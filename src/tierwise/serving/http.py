"""The pages beside ``POST /predict``, as an ASGI application."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Route

from tierwise.serving.http_response import UNEXPECTED, error_response
from tierwise.serving.metrics import OPENMETRICS_CONTENT_TYPE, TEXT_CONTENT_TYPE
from tierwise.serving.predict import PATH

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from starlette.requests import Request as HttpRequest
    from starlette.types import ASGIApp

    from tierwise.serving.health import Health
    from tierwise.serving.metrics import ServiceMetrics

JSON = "application/json"
OPENMETRICS = "application/openmetrics-text"


def http_app(*, metrics: ServiceMetrics, health: Health) -> ASGIApp:
    """ASGI application of one service."""
    return Starlette(
        routes=[
            Route("/health", _health_endpoint(health), methods=["GET"]),
            Route("/health/live", _live, methods=["GET"]),
            Route("/metrics", _metrics_endpoint(metrics), methods=["GET"]),
            Route(PATH, _error(405, "use POST", {"allow": "POST"})),  # POST is not seen here
        ],
        exception_handlers={HTTPException: _http_error, Exception: _unexpected},
    )


def _health_endpoint(health: Health) -> Callable[[HttpRequest], Awaitable[Response]]:
    async def endpoint(_: HttpRequest) -> Response:
        report = health.report()
        return Response(msgspec.json.encode(report), 200 if report["status"] == "ok" else 503, media_type=JSON)

    return endpoint


async def _live(_: HttpRequest) -> Response:
    """An answer at all says that the event loop runs; a service that drains or waits for its broker is alive."""
    return Response(b'{"status":"alive"}', media_type=JSON)


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
    return _error(error.status_code, str(error.detail), error.headers)


async def _unexpected(_: HttpRequest, error: Exception) -> Response:
    """Starlette raises ``error`` again afterwards, for the log."""
    del error
    return _error(500, UNEXPECTED)


def _error(status: int, message: str, headers: Mapping[str, str] | None = None) -> Response:
    return Response(error_response(status, message).body, status, headers, media_type=JSON)
