"""One request followed: the same trace id in the answer, the log line, the exemplar and the spans."""

from __future__ import annotations

import logging
import re
import subprocess
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from tests.components import need
from tests.serving.fakes import served
from tests.serving.tcp import tcp_server
from tests.waiting import until
from tierwise.core.errors import DependencyError
from tierwise.serving import tracing
from tierwise.serving.metrics import ServiceMetrics
from tierwise.serving.service import Service
from tierwise.serving.settings import (
    Endpoint,
    HttpSettings,
    ModelSettings,
    MqttSettings,
    ServiceSettings,
    TracingSettings,
)
from tierwise.serving.traceparent import new_trace
from tierwise.serving.tracing import Tracer

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncIterator

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SAMPLED = {"traceparent": f"00-{TRACE}-{SPAN}-01"}
GOOD = {"input": [1, 2, 3, 4]}


@asynccontextmanager
async def running(tracing: TracingSettings | None = None) -> AsyncIterator[httpx.AsyncClient]:
    settings = ServiceSettings(
        model=ModelSettings(path=Path("none")),
        mqtt=MqttSettings(endpoint=None),
        http=HttpSettings(endpoint=Endpoint("127.0.0.1", 0)),
        tracing=tracing or TracingSettings(),
    )
    async with (
        Service(settings, served()) as service,
        httpx.AsyncClient(base_url=f"http://{service.http_endpoint}") as client,
    ):
        yield client


def request_lines(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    return [vars(record) for record in caplog.records if record.name == "tierwise.request"]


async def exemplars(client: httpx.AsyncClient) -> list[dict[str, str]]:
    response = await client.get("/metrics", headers={"accept": "application/openmetrics-text; version=1.0.0"})
    assert response.headers["content-type"] == "application/openmetrics-text; version=1.0.0; charset=utf-8"
    assert response.text.endswith("# EOF\n")
    families = list(text_string_to_metric_families(response.text))  # type: ignore[no-untyped-call]  # the library has none
    found = [sample.exemplar for family in families for sample in family.samples if sample.exemplar is not None]
    return [exemplar.labels for exemplar in found]


async def test_one_trace_id_in_answer_log_line_and_exemplar(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "tierwise.request")
    async with running() as client:
        response = await client.post("/predict", json={**GOOD, "request_id": "r-1"}, headers=SAMPLED)
        told = await exemplars(client)
    match = re.fullmatch(rf"00-{TRACE}-([0-9a-f]{{16}})-01", response.headers["traceparent"])
    assert match is not None
    span_id = match.group(1)
    assert span_id != SPAN
    (line,) = request_lines(caplog)
    assert (line["trace_id"], line["span_id"], line["parent_id"]) == (TRACE, span_id, SPAN)
    assert (line["code"], line["transport"], line["model"], line["request_id"]) == ("ok", "http", "sum", "r-1")
    assert line["duration_ms"] >= line["queue_ms"] + line["inference_ms"] > 0
    assert told == [{"trace_id": TRACE, "span_id": span_id}]


async def test_errors_are_followed_too(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "tierwise.request")
    async with running() as client:
        response = await client.post("/predict", json={"input": [1]}, headers=SAMPLED)
    assert response.status_code == 400
    assert TRACE in response.headers["traceparent"]
    (line,) = request_lines(caplog)
    assert (line["code"], line["inference_ms"]) == ("invalid_input", None)


async def test_an_unsampled_trace_is_passed_on_and_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "tierwise.request")
    async with running() as client:
        response = await client.post("/predict", json=GOOD, headers={"traceparent": f"00-{TRACE}-{SPAN}-00"})
        assert response.headers["traceparent"].startswith(f"00-{TRACE}-")
        assert response.headers["traceparent"].endswith("-00")
        assert await exemplars(client) == []
    assert request_lines(caplog) == []


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("traceparent", "nonsense")],
        [("traceparent", f"00-{'0' * 32}-{SPAN}-01")],
        [("traceparent", SAMPLED["traceparent"]), ("traceparent", SAMPLED["traceparent"])],
    ],
)
async def test_without_a_valid_header_no_trace(
    headers: list[tuple[str, str]], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "tierwise.request")
    async with running() as client:
        response = await client.post("/predict", json=GOOD, headers=headers)
    assert response.status_code == 200
    assert "traceparent" not in response.headers
    assert request_lines(caplog) == []


async def test_a_share_of_other_requests_begins_a_trace(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "tierwise.request")
    async with running(TracingSettings(ratio=1.0)) as client:
        response = await client.post("/predict", json=GOOD)
    (line,) = request_lines(caplog)
    assert line["trace_id"] in response.headers["traceparent"]
    assert line["parent_id"] is None


def test_callers_cannot_flood_the_log(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    caplog.set_level(logging.INFO, "tierwise.request")
    second = 1000.0
    monkeypatch.setattr("tierwise.serving.tracing.time.monotonic", lambda: second)
    tracer, meter = Tracer(), ServiceMetrics("edge").meter("m", "1", "mqtt")
    for _ in range(tracing.LOG_LINES_PER_S + 50):
        tracer.finish(new_trace(), meter, "ok", 0, None)
    assert len(request_lines(caplog)) == tracing.LOG_LINES_PER_S
    second += 1
    tracer.finish(new_trace(), meter, "ok", 0, None)
    assert request_lines(caplog)[-1]["lines_left_out"] == 50


class SpanReceiver:
    """An OTLP receiver: keeps the spans that are posted to it as protobuf."""

    def __init__(self) -> None:
        self.paths: list[str] = []
        self.resources: list[dict[str, str]] = []
        self.spans: list[Any] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (  # noqa: PLC0415 -- optional
            ExportTraceServiceRequest,
        )

        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        size = int(head.lower().partition("content-length:")[2].split()[0])
        request = ExportTraceServiceRequest.FromString(await reader.readexactly(size))
        self.paths.append(head.split()[1])
        for of_resource in request.resource_spans:
            self.resources.append({a.key: a.value.string_value for a in of_resource.resource.attributes})
            self.spans += [span for scope in of_resource.scope_spans for span in scope.spans]
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")


async def test_spans_reach_an_otlp_receiver_with_the_ids_of_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    need(package="opentelemetry.exporter.otlp.proto.http")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment=test")
    receiver = SpanReceiver()
    async with tcp_server(receiver.serve) as port:
        async with running(TracingSettings(otlp=f"http://127.0.0.1:{port}/v1/traces")) as client:
            answered = await client.post("/predict", json=GOOD, headers=SAMPLED)
            refused = await client.post(
                "/predict", json={"input": [1]}, headers={"traceparent": f"00-{TRACE}-{SPAN}-03"}
            )
            await client.post("/predict", json=GOOD)
        # Stopping the service delivers what has gathered.
        await until(lambda: len(receiver.spans) == 4)
    assert receiver.paths[0] == "/v1/traces"
    assert receiver.resources[0]["service.name"] == "tierwise-edge"
    assert receiver.resources[0]["deployment.environment"] == "test"
    by_id = {span.span_id.hex(): span for span in receiver.spans}
    request = by_id[answered.headers["traceparent"].split("-")[2]]
    error = by_id[refused.headers["traceparent"].split("-")[2]]
    assert {span.trace_id.hex() for span in receiver.spans} == {TRACE}
    assert request.name == "predict sum"
    assert request.parent_span_id.hex() == error.parent_span_id.hex() == SPAN
    assert error.status.code == error.status.STATUS_CODE_ERROR
    attributes = {a.key: a.value.string_value for a in request.attributes}
    assert attributes["tierwise.transport"] == "http"
    assert attributes["tierwise.code"] == "ok"
    children = {span.name: span for span in receiver.spans if span.parent_span_id == request.span_id}
    assert children.keys() == {"queue", "inference"}
    queue, inference = children["queue"], children["inference"]
    assert request.start_time_unix_nano <= queue.start_time_unix_nano <= queue.end_time_unix_nano
    assert queue.end_time_unix_nano == inference.start_time_unix_nano
    assert inference.end_time_unix_nano <= request.end_time_unix_nano


async def test_a_span_receiver_that_is_down_costs_nothing_but_its_spans(caplog: pytest.LogCaptureFixture) -> None:
    need(package="opentelemetry.exporter.otlp.proto.http")
    async with tcp_server(SpanReceiver().serve) as port:
        pass
    async with running(TracingSettings(otlp=f"http://127.0.0.1:{port}/v1/traces")) as client:
        response = await client.post("/predict", json=GOOD, headers=SAMPLED)
        assert response.json()["prediction"] == 10.0
    assert any("opentelemetry" in record.name for record in caplog.records)


def test_spans_without_opentelemetry_installed_are_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "opentelemetry"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delitem(sys.modules, "tierwise.serving.otlp", raising=False)
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    settings = ServiceSettings(
        model=ModelSettings(path=Path("none")), tracing=TracingSettings(otlp="http://localhost:4318/v1/traces")
    )
    with pytest.raises(DependencyError, match=r"pip install 'tierwise\[otel\]'"):
        Service(settings, served())


def test_a_service_without_spans_does_not_import_opentelemetry() -> None:
    code = "import sys, tierwise.serving.service; sys.exit('opentelemetry' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
