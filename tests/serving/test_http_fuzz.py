"""Bytes that nobody would write by hand, always the same ones: nothing breaks, and what is right is answered right."""

from __future__ import annotations

import asyncio
import json
import logging
import random
from typing import TYPE_CHECKING

import pytest

from tests.serving.http_cases import case
from tests.serving.test_http import running
from tests.waiting import until
from tierwise.serving.http_parser import HttpLimits, HttpRequest, RefusedError, RequestParser

if TYPE_CHECKING:
    from tests.serving.http_cases import Case
    from tierwise.serving.service import Service

LIMITS = HttpLimits(body_bytes=2000)
REFUSALS = {400, 413, 431, 501, 505}


def outcome(pieces: list[bytes]) -> tuple[list[HttpRequest], int]:
    """The requests, and the status with which the parser refused the rest; 0 where it did not."""
    parser = RequestParser(LIMITS)
    try:
        for piece in pieces:
            parser.feed(piece)
    except RefusedError as refusal:
        return list(parser.ready), refusal.status
    return list(parser.ready), 0


@pytest.mark.parametrize("seed", range(4))
def test_parser_refuses_or_takes_a_request_however_it_is_cut(seed: int) -> None:
    rng = random.Random(seed)
    statuses = set()
    for _ in range(1500):
        made = case(rng, damaged=True)
        requests, status = outcome([made.sent])
        assert outcome(made.pieces) == (requests, status), made
        assert len(requests) >= len(made.expected), made
        statuses.add(status)
    assert {0, 400} <= statuses <= {0, *REFUSALS}


def answers(received: bytes) -> list[tuple[int, dict[str, str], bytes]]:
    """Takes what came apart; fails where it is not a row of whole responses."""
    found = []
    while received:
        head, separator, received = received.partition(b"\r\n\r\n")
        assert separator, head
        first, *lines = head.decode("ascii").split("\r\n")
        version, status, _ = first.split(" ", 2)
        assert version == "HTTP/1.1"
        if status == "100":
            assert not lines
            continue
        headers = dict(line.split(": ", 1) for line in lines)
        length = int(headers["content-length"])
        assert len(received) >= length or not received, (head, received)  # HEAD has none
        body, received = received[:length], received[length:]
        found.append((int(status), headers, body))
    return found


async def sent(service: Service, made: Case) -> bytes:
    """All that comes back until the service ends the connection."""
    assert service.http_endpoint is not None
    reader, writer = await asyncio.open_connection(*service.http_endpoint)
    receiving = asyncio.create_task(reader.read())
    try:
        for piece in made.pieces:
            writer.write(piece)
            await asyncio.sleep(0)
        writer.write_eof()
        async with asyncio.timeout(30):
            return await receiving
    finally:
        writer.transport.abort()


@pytest.mark.parametrize("latency_ms", [0, 1], ids=["at once", "later"])
async def test_service_answers_what_is_right_and_survives_what_is_not(
    latency_ms: float, caplog: pytest.LogCaptureFixture
) -> None:
    rng = random.Random(17 + latency_ms)
    seen: set[int] = set()
    async with running(latency_ms=latency_ms) as (service, client):
        for number in range(400):
            made = case(rng, damaged=bool(number % 2))
            got = answers(await sent(service, made))
            assert len(got) >= len(made.expected), made
            for expected, (status, _, body) in zip(made.expected, got, strict=False):
                assert status == 200, (made, got)
                assert expected is None or json.loads(body)["prediction"] == expected, (made, got)
            for position, (status, headers, body) in enumerate(got):
                assert status != 500, (made, got)
                if status >= 400 and body:
                    assert json.loads(body).keys() == {"error"}, (made, got)
                if status in REFUSALS and b"not a valid HTTP request" in body:
                    assert headers["connection"] == "close", (made, got)
                if headers.get("connection") == "close":
                    assert position == len(got) - 1, (made, got)
                seen.add(status)
            if number % 2 == 0:
                assert len(got) == len(made.expected), (made, got)
        assert service._http is not None
        open_connections = service._http.server_state.connections
        assert (await client.post("/predict", json={"input": [1, 2, 3, 4]})).json()["prediction"] == 10.0
        await until(lambda: len(open_connections) <= 1)  # the client keeps its own
        assert service.plane.pending == 0
    assert {200, 400, 404} <= seen
    assert not [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
