"""One POST: answers of every form, what goes wrong, and TLS that checks the certificate."""

from __future__ import annotations

import ssl
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.components import need
from tests.serving.tcp import tcp_server
from tierwise.core.errors import TransportError
from tierwise.live.processes import free_port
from tierwise.serving.http_post import HttpReply, post

if TYPE_CHECKING:
    import asyncio
    from pathlib import Path


async def answered(answer: bytes, *, timeout_s: float = 5.0, body: bytes = b"x") -> tuple[bytes, HttpReply]:
    """What one server got, and what the client made of its answer."""
    received = bytearray()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received.extend(await reader.readuntil(b"\r\n\r\n"))
        received.extend(await reader.readexactly(len(body)))
        writer.write(answer)
        if not answer:
            await reader.read()

    async with tcp_server(serve) as port:
        reply = await post(
            f"http://127.0.0.1:{port}/write?db=a", body, {"X-Told": "yes"}, tls=None, timeout_s=timeout_s
        )
    return bytes(received), reply


async def test_request_and_answer() -> None:
    received, reply = await answered(
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Some: Thing\r\n\r\nhi", body=b"\x00\r\n"
    )
    head, _, body = received.partition(b"\r\n\r\n")
    assert head.startswith(b"POST /write?db=a HTTP/1.1\r\nHost: 127.0.0.1:")
    assert b"\r\nContent-Length: 3\r\nX-Told: yes" in head
    assert body == b"\x00\r\n"
    assert reply == HttpReply(200, {"content-length": "2", "x-some": "Thing"}, b"hi")


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 503 Busy\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nlo\r\n2\r\nad\r\n0\r\n\r\n",
        b"HTTP/1.1 503 Busy\r\nConnection: close\r\n\r\nload",
    ],
)
async def test_answers_without_a_length(answer: bytes) -> None:
    _, reply = await answered(answer)
    assert (reply.status, reply.body) == (503, b"load")


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort", "before the answer was complete"),
        (b"SSH-2.0-x\r\n\r\n", "HttpParserError"),
        (b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 70_000, "more than 65536 bytes"),
    ],
)
async def test_broken_answers_are_told(answer: bytes, reason: str) -> None:
    with pytest.raises(TransportError, match=reason):
        await answered(answer)


async def test_silence_is_told_after_the_time() -> None:
    with pytest.raises(TransportError, match=r"no answer within 0\.05 s"):
        await answered(b"", timeout_s=0.05)


async def test_an_answer_that_changes_the_protocol_is_told() -> None:
    with pytest.raises(TransportError, match="HttpParserUpgrade"):
        await answered(b"HTTP/1.1 101 Switching\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n")


async def test_a_name_that_no_host_has_is_told() -> None:
    with pytest.raises(TransportError, match="label"):
        await post("http://a..b:8086/write", b"", {}, tls=None, timeout_s=5)


async def test_a_closed_port_is_told() -> None:
    with pytest.raises(TransportError, match="ConnectionRefusedError"):
        await post(f"http://127.0.0.1:{free_port()}/", b"", {}, tls=None, timeout_s=5)


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """Certificate for ``localhost`` and its key."""
    need(program="openssl")
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost"]
    extension = ["-addext", "subjectAltName=DNS:localhost", "-out", str(certificate), "-keyout", str(key)]
    subprocess.run([*command, *extension], check=True, capture_output=True)
    return certificate, key


async def test_tls_is_spoken_and_the_certificate_checked(certificate: tuple[Path, Path]) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")

    of_server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    of_server.load_cert_chain(*certificate)
    async with tcp_server(serve, tls=of_server) as port:
        url = f"https://localhost:{port}/write"
        trusting = ssl.create_default_context(cafile=certificate[0])
        assert (await post(url, b"", {}, tls=trusting, timeout_s=5)).status == 204
        with pytest.raises(TransportError, match="CERTIFICATE_VERIFY_FAILED"):
            await post(url, b"", {}, tls=ssl.create_default_context(), timeout_s=5)
        with pytest.raises(TransportError, match="CERTIFICATE_VERIFY_FAILED"):
            await post(url.replace("localhost", "127.0.0.1"), b"", {}, tls=trusting, timeout_s=5)
