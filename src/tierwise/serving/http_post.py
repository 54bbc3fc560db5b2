"""One HTTP POST from the event loop.

A thread with urllib would take the interpreter lock from the requests for up to 5 ms at a time, and an HTTP client
package would be a dependency for one call; httptools is here already for the server.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

import httptools

from tierwise.core.errors import TransportError

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping

_MOST_ANSWER_BYTES = 65_536
_CHUNK_BYTES = 16_384


class HttpReply(NamedTuple):
    """An answer: ``headers`` have lower-case names."""

    status: int
    headers: dict[str, str]
    body: bytes


async def post(
    url: str, body: bytes, headers: Mapping[str, str], *, tls: ssl.SSLContext | None, timeout_s: float
) -> HttpReply:
    """Posts ``body`` to an ``http`` or ``https`` URL, over a connection of its own.

    Redirects are not followed (a token must not go elsewhere) and proxies not used. Raises ``TransportError`` where no
    complete answer comes within ``timeout_s``.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    secure = parts.scheme == "https"
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    head = [
        f"POST {target} HTTP/1.1",
        f"Host: {parts.netloc}",
        "Connection: close",
        f"Content-Length: {len(body)}",
        *(f"{name}: {value}" for name, value in headers.items()),
    ]
    request = "\r\n".join([*head, "", ""]).encode("latin-1") + body
    try:
        async with asyncio.timeout(timeout_s):
            reader, writer = await asyncio.open_connection(
                host, parts.port or (443 if secure else 80), ssl=tls if secure else None
            )
            try:
                writer.write(request)
                return await _read_reply(reader)
            finally:
                writer.transport.abort()  # nothing is left to send, and a farewell over TLS would be waited for
    except TimeoutError as error:
        raise TransportError(f"no answer within {timeout_s:g} s") from error
    except (OSError, EOFError, ValueError, httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
        # ValueError: a host name that cannot be one. HttpParserUpgrade: an answer 101, which nobody asked for.
        raise TransportError(f"{type(error).__name__}: {error}") from error


class _Answer:
    """Gathers what httptools finds."""

    def __init__(self) -> None:
        self.headers: dict[str, str] = {}
        self.body = b""
        self.has_head = False
        self.is_complete = False

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        self.has_head = True

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.is_complete = True


async def _read_reply(reader: asyncio.StreamReader) -> HttpReply:
    answer = _Answer()
    parser = httptools.HttpResponseParser(answer)
    read_bytes = 0
    while not answer.is_complete:
        chunk = await reader.read(_CHUNK_BYTES)
        if not chunk:
            # Without a length the answer ends with the connection.
            if answer.has_head and "content-length" not in answer.headers:
                break
            raise EOFError("the connection was closed before the answer was complete")
        read_bytes += len(chunk)
        if read_bytes > _MOST_ANSWER_BYTES:
            raise EOFError(f"the answer has more than {_MOST_ANSWER_BYTES} bytes")
        parser.feed_data(chunk)
    return HttpReply(parser.get_status_code(), answer.headers, answer.body)
