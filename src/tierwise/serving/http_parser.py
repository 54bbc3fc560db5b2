"""Bytes of one connection to complete HTTP requests, within limits. Nothing here knows of sockets or time."""

from __future__ import annotations

import functools
import re
from collections import deque
from typing import NamedTuple
from urllib.parse import unquote

import httptools
import msgspec

from tierwise.core.errors import InvalidRequestError, PayloadTooLargeError, TierwiseError

_PIECE_BYTES = 16_384
"""Received bytes are counted in such pieces, so a limit may be exceeded by two of them."""


_HOST = re.compile(rb"(?:\[[\w.:~%!$&'()*+,;=-]+\]|[\w.~%!$&'()*+,;=-]*)(?::[0-9]*)?")
"""RFC 3986, 3.2.2: a name or address and perhaps a port; it may be empty."""
_VERSIONS = ("1.1", "1.0")
"""httptools takes others too, among them 0.9 for a request line that was cut short."""


class HttpLimits(NamedTuple):
    """What a client may do. Sizes in bytes, durations in seconds."""

    head_bytes: int = 32_768
    """Request line and headers."""
    body_bytes: int = 2**20
    """A body, whatever it is for."""
    request_bytes: int = 2**24
    """A whole request as it travels, and what is read after a refusal only to be thrown away."""
    request_s: float = 60.0
    """From the first byte of a request, or from the connection, until the request is complete."""
    stall_s: float = 30.0
    """A client that takes nothing of its answers for so long is cut off."""
    linger_s: float = 2.0
    """After a refusal: a client that is still sending would not see it if the connection were closed at once."""
    connections: int = 900
    """Open connections; a soft limit of 1024 open files, which is usual, leaves room for the rest."""
    spare_connections: int = 8
    """As many more may ask for what tells whether the service is well."""
    spare_s: float = 5.0
    """From such a connection until its request is complete."""


class RefusedError(Exception):
    """A request that is not read any further; ``error`` tells why, ``status`` is the answer's."""

    def __init__(self, status: int, error: TierwiseError) -> None:
        super().__init__(str(error))
        self.status = status
        self.error = error


class Target(NamedTuple):
    """What a request is for. ``path`` is decoded, ``raw_path`` and ``query`` are as they came."""

    path: str
    raw_path: bytes
    query: bytes


class HttpRequest(msgspec.Struct, gc=False):
    """One request; names of ``headers`` are in lower case."""

    method: bytes
    target: Target
    headers: list[tuple[bytes, bytes]]
    version: str
    keep_alive: bool
    body: bytes = b""


class RequestParser:
    """Gathers in ``ready`` the requests that are complete."""

    def __init__(self, limits: HttpLimits) -> None:
        self.ready: deque[HttpRequest] = deque()
        self.begun = 0
        """Counts the requests; 0 unless a part of one has come."""
        self.head: HttpRequest | None = None
        """The request of which the body is being received."""
        self.expects_continue = False
        """Whether the client sends the body only when it is told to."""
        self._limits = limits
        self._count = 0
        self._bytes = 0
        self._url = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._host: bytes | None = None
        self._length = 0
        self._body: bytes | bytearray = b""
        self._start()

    def _start(self) -> None:
        self._parser = httptools.HttpRequestParser(self)
        self._feed_parser = self._parser.feed_data
        self._keeps_alive = self._parser.should_keep_alive

    def feed(self, data: bytes | memoryview) -> None:
        """Takes what has come. Raises ``RefusedError`` where it must be the last; what was complete is ready."""
        if len(data) > _PIECE_BYTES:
            view = memoryview(data)
            for start in range(0, len(data), _PIECE_BYTES):
                self.feed(view[start : start + _PIECE_BYTES])
            return
        begun = self.begun
        try:
            self._feed_parser(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._ignore_upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserError as error:
            raised = error.__context__ if isinstance(error, httptools.HttpParserCallbackError) else error
            if isinstance(raised, httptools.HttpParserError):
                invalid = InvalidRequestError(f"not a valid HTTP request: {raised}")
                raise RefusedError(400, invalid) from error
            raise (raised or error) from None
        if begun and begun == self.begun:
            self._bytes += len(data)
            self._check_size()

    def close(self) -> None:
        """Lets go of the parser, which knows its owner as its owner knows it."""
        del self._parser, self._feed_parser, self._keeps_alive

    def _check_size(self) -> None:
        limits = self._limits
        if self.head is None and self._bytes > limits.head_bytes:
            raise RefusedError(431, InvalidRequestError(f"the headers have more than {limits.head_bytes} bytes"))
        if self._bytes > limits.request_bytes:
            raise _too_large(f"the request has more than {limits.request_bytes} bytes")

    def _body_too_large(self) -> RefusedError:
        return _too_large(f"the request has more than {self._limits.body_bytes} bytes (--max-payload-bytes)")

    def _ignore_upgrade(self, rest: bytes | memoryview) -> None:
        """Reads the request as if it did not offer another protocol, which HTTP allows; httptools skips its body."""
        method = self._parser.get_method()
        if method == b"CONNECT":
            raise RefusedError(501, InvalidRequestError("CONNECT is not supported"))
        lines = [b"%b: %b\r\n" % header for header in self._headers if header[0] != b"upgrade"]
        version = self._parser.get_http_version().encode()
        head = b"%b %b HTTP/%b\r\n%b\r\n" % (method, self._url, version, b"".join(lines))
        self._start()
        self.feed(head)
        self.feed(rest)

    # --- httptools calls these

    def on_message_begin(self) -> None:
        """A request begins."""
        self._count += 1
        self.begun = self._count
        self.head = None  # of a request whose offer of another protocol was ignored, and that begins again
        self._bytes = 0
        self._url = b""
        self._headers = []
        self._host = None
        self._length = 0

    def on_url(self, url: bytes) -> None:
        """A piece of what the request is for."""
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header, or a trailer: nobody needs those, and they must not pass for headers."""
        if self.head is not None:
            return
        name = name.lower()
        value = value.strip(b" \t")  # RFC 9112, 5: they do not belong to the value; llhttp leaves those after it
        if name == b"content-length":
            self._length = int(value.lstrip(b"0") or 0)  # httptools has checked it, and allows any zeros
        elif name == b"host":
            if self._host is not None:
                raise RefusedError(400, InvalidRequestError("not a valid HTTP request: more than one Host header"))
            self._host = value
        elif name == b"expect":
            self.expects_continue = value.lower() == b"100-continue"
        self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        """The head of a request is complete."""
        parser = self._parser
        version = parser.get_http_version()
        if version not in _VERSIONS:
            raise RefusedError(505, InvalidRequestError(f"HTTP/{version} is not supported, HTTP/1.1 is"))
        if self._host is None:
            if version != "1.0":
                raise RefusedError(400, InvalidRequestError("not a valid HTTP request: HTTP/1.1 needs a Host header"))
        elif not _is_host(self._host):
            raise RefusedError(400, InvalidRequestError("not a valid HTTP request: the Host header is no host"))
        self.head = HttpRequest(
            parser.get_method(),
            _target(self._url),
            self._headers,
            version,
            # Of HTTP/1.0 only that: its clients would have to be told that the connection is kept.
            self._keeps_alive() and version != "1.0",
        )
        if self._length > self._limits.body_bytes:
            raise self._body_too_large()

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        self.expects_continue = False
        gathered = self._body
        if not gathered:
            self._body = gathered = body
        elif isinstance(gathered, bytearray):
            gathered += body
        else:  # not a list of pieces: those may be of one byte each
            self._body = gathered = bytearray(gathered)
            gathered += body
        if len(gathered) > self._limits.body_bytes:
            raise self._body_too_large()

    def on_message_complete(self) -> None:
        """The request is complete."""
        request = self.head
        if request is None or self._parser.should_upgrade():
            return
        request.body = bytes(self._body)
        self._body = b""
        self.ready.append(request)
        self.head = None
        self.begun = 0
        self.expects_continue = False


@functools.lru_cache(maxsize=64)
def _target(url: bytes) -> Target:
    parsed = httptools.parse_url(url)
    raw_path = parsed.path or b"/"
    return Target(unquote(raw_path.decode("ascii")), raw_path, parsed.query or b"")


@functools.lru_cache(maxsize=64)
def _is_host(value: bytes) -> bool:
    return _HOST.fullmatch(value) is not None


def _too_large(message: str) -> RefusedError:
    return RefusedError(413, PayloadTooLargeError(message))
