"""Delivery to InfluxDB: bounded, in order, again after failures, with credentials that nobody sees."""

from __future__ import annotations

import asyncio
import base64
import gzip
import logging
import threading
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.serving.tcp import tcp_server
from tests.waiting import until
from tierwise.core.errors import ConfigurationError
from tierwise.serving import influx
from tierwise.serving.influx import InfluxWriter, PointBuffer, authorization, write_url
from tierwise.serving.influx_points import machine_points
from tierwise.serving.metrics import ServiceMetrics
from tierwise.serving.settings import InfluxSettings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from tierwise.serving.lineprotocol import Point


class Receiver:
    """An HTTP server that keeps what is posted, and answers what ``replies`` says; 204 when that is empty."""

    def __init__(self) -> None:
        self.heads: list[str] = []
        self.lines: list[str] = []
        self.replies: list[bytes] = []
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        size = int(head.lower().partition("content-length:")[2].split()[0])
        body = gzip.decompress(await reader.readexactly(size))
        reply = self.replies.pop(0) if self.replies else b"204 No Content"
        self.heads.append(head)
        if reply.startswith(b"204"):
            self.lines += body.decode().splitlines()
        if reply:
            writer.write(b"HTTP/1.1 " + reply + (b"\r\n\r\n" if b"\r\n" not in reply else b""))


@asynccontextmanager
async def receiver() -> AsyncIterator[Receiver]:
    kept = Receiver()
    async with tcp_server(kept.serve) as port:
        kept.url = f"http://127.0.0.1:{port}"
        yield kept


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(influx, "FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(influx, "LONGEST_PAUSE_S", 0.05)
    monkeypatch.delenv("TIERWISE_INFLUX_TOKEN", raising=False)
    return iter(())


def writer_to(url: str, *, buffer_points: int = 1000) -> tuple[InfluxWriter, ServiceMetrics]:
    metrics = ServiceMetrics("edge")
    writer = InfluxWriter(
        InfluxSettings(url=url, interval_s=0.1, buffer_points=buffer_points), metrics, service_id="edge-1"
    )
    return writer, metrics


@given(
    st.integers(1, 20),
    st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12), st.booleans()), max_size=20),
)
def test_the_buffer_keeps_the_newest_in_order_and_counts_the_rest(
    size: int, steps: list[tuple[int, int, bool]]
) -> None:
    buffer = PointBuffer(size)
    number = 0
    delivered: list[bytes] = []
    for new, most, succeeds in steps:
        taken = buffer.take(most)
        buffer.put(b"%d" % (number + index) for index in range(new))
        number += new
        if succeeds:
            delivered += taken
        else:
            buffer.put_back(taken)
        assert len(buffer) <= size
    rest = buffer.take(size)
    told = [int(line) for line in (*delivered, *rest)]
    assert told == sorted(told)
    assert len(told) + buffer.dropped == number
    assert not rest or int(rest[-1]) == number - 1


async def test_points_arrive_compressed_with_their_precision() -> None:
    async with receiver() as server:
        writer, metrics = writer_to(server.url)
        async with writer:
            metrics.meter("m", "1", "mqtt").finished("ok", 1_000_000, 100, 50)
            await until(lambda: any(line.startswith("tierwise_requests") for line in server.lines))
    head = server.heads[0]
    assert head.startswith("POST /write?db=tierwise&precision=ns HTTP/1.1\r\n")
    assert "Content-Encoding: gzip" in head
    assert "Authorization" not in head
    assert any(line.startswith("tierwise_memory,service_id=edge-1,tier=edge resident_bytes=") for line in server.lines)


async def test_leaving_delivers_the_last_interval() -> None:
    async with receiver() as server:
        writer, metrics = writer_to(server.url)
        async with writer:
            await until(lambda: writer.written > 0)
            metrics.meter("m", "1", "http").finished("ok", 1_000_000, 100, 50)
    assert any("requests_total=1.0" in line for line in server.lines)


@pytest.mark.parametrize(
    "reply",
    [b"503 Service Unavailable", b"429 Too Many Requests\r\nRetry-After: 0\r\n\r\n", b"404 Not Found", b"garbage", b""],
)
async def test_what_may_be_repaired_is_tried_again_and_told_once(
    reply: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "tierwise.influx")
    async with receiver() as server:
        server.replies = [reply, reply, reply]
        writer, metrics = writer_to(server.url)
        async with writer:
            metrics.meter("m", "1", "mqtt").finished("ok", 1_000_000, 100, 50)
            await until(lambda: writer.written > 0)
            assert writer.failures == 3
            figures = metrics.json()
    assert [record.message for record in caplog.records] == ["InfluxDB does not take points", "InfluxDB is back"]
    assert figures["tierwise_influx_write_failures"]["samples"][0]["value"] == 3
    assert figures["tierwise_influx_points_written"]["samples"][0]["value"] > 0
    assert figures["tierwise_influx_points_dropped"]["samples"][0]["value"] == 0


async def test_points_that_are_refused_are_dropped_and_do_not_hold_up_others(caplog: pytest.LogCaptureFixture) -> None:
    async with receiver() as server:
        server.replies = [b'400 Bad Request\r\n\r\n{"error":"field type conflict"}']
        writer, _ = writer_to(server.url)
        async with writer:
            await until(lambda: writer.written > 0)
    assert writer.refused > 0
    (refusal,) = [record for record in caplog.records if record.message == "points refused"]
    assert "field type conflict" in vars(refusal)["reason"]


async def test_a_spell_of_too_large_is_told_once_and_writes_grow_again(caplog: pytest.LogCaptureFixture) -> None:
    async with receiver() as server:
        writer, _ = writer_to(server.url)
        lines = [b"m v=%d" % number for number in range(300)]
        writer.buffer.put(lines)
        server.replies = [b"413 Content Too Large"] * 8
        while writer.buffer:
            assert await writer._write_batch() is None
        assert writer.failures == 1
        assert len(server.heads) == 8 + 9  # 300, 150, ... 2 are too many; 1, 2, 4 ... 128 and the rest are taken
        assert server.lines == [line.decode() for line in lines]
        (told,) = caplog.records
        assert (told.message, vars(told)["points"]) == ("too many points in one write, sending fewer", 300)

        writer.buffer.put(lines)
        server.replies = [b"413 Content Too Large"]
        while writer.buffer:
            await writer._write_batch()
        assert len(caplog.records) == 2, "another spell"


async def test_a_limit_that_stays_is_told_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(influx, "BATCH_POINTS", 100)
    async with receiver() as server:
        writer, _ = writer_to(server.url)
        writer.buffer.put(b"m v=%d" % number for number in range(400))
        server.replies = [b"413 Content Too Large", b"204 No Content"] * 5
        while writer.buffer:
            await writer._write_batch()
        assert len(server.lines) == 400
    assert len(caplog.records) == 1


async def test_leaving_in_the_middle_of_an_interval_loses_none_of_its_points(monkeypatch: pytest.MonkeyPatch) -> None:
    gathering, may_go_on = threading.Event(), threading.Event()

    def slowly(*arguments: Any, **options: Any) -> list[Point]:
        gathering.set()
        may_go_on.wait(10)
        return machine_points(*arguments, **options)

    monkeypatch.setattr(influx, "machine_points", slowly)
    async with receiver() as server:
        writer, metrics = writer_to(server.url)
        async with writer:
            metrics.meter("m", "1", "mqtt").finished("ok", 1_000_000, 100, 50)
            await until(gathering.is_set)
            asyncio.get_running_loop().call_later(0.05, may_go_on.set)
        counted = [line for line in server.lines if line.startswith("tierwise_requests") and ",count=1.0" in line]
    assert len(counted) == 1


async def test_work_that_fails_is_told_at_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(*_: Any, **__: Any) -> list[Point]:
        raise RuntimeError("no such sensor")

    monkeypatch.setattr(influx, "machine_points", fails)
    async with receiver() as server:
        writer, _ = writer_to(server.url)
        async with writer:
            await until(lambda: "no such sensor" in caplog.text)
    assert "figures for InfluxDB" in str(caplog.records[-1].__dict__["work"])


async def test_a_server_that_never_answers_costs_no_request_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(influx, "FAREWELL_S", 0.05)
    asked = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        asked.set()
        await reader.read()

    async with tcp_server(silent) as port:
        writer, metrics = writer_to(f"http://127.0.0.1:{port}", buffer_points=5)
        async with writer:
            await asyncio.wait_for(asked.wait(), 10)
            meter = metrics.meter("m", "1", "mqtt")
            for _ in range(3000):
                meter.finished("ok", 1, 1, 1)
            await until(lambda: len(writer.buffer) == 5)
    assert meter.codes["ok"] == 3000
    assert len(writer.buffer) == 5


def test_where_points_are_posted() -> None:
    of_1 = InfluxSettings(url="http://influx:8086/", database="my db")
    assert write_url(of_1) == "http://influx:8086/write?db=my+db&precision=ns"
    of_2 = urlsplit(write_url(InfluxSettings(url="https://influx/prefix", bucket="b/1", org="my org")))
    assert of_2.path == "/prefix/api/v2/write"
    assert parse_qs(of_2.query) == {"bucket": ["b/1"], "org": ["my org"], "precision": ["ns"]}


def test_the_token_comes_from_a_file_or_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert authorization(InfluxSettings()) == {}
    monkeypatch.setenv("TIERWISE_INFLUX_TOKEN", "from-environment")
    assert authorization(InfluxSettings()) == {"Authorization": "Token from-environment"}
    file = tmp_path / "token"
    file.write_text("from-file\n")
    assert authorization(InfluxSettings(token_file=file)) == {"Authorization": "Token from-file"}
    basic = authorization(InfluxSettings(token_file=file, username="writer"))["Authorization"]
    assert base64.b64decode(basic.removeprefix("Basic ")) == b"writer:from-file"


def test_an_unusable_token_is_told_without_showing_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError, match="--influx-token-file"):
        authorization(InfluxSettings(token_file=tmp_path / "missing"))
    monkeypatch.setenv("TIERWISE_INFLUX_TOKEN", "secret\r\nX: y")
    with pytest.raises(ConfigurationError) as told:
        authorization(InfluxSettings())
    assert "secret" not in str(told.value)


async def test_the_token_is_sent_and_never_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("TIERWISE_INFLUX_TOKEN", "s3cret")
    async with receiver() as server:
        server.replies = [b"401 Unauthorized"]
        writer, _ = writer_to(server.url)
        async with writer:
            await until(lambda: writer.written > 0)
    assert "Authorization: Token s3cret" in server.heads[0]
    assert "InfluxDB does not take points" in caplog.messages
    assert not any("s3cret" in str(vars(record)) for record in caplog.records)
