"""Streams of HTTP requests, right and damaged, made from a seed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import random

GARBAGE = (
    b"\x00", b"\r", b"\n", b"\r\n", b"\r\n\r\n", b" ", b"\t", b":", b"HTTP/1.1", b"0\r\n\r\n", b"Host: y\r\n", b"\xff",
    b"Content-Length: 7\r\n", b"Transfer-Encoding: chunked\r\n", b"Expect: 100-continue\r\n", b"Connection: close\r\n",
    b"Connection: Upgrade\r\nUpgrade: h2c\r\n", b"-1", b"99999999999999999999", b"%00", b"{}", b"[1e999]", b"\xc3\xa9",
)  # fmt: skip
"""What is put into damaged requests."""


class Case(NamedTuple):
    """Bytes as they are sent, piece by piece, and what the right requests at their beginning are to be answered."""

    pieces: list[bytes]
    expected: list[float | None]
    """A prediction each; ``None`` for a page that just has to be there."""

    @property
    def sent(self) -> bytes:
        return b"".join(self.pieces)


def case(rng: random.Random, *, damaged: bool) -> Case:
    """Some right requests in a row, with one that is ``damaged`` after them or not, cut anywhere."""
    made = [_request(rng) for _ in range(rng.randint(0 if damaged else 1, 4))]
    sent = b"".join(request for request, _ in made)
    if damaged:
        sent += _damage(rng, _request(rng)[0])
    return Case(_cut(rng, sent), [expected for _, expected in made])


def _request(rng: random.Random) -> tuple[bytes, float | None]:
    host = rng.choice((b":", b": ", b":\t ")) + rng.choice((b"x", b"127.0.0.1:80", b"[::1]", b""))
    headers = [_any_case(rng, b"host") + host]
    headers += [b"x-%d:%bv" % (number, b" " * rng.randint(0, 3)) for number in range(rng.randint(0, 3))]
    if rng.random() < 0.2:
        page = rng.choice((b"/health", b"/health/live", b"/metrics", b"/health?a=%20"))
        return _head(rng, b"GET " + page, headers), None
    values = [rng.randint(-1000, 1000) for _ in range(4)]
    body = json.dumps({"input": values}, indent=rng.choice((None, 1))).encode()
    if rng.random() < 0.5:
        headers.append(_any_case(rng, b"content-length") + b": %d" % len(body))
    else:
        headers.append(_any_case(rng, b"transfer-encoding") + b": chunked")
        body = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in _cut(rng, body)) + b"0\r\n\r\n"
    return _head(rng, b"POST /predict", headers) + body, float(sum(values))


def _head(rng: random.Random, begin: bytes, headers: list[bytes]) -> bytes:
    rng.shuffle(headers)
    lines = b"".join(header + _blanks(rng, header) + b"\r\n" for header in headers)
    return b"%b HTTP/1.1\r\n%b\r\n" % (begin, lines)


def _blanks(rng: random.Random, header: bytes) -> bytes:
    """What may stand after a header; of a tab after a coding llhttp makes no sense."""
    is_coding = header.lower().startswith(b"transfer-encoding")
    return rng.choice((b"", b" ", b"  ") if is_coding else (b"", b" ", b"\t", b" \t "))


def _any_case(rng: random.Random, name: bytes) -> bytes:
    return rng.choice((name, name.title(), name.upper()))


def _damage(rng: random.Random, request: bytes) -> bytes:
    for _ in range(rng.randint(1, 3)):
        at, end = sorted(rng.randint(0, len(request)) for _ in range(2))
        replaced = rng.choice((b"", b"", bytes([rng.randrange(256)]), rng.choice(GARBAGE), request[at:end]))
        match rng.randrange(4):
            case 0:  # it ends early
                request = request[:at]
            case 1:
                request = request[:at] + replaced + request[at:]
            case 2:
                request = request[:at] + replaced + request[min(at + 1, len(request)) :]
            case _:
                request = request[:at] + replaced + request[end:]
    return request


def _cut(rng: random.Random, data: bytes) -> list[bytes]:
    cuts = sorted(rng.randint(0, len(data)) for _ in range(rng.choice((0, 0, 1, 2, 5, 20))))
    pieces = [data[start:end] for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]
    return [piece for piece in pieces if piece]
