"""HTTP responses as values, and as the bytes that travel."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, NamedTuple

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable

Headers = tuple[tuple[bytes, bytes], ...]

JSON: Headers = ((b"content-type", b"application/json"),)

_STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}


UNEXPECTED = "internal error, the log of the service tells more"
"""The error of a request that failed in a way nobody thought of."""


class Response(NamedTuple):
    """Status, body, and all headers but the body's length and those that every response has."""

    status: int
    body: bytes
    headers: Headers = JSON


def error_response(status: int, message: str, *more: tuple[bytes, bytes]) -> Response:
    """The form of every error; ``more`` are further headers."""
    return Response(status, msgspec.json.encode({"error": message}), (*JSON, *more) if more else JSON)


class Renderer:
    """Renders responses. Headers that many have in common are rendered once."""

    def __init__(self) -> None:
        self._shared: Iterable[tuple[bytes, bytes]] = ()
        self._shared_lines = b""
        self._json_lines = _lines(JSON)

    def render(
        self,
        response: Response,
        shared: Iterable[tuple[bytes, bytes]],
        *,
        keep_alive: bool = True,
        with_body: bool = True,
    ) -> bytes:
        """The response in one piece. ``shared``, headers of every response, is replaced and never changed."""
        status, body, headers = response
        if shared is not self._shared:
            self._shared, self._shared_lines = shared, _lines(shared)
            self._json_lines = self._shared_lines + _lines(JSON)
        lines = self._json_lines if headers is JSON else self._shared_lines + _lines(headers)
        if not keep_alive:
            lines += b"connection: close\r\n"
        return b"%b%bcontent-length: %d\r\n\r\n%b" % (
            _STATUS_LINES[status],
            lines,
            len(body),
            body if with_body else b"",
        )


def _lines(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    return b"".join(b"%b: %b\r\n" % header for header in headers)
