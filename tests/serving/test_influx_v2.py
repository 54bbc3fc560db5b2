"""``POST /api/v2/write`` against a server that refuses whatever InfluxDB 2's API reference does not allow.

The reference: docs.influxdata.com/influxdb/v2/api, operation ``PostWrite``; for 1.8, docs.influxdata.com/influxdb/v1/
tools/api, "/api/v2/write/ HTTP endpoint".
"""

from __future__ import annotations

import gzip
import json
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.serving.tcp import tcp_server
from tests.serving.test_lineprotocol import parse
from tests.waiting import until
from tierwise.core.errors import ConfigurationError
from tierwise.serving import influx
from tierwise.serving.influx import InfluxWriter, authorization
from tierwise.serving.metrics import ServiceMetrics
from tierwise.serving.settings import InfluxSettings, build

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

TOKEN = "s3cret=="
PRECISIONS = {"ms", "s", "us", "ns"}
CONTENT_TYPES = {"text/plain", "text/plain; charset=utf-8"}
HEADERS = {
    "host", "connection", "user-agent", "content-length", "content-type", "content-encoding", "authorization", "accept",
    "zap-trace-span",
}  # fmt: skip


@dataclass
class InfluxDB2:
    """``refusals`` are given first, in their order; what the reference does not allow is kept in ``violations``."""

    refusals: list[tuple[int, dict[str, Any], dict[str, str]]] = field(default_factory=list)
    most_lines: int = 1_000_000
    violations: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    tries: list[float] = field(default_factory=list)
    url: str = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first, *rest = (await reader.readuntil(b"\r\n\r\n")).decode("ascii").strip().split("\r\n")
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in rest)}
        body = await reader.readexactly(int(headers["content-length"]))
        self.tries.append(time.monotonic())
        status, error, more = self._answer(first, headers, body)
        content = b"" if status == 204 else json.dumps(error).encode()
        head = [f"HTTP/1.1 {status} Whatever", "Connection: close", *(f"{name}: {more[name]}" for name in more)]
        if content:
            head += ["Content-Type: application/json; charset=utf-8", f"Content-Length: {len(content)}"]
        writer.write("\r\n".join([*head, "", ""]).encode() + content)

    def _answer(self, first: str, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, Any], dict[str, str]]:
        self._check_request(first, headers)
        if headers.get("authorization") != f"Token {TOKEN}":
            return 401, {"code": "unauthorized", "message": "unauthorized access"}, {}
        if self.refusals:
            return self.refusals.pop(0)
        lines = gzip.decompress(body).decode("utf-8").split("\n")
        if len(lines) > self.most_lines:
            return 413, {"code": "request too large", "message": "unable to read data: points batch is too large"}, {}
        for line in lines:
            self._check_line(line)
        self.lines += lines
        return 204, {}, {}

    def _check_request(self, first: str, headers: dict[str, str]) -> None:
        method, target, version = first.split(" ")
        parts = urlsplit(target)
        query = parse_qs(parts.query, keep_blank_values=True, strict_parsing=True)
        rules = {
            "method, path and version": (method, parts.path, version) == ("POST", "/api/v2/write", "HTTP/1.1"),
            "no other parameters": query.keys() <= {"org", "orgID", "bucket", "precision"},
            "each parameter once": all(len(values) == 1 for values in query.values()),
            "an organisation": query.get("org") == ["my org"],
            "a bucket": query.get("bucket") == ["my/bucket"],
            "a precision": query.get("precision", ["ns"])[0] in PRECISIONS,
            "no other headers": headers.keys() <= HEADERS,
            "the type of the content": headers.get("content-type", "text/plain") in CONTENT_TYPES,
            "its encoding": headers.get("content-encoding", "identity") == "gzip",
            "what is accepted": headers.get("accept", "application/json") == "application/json",
            "the scheme of the token": headers.get("authorization", "").startswith("Token "),
        }
        self.violations += [f"{rule}: {first} {headers}" for rule, holds in rules.items() if not holds]

    def _check_line(self, line: str) -> None:
        measurement, tags, fields, timestamp = parse(line)
        recent = abs(timestamp - time.time_ns()) < 3600 * 1e9
        if not (measurement and tags["service_id"] == "edge-1" and fields and recent):
            self.violations.append(line)


@asynccontextmanager
async def influxdb2(**options: Any) -> AsyncIterator[InfluxDB2]:
    server = InfluxDB2(**options)
    async with tcp_server(server.serve) as port:
        server.url = f"http://127.0.0.1:{port}"
        yield server


@pytest.fixture(autouse=True)
def short_pauses_and_a_token(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(influx, "FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(influx, "LONGEST_PAUSE_S", 0.05)
    monkeypatch.setenv("TIERWISE_INFLUX_TOKEN", TOKEN)
    return iter(())


def writer_to(server: InfluxDB2) -> tuple[InfluxWriter, ServiceMetrics]:
    settings = InfluxSettings(url=server.url, interval_s=0.1, bucket="my/bucket", org="my org")
    metrics = ServiceMetrics("edge")
    return InfluxWriter(settings, metrics, service_id="edge-1"), metrics


async def test_every_detail_of_a_write_is_as_the_reference_has_it() -> None:
    async with influxdb2() as server:
        writer, metrics = writer_to(server)
        async with writer:
            metrics.meter("my model", "1,2=3", "mqtt").finished("ok", 1_000_000, 100, 50)
            await until(lambda: any(line.startswith("tierwise_requests") for line in server.lines))
    assert not server.violations
    assert len(set(server.lines)) == writer.written  # a write whose answer was cut off at the end is sent again
    assert (writer.failures, writer.refused, writer.buffer.dropped) == (0, 0, 0)


@pytest.mark.parametrize("status", [429, 503])
async def test_it_waits_as_long_as_it_is_told(status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(influx, "LONGEST_PAUSE_S", 30.0)
    told = (status, {"code": "too many requests", "message": "later"}, {"Retry-After": "1"})
    async with influxdb2(refusals=[told]) as server:
        writer, _ = writer_to(server)
        async with writer:
            await until(lambda: writer.written > 0)
            refused_at, again_at = server.tries[:2]
    assert again_at - refused_at > 0.99
    assert not server.violations
    assert (writer.failures, writer.refused, writer.buffer.dropped) == (1, 0, 0)


@pytest.mark.parametrize(
    ("status", "code", "message"),
    [
        (401, "unauthorized", "unauthorized access"),
        (404, "not found", 'bucket "my/bucket" not found'),
        (429, "too many requests", "max series cardinality reached"),
        (500, "internal error", "shard is closed"),
        (503, "unavailable", "no leader"),
    ],
)
async def test_what_may_be_repaired_loses_no_points(
    status: int, code: str, message: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with influxdb2(refusals=[(status, {"code": code, "message": message}, {})] * 2) as server:
        writer, _ = writer_to(server)
        async with writer:
            await until(lambda: writer.written > 0)
    assert not server.violations
    assert (writer.failures, writer.refused, writer.buffer.dropped) == (2, 0, 0)
    (told,) = [record for record in caplog.records if record.message == "InfluxDB does not take points"]
    assert json.dumps(message) in vars(told)["reason"]


async def test_malformed_points_are_dropped_with_what_the_server_said(caplog: pytest.LogCaptureFixture) -> None:
    error = {"code": "invalid", "message": "unable to parse 'x': missing fields", "line": 2}
    async with influxdb2(refusals=[(400, error, {})]) as server:
        writer, _ = writer_to(server)
        async with writer:
            await until(lambda: writer.written > 0)
    assert writer.refused > 0
    (told,) = [record for record in caplog.records if record.message == "points refused"]
    assert "missing fields" in vars(told)["reason"]


@pytest.mark.parametrize("most_lines", [1, 2])
async def test_a_batch_that_is_too_large_is_sent_in_parts(most_lines: int) -> None:
    async with influxdb2(most_lines=most_lines) as server:
        writer, metrics = writer_to(server)
        async with writer:
            for number in range(8):
                metrics.meter(f"model-{number}", "1", "mqtt").finished("ok", 1_000_000, 100, 50)
            await until(lambda: writer.written > 16)
    assert not server.violations
    assert len(set(server.lines)) == writer.written  # a write whose answer was cut off at the end is sent again
    assert (writer.failures, writer.refused, writer.buffer.dropped) == (1, 0, 0)


async def test_a_single_point_that_is_too_large_is_dropped() -> None:
    async with influxdb2(most_lines=0) as server:
        writer, _ = writer_to(server)
        async with writer:
            await until(lambda: writer.refused > 2)
    assert not server.violations
    assert writer.written == 0


def test_user_and_password_of_influxdb_1_8_at_this_address() -> None:
    settings = InfluxSettings(bucket="db/autogen", org="any", username="writer")
    assert authorization(settings) == {"Authorization": f"Token writer:{TOKEN}"}


@pytest.mark.parametrize("half", ["bucket", "org"])
def test_bucket_and_organisation_belong_together(half: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="--influx-bucket and --influx-org belong together"):
        build({("model", "path"): tmp_path, ("influx", half): "x"})
