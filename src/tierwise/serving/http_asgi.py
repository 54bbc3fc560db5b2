"""One request through an ASGI application, for pages whose answers are small and where speed is not the point."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from tierwise.serving.http_response import UNEXPECTED, Response, error_response

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Scope

    from tierwise.serving.http_parser import HttpRequest

log = logging.getLogger("tierwise.http")


async def answer(
    app: ASGIApp, request: HttpRequest, *, server: tuple[str, int | None] | None, client: tuple[str, int] | None
) -> Response:
    """The application's response, gathered to its end. An application that fails gives 500, and a line in the log.

    The application never hears that the client has left: cancel this instead.
    """
    scope: Scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": request.version,
        "method": request.method.decode("ascii"),
        "scheme": "http",
        "path": request.target.path,
        "raw_path": request.target.raw_path,
        "query_string": request.target.query,
        "root_path": "",
        "headers": request.headers,
        "server": server,
        "client": client,
    }
    bodies = [request.body]
    started: dict[str, Any] = {}
    pieces: list[bytes] = []
    is_complete = False

    async def receive() -> Message:
        if bodies:
            return {"type": "http.request", "body": bodies.pop(), "more_body": False}
        never: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        return await never

    async def send(message: Message) -> None:
        nonlocal is_complete
        if message["type"] == "http.response.start":
            started.update(message)
        else:
            pieces.append(message.get("body", b""))
            is_complete = not message.get("more_body", False)

    try:
        await app(scope, receive, send)
    except Exception as error:  # a page that fails must not end the service
        log.exception("a request failed unexpectedly", exc_info=error)
    if not is_complete:
        return error_response(500, UNEXPECTED)
    headers = tuple((name, value) for name, value in started.get("headers", ()) if name != b"content-length")
    return Response(started["status"], b"".join(pieces), headers)
