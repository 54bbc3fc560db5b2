"""Clients that send or read too slowly or too much are let go, whether answers come at once or later."""

from __future__ import annotations

import asyncio
import contextlib
import json
import select
import socket
from typing import TYPE_CHECKING, Any, cast
from unittest import mock

import pytest

from tests.serving.fakes import served
from tests.serving.test_http import BODY, HEALTH, PREDICT, running
from tests.waiting import until
from tierwise.serving import http_server
from tierwise.serving.http_parser import HttpLimits

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from tierwise.serving.http_connection import HttpConnection
    from tierwise.serving.service import Service

    Response = tuple[int, dict[str, str], bytes]

WAYS = pytest.mark.parametrize("latency_ms", [0, 1], ids=["at once", "later"])
TOO_LARGE = 'code="too_large",model="sum",tier="edge",transport="http",version="1"} 1.0'
HEAD = b"POST /predict HTTP/1.1\r\nhost: x\r\n"


@contextlib.contextmanager
def limits(**changes: float) -> Iterator[None]:
    """Services that are started in the block have other limits."""

    def make(**given: Any) -> HttpLimits:
        return HttpLimits(**{**given, **changes})

    with mock.patch.object(http_server, "HttpLimits", make):
        yield


def is_refusal(response: Response, status: int, said: str) -> None:
    """Asserts that it is an error in JSON and that the connection is to be closed."""
    got, headers, body = response
    assert got == status
    assert headers["content-type"] == "application/json"
    assert headers["connection"] == "close"
    assert said in json.loads(body)["error"]


class Client:
    """One raw connection."""

    def __init__(self, service: Service, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self._service = service

    @property
    def protocol(self) -> HttpConnection:
        """The other end."""
        server = self._service._http
        assert server is not None
        (protocol,) = server.server_state.connections
        return cast("HttpConnection", protocol)

    def hurry(self, request_s: float) -> None:
        """From now on a request has to be complete in so short a time; that to connect in is not shortened."""
        self.protocol.limits = self.protocol.limits._replace(request_s=request_s)

    async def accepted(self) -> None:
        server = self._service._http
        assert server is not None
        await until(lambda: len(server.server_state.connections) == 1)

    async def response(self) -> Response:
        """The next response."""
        async with asyncio.timeout(20):
            status = int((await self.reader.readline()).split()[1])
            headers = {}
            while (line := (await self.reader.readline()).decode().strip()) != "":
                name, _, value = line.partition(":")
                headers[name.lower()] = value.strip()
            return status, headers, await self.reader.readexactly(int(headers["content-length"]))

    async def expect_refusal(self, status: int, said: str) -> None:
        """Expects one error in JSON and the end of the connection, which the server does not keep."""
        is_refusal(await self.response(), status, said)
        await self.expect_close()

    async def expect_close(self) -> None:
        async with asyncio.timeout(20):
            assert await self.reader.read() == b""
        self.writer.close()
        server = self._service._http
        assert server is not None
        await until(lambda: not server.server_state.connections)

    async def send_until_answered(self, chunk: bytes) -> tuple[int, Response]:
        """Sends until a response comes. Gives the number of bytes sent, and the response."""
        response = asyncio.create_task(self.response())
        sent = await self._send(chunk, response.done)
        return sent, await response

    async def send_until_closed(self, chunk: bytes) -> int:
        """Sends until the server has closed the connection. Gives the number of bytes sent."""
        return await self._send(chunk, self.writer.is_closing)

    async def _send(self, chunk: bytes, is_over: Callable[[], bool]) -> int:
        sent = 0
        with contextlib.suppress(ConnectionError):
            async with asyncio.timeout(20):
                while not is_over():
                    self.writer.write(chunk)
                    await self.writer.drain()
                    await asyncio.sleep(0)
                    sent += len(chunk)
                    assert sent < 2**27, "the server reads on for ever"
        return sent


@contextlib.asynccontextmanager
async def connected(service: Service) -> AsyncIterator[Client]:
    """A client with small buffers, so that what nobody reads soon waits on the server."""
    assert service.http_endpoint is not None
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32_768)
    sock.setblocking(False)  # noqa: FBT003 -- has no name
    await asyncio.get_running_loop().sock_connect(sock, service.http_endpoint)
    reader, writer = await asyncio.open_connection(sock=sock, limit=32_768)
    client = Client(service, reader, writer)
    try:
        await client.accepted()
        accepted = client.protocol.transport.get_extra_info("socket")
        accepted.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 32_768)
        yield client
    finally:
        writer.transport.abort()


@contextlib.asynccontextmanager
async def many(service: Service, count: int) -> AsyncIterator[list[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]:
    """That many connections that the service has accepted, one after the other."""
    assert service.http_endpoint is not None
    assert service._http is not None
    taken = service._http.server_state.connections
    opened = []
    try:
        for number in range(count):
            opened.append(await asyncio.open_connection(*service.http_endpoint))
            while len(taken) <= number:
                await asyncio.sleep(0.001)
        yield opened
    finally:
        for _, writer in opened:
            writer.transport.abort()


async def exchange(service: Service, sent: bytes) -> bytes:
    """All that comes on a new connection until the service closes it; then its place is free again."""
    assert service.http_endpoint is not None
    assert service._http is not None
    taken = service._http.server_state.connections
    before = len(taken)
    reader, writer = await asyncio.open_connection(*service.http_endpoint)
    try:
        writer.write(sent)
        async with asyncio.timeout(20):
            return await reader.read()
    except ConnectionResetError:  # it was closed before all that was sent had been read
        return b""
    finally:
        writer.transport.abort()
        await until(lambda: len(taken) <= before)


async def test_connections_beyond_the_limit_are_refused_and_probes_are_answered() -> None:
    with limits(connections=3, spare_connections=2):
        async with running() as (service, _), many(service, 3) as opened:
            got = await exchange(service, PREDICT + PREDICT)
            assert got.count(b"HTTP/1.1 503 ") == 1
            assert b"retry-after: 1\r\n" in got
            assert b"connection: close\r\n" in got
            assert json.loads(got.partition(b"\r\n\r\n")[2]) == {
                "error": "3 connections are open already (--max-connections)"
            }
            assert b"503" in (await exchange(service, HEALTH.replace(b"/health", b"/else"))).split(b"\r\n")[0]
            for path in (b"/health", b"/health/live", b"/metrics"):
                got = await exchange(service, HEALTH.replace(b"/health", path) + PREDICT)
                assert got.startswith(b"HTTP/1.1 200 ")
                assert got.count(b"HTTP/1.1 ") == 1
                assert b"connection: close\r\n" in got
            assert b'tierwise_requests_total{code="overloaded"' in got
            # Those that have a place keep it, and one that leaves makes room.
            for _, writer in opened:
                writer.write(PREDICT)
            for reader, _ in opened:
                assert (await reader.readline()).startswith(b"HTTP/1.1 200 ")
            opened[0][1].transport.abort()
            assert service._http is not None
            taken = service._http.server_state.connections
            await until(lambda: len(taken) == 2)
            again = await exchange(service, PREDICT.replace(b"host: x", b"host: x\r\nconnection: close"))
            assert again.startswith(b"HTTP/1.1 200 ")


async def test_a_spell_without_places_is_told_once_and_open_connections_are_counted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def told() -> int:
        return len([record for record in caplog.records if "no more connections are taken" in record.getMessage()])

    with limits(connections=2):
        async with running() as (service, _):
            assert service._http is not None
            taken = service._http.server_state.connections
            for spell in (1, 2):
                async with many(service, 2):
                    assert b"tierwise_http_connections 2.0\n" in service.metrics.text()
                    assert told() == spell - 1
                    for _ in range(3):
                        assert b"503" in (await exchange(service, PREDICT)).split(b"\r\n")[0]
                    assert told() == spell
                await until(lambda: not taken)


async def test_places_for_probes_are_limited_too() -> None:
    with limits(connections=1, spare_connections=1, spare_s=60):
        async with running() as (service, _), many(service, 2) as opened:
            assert (await exchange(service, b"")).startswith(b"HTTP/1.1 503 ")
            for (reader, writer), sent in zip(opened, (PREDICT, HEALTH), strict=True):
                writer.write(sent)
                assert (await reader.readline()).startswith(b"HTTP/1.1 200 ")


async def test_places_for_probes_are_held_for_a_short_time() -> None:
    with limits(connections=1, spare_s=0.05):
        async with running() as (service, _), many(service, 1) as opened:
            assert await exchange(service, b"") == b""
            assert (await exchange(service, HEALTH[:-2])).startswith(b"HTTP/1.1 408 ")
            opened[0][1].write(PREDICT)
            assert (await opened[0][0].readline()).startswith(b"HTTP/1.1 200 ")


async def test_client_that_does_not_read_is_not_read_from() -> None:
    count = 20_000
    async with running() as (service, _), connected(service) as client:
        protocol = client.protocol
        client.writer.write(PREDICT * count)
        await until(lambda: not protocol.transport.is_reading())
        assert protocol.write_paused
        assert protocol.transport.get_write_buffer_size() < 2**21
        for _ in range(count):
            status, _, body = await client.response()
            assert status == 200
            assert b'"prediction":10.0' in body
        await until(protocol.transport.is_reading)
        protocol.keep_alive_s = 0  # the next answer starts it
        client.writer.write(PREDICT)
        assert (await client.response())[0] == 200
        await client.expect_close()


async def test_client_that_never_reads_is_cut_off() -> None:
    with limits(stall_s=0.05):
        async with running() as (service, _), connected(service) as client:
            client.writer.write(PREDICT * 20_000)
            server = service._http
            assert server is not None
            await until(lambda: not server.server_state.connections)


@WAYS
@pytest.mark.parametrize("line", [b"x: %b\r\n", b"%b"], ids=["many headers", "one header"])
async def test_headers_are_limited(latency_ms: float, line: bytes) -> None:
    async with running(latency_ms=latency_ms) as (service, _), connected(service) as client:
        client.writer.write(HEAD + b"y: ")
        sent, response = await client.send_until_answered(line.replace(b"%b", b"v" * 8000))
        assert sent < 2**22
        is_refusal(response, 431, "the headers have more than 32768 bytes")
        await client.send_until_closed(b"v" * 8000)


@WAYS
async def test_headers_within_the_limit_are_taken(latency_ms: float) -> None:
    long = PREDICT.replace(b"host: x", b"host: x\r\n" + b"\r\n".join([b"y: " + b"v" * 1000] * 30))
    async with running(latency_ms=latency_ms) as (service, _), connected(service) as client:
        for _ in range(3):
            client.writer.write(long)
            assert (await client.response())[0] == 200


@WAYS
@pytest.mark.parametrize("part", [b"POST /pre", HEAD, PREDICT[:-3]])
async def test_half_a_request_is_not_awaited_for_ever(latency_ms: float, part: bytes) -> None:
    async with running(latency_ms=latency_ms) as (service, _), connected(service) as client:
        client.hurry(0.1)
        client.writer.write(part)
        await client.expect_refusal(408, "the request was not complete within 0.1 s")


@WAYS
async def test_trickle_of_bytes_does_not_keep_a_request_open(latency_ms: float) -> None:
    async with running(latency_ms=latency_ms) as (service, _), connected(service) as client:
        client.hurry(0.2)

        async def trickle() -> None:
            with contextlib.suppress(ConnectionError):
                client.writer.write(HEAD)
                while True:
                    client.writer.write(b"x: y\r\n")
                    await client.writer.drain()
                    await asyncio.sleep(0.01)

        trickling = asyncio.create_task(trickle())
        assert (await client.response())[0] == 408
        trickling.cancel()
        await asyncio.gather(trickling, return_exceptions=True)


@WAYS
async def test_answers_before_half_a_request_are_given(latency_ms: float) -> None:
    async with running(latency_ms=100 * latency_ms) as (service, _), connected(service) as client:
        client.hurry(0.1)
        client.writer.write(PREDICT + PREDICT[:10])
        assert (await client.response())[0] == 200
        await client.expect_refusal(408, "not complete")


async def test_connection_without_a_request_is_closed() -> None:
    with limits(request_s=0.05):
        async with running() as (service, _):
            assert service.http_endpoint is not None
            reader, writer = await asyncio.open_connection(*service.http_endpoint)
            async with asyncio.timeout(20):
                assert await reader.read() == b""
            writer.close()


async def test_empty_lines_do_not_keep_a_connection_open() -> None:
    async with running() as (service, _), connected(service) as client:
        client.protocol.keep_alive_s = 0  # seconds
        client.writer.write(b"\r\n")
        await client.expect_close()


@WAYS
@pytest.mark.parametrize("is_chunked", [False, True])
async def test_refused_body_is_not_read_for_ever(latency_ms: float, is_chunked: bool) -> None:  # noqa: FBT001 -- a parameter of the test
    length = b"transfer-encoding: chunked" if is_chunked else b"content-length: 10000000000"
    piece = b"%x\r\n%b\r\n" % (8192, b"1" * 8192) if is_chunked else b"1" * 8192
    with limits(request_bytes=2**20):
        async with running(latency_ms=latency_ms) as (service, _), connected(service) as client:
            client.writer.write(HEAD + length + b"\r\n\r\n")
            _, (status, _, body) = await client.send_until_answered(piece)
            assert status == 413
            assert json.loads(body).keys() == {"error"}
            assert await client.send_until_closed(piece) < 2**23


@WAYS
@pytest.mark.parametrize("asks", [b"", b"expect: 100-continue\r\n"])
async def test_body_that_is_too_large_is_refused_before_it_comes(latency_ms: float, asks: bytes) -> None:
    async with running(latency_ms=latency_ms) as (service, http), connected(service) as client:
        client.writer.write(HEAD + asks + b"content-length: 2001\r\n\r\n")
        is_refusal(await client.response(), 413, "more than 2000 bytes (--max-payload-bytes)")
        client.writer.close()
        assert TOO_LARGE in (await http.get("/metrics")).text


async def test_refusal_of_head_has_no_body() -> None:
    async with running() as (service, _), connected(service) as client:
        client.writer.write(b"HEAD /health HTTP/1.1\r\nhost: x\r\ncontent-length: 2001\r\n\r\n")
        async with asyncio.timeout(20):
            got = await client.reader.read()
        assert got.startswith(b"HTTP/1.1 413 ")
        assert got.endswith(b"\r\n\r\n")


async def test_continue_is_said_when_the_headers_are_complete() -> None:
    async with running() as (service, _), connected(service) as client:
        client.writer.write(HEAD + b"expect: 100-continue\r\ncontent-le")
        await until(lambda: client.protocol._parser.expects_continue)
        client.writer.write(b"ngth: 2001\r\n\r\n")
        is_refusal(await client.response(), 413, "more than 2000 bytes")


async def test_continue_is_not_said_to_http_1_0() -> None:
    head, _, body = PREDICT.replace(b"HTTP/1.1", b"HTTP/1.0").partition(b"\r\n\r\n")
    async with running() as (service, _), connected(service) as client:
        client.writer.write(head + b"\r\nexpect: 100-continue\r\n\r\n")
        await until(lambda: client.protocol._parser.head is not None)
        client.writer.write(body)
        assert (await client.response())[0] == 200


@WAYS
async def test_client_that_sends_nothing_more_still_gets_its_answers(latency_ms: float) -> None:
    async with running(latency_ms=20 * latency_ms) as (service, _), connected(service) as client:
        client.writer.write(PREDICT + HEALTH + PREDICT)
        client.writer.write_eof()
        for said in (b'"prediction"', b'"status":"ok"', b'"prediction"'):
            assert said in (await client.response())[2]
        await client.expect_close()


@WAYS
async def test_client_that_sends_nothing_more_and_waits_for_nothing_is_let_go(latency_ms: float) -> None:
    async with running(latency_ms=latency_ms) as (service, _), connected(service) as client:
        client.writer.write(PREDICT[:-3])
        client.writer.write_eof()
        await client.expect_close()


async def test_answers_before_a_refused_body_arrive_while_it_is_still_being_sent() -> None:
    large = HEAD + b"content-length: 8000000\r\n\r\n"
    async with running(latency_ms=100) as (service, _), connected(service) as client:
        client.writer.write(PREDICT * 2 + large + b"1" * 8_000_000)
        for _ in range(2):
            assert (await client.response())[0] == 200
        await client.expect_refusal(413, "more than 2000 bytes")


async def test_last_answer_reaches_a_client_that_goes_on_sending() -> None:
    count = 200
    last = PREDICT.replace(b"host: x", b"host: x\r\nconnection: close")
    loop = asyncio.get_running_loop()
    async with running() as (service, _):
        assert service.http_endpoint is not None
        assert service._http is not None
        connections = cast("set[HttpConnection]", service._http.server_state.connections)
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)  # most of the answers wait on the server
            client.setblocking(False)  # noqa: FBT003 -- has no name
            await loop.sock_connect(client, service.http_endpoint)
            await loop.sock_sendall(client, PREDICT * count + last)
            await until(lambda: bool(select.select([client], [], [], 0)[0]))
            await until(lambda: all(connection._lingers for connection in connections))
            await loop.sock_sendall(client, PREDICT)
            got = b""
            while chunk := await loop.sock_recv(client, 4096):
                got += chunk
        assert got.count(b"HTTP/1.1 200") == count + 1
        await until(lambda: not connections)


async def test_client_that_reads_slowly_gets_its_answers_also_before_a_refusal() -> None:
    count = 4000
    with limits(linger_s=1.0):
        async with running() as (service, _), connected(service) as client:
            client.writer.write(PREDICT * count + b"nonsense\r\n\r\n")
            for answered in range(count):
                assert (await client.response())[0] == 200
                if answered % 100 == 0:
                    await asyncio.sleep(0.05)  # two seconds in all
            await client.expect_refusal(400, "not a valid HTTP request")


@WAYS
async def test_refused_body_that_ends_leaves_the_service_well(latency_ms: float) -> None:
    async with running(latency_ms=latency_ms) as (service, http):
        response = await http.post("/predict", content=b"1" * 2_000_000)
        assert response.status_code == 413
        assert (await http.post("/predict", content=BODY)).status_code == 200
        assert TOO_LARGE in (await http.get("/metrics")).text
        del service


@WAYS
async def test_endless_trailers_are_limited(latency_ms: float) -> None:
    with limits(request_bytes=2**20):
        async with running(latency_ms=latency_ms) as (service, _), connected(service) as client:
            client.writer.write(HEAD + b"transfer-encoding: chunked\r\n\r\n1\r\n1\r\n0\r\n")
            sent, response = await client.send_until_answered(b"x: " + b"y" * 8000 + b"\r\n")
            assert sent < 2**23
            is_refusal(response, 413, "the request has more than 1048576 bytes")


@WAYS
@pytest.mark.parametrize(
    "garbage",
    [
        b"\x00\x01 nonsense\r\n\r\n",
        b"GET http:///x HTTP/1.1\r\n\r\n",
        HEAD + b"content-length: many\r\n\r\n",
        HEAD + b"transfer-encoding: chunked\r\n\r\nXYZ\r\n",
    ],
)
@pytest.mark.parametrize("before", [0, 2])
async def test_malformed_requests_get_an_error_in_json(latency_ms: float, garbage: bytes, before: int) -> None:
    async with running(latency_ms=latency_ms) as (service, _), connected(service) as client:
        for _ in range(before):
            client.writer.write(PREDICT)
            assert (await client.response())[0] == 200
        client.writer.write(garbage)
        await client.expect_refusal(400, "not a valid HTTP request")


@WAYS
async def test_answers_before_a_malformed_request_are_given(latency_ms: float) -> None:
    async with running(latency_ms=latency_ms) as (service, _), connected(service) as client:
        client.writer.write(PREDICT + HEALTH + b"\x00\x01 nonsense\r\n\r\n")
        assert b'"prediction"' in (await client.response())[2]
        assert b'"status":"ok"' in (await client.response())[2]
        await client.expect_refusal(400, "not a valid HTTP request")


@WAYS
async def test_unexpected_failures_are_errors_in_json_and_logged(
    latency_ms: float, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(served(), latency_ms=latency_ms) as (service, http):
        with (
            mock.patch("tierwise.serving.predict.decode_predict", side_effect=ZeroDivisionError("by surprise")),
            mock.patch.object(service.metrics, "text", side_effect=ZeroDivisionError("by surprise")),
        ):
            for response in (await http.post("/predict", content=BODY), await http.get("/metrics")):
                assert response.status_code == 500
                assert response.headers["content-type"] == "application/json"
                assert "internal error" in response.json()["error"]
        assert (await http.post("/predict", content=BODY)).status_code == 200
    failures = [record.exc_info for record in caplog.records if record.exc_info]
    assert [str(failure[1]) for failure in failures] == ["by surprise"] * 2


@WAYS
@pytest.mark.parametrize("where", ["decode_predict", "encode_predict"])
async def test_unexpected_failures_around_the_model_are_answered_counted_and_logged_once(
    latency_ms: float, where: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(latency_ms=latency_ms) as (service, http):
        with mock.patch(f"tierwise.serving.predict.{where}", side_effect=ZeroDivisionError("by surprise")):
            response = await http.post("/predict", content=BODY, timeout=5)
        assert response.status_code == 500
        assert "internal error" in response.json()["error"]
        failed = TOO_LARGE.replace("too_large", "inference_failed")
        assert failed in (await http.get("/metrics")).text
        assert service.plane.pending == 0
    assert [str(record.exc_info[1]) for record in caplog.records if record.exc_info] == ["by surprise"]
