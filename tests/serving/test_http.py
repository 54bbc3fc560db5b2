"""The HTTP transport, over a real socket."""

from __future__ import annotations

import asyncio
import json
import threading
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.serving.fakes import held, row_sums, served
from tests.waiting import until
from tierwise.core.errors import ConfigurationError
from tierwise.serving.service import Service
from tierwise.serving.settings import (
    DelaySettings,
    Endpoint,
    HttpSettings,
    LimitSettings,
    ModelSettings,
    MqttSettings,
    ServiceSettings,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from numpy.typing import NDArray

    from tierwise.serving.model import ServedModel


@asynccontextmanager
async def running(
    model: ServedModel | None = None, *, latency_ms: float = 0, queue_size: int = 100
) -> AsyncIterator[tuple[Service, httpx.AsyncClient]]:
    settings = ServiceSettings(
        model=ModelSettings(path=Path("none")),
        mqtt=MqttSettings(endpoint=None),
        http=HttpSettings(endpoint=Endpoint("127.0.0.1", 0)),
        limits=LimitSettings(queue_size=queue_size, max_payload_bytes=2000),
        delay=DelaySettings(latency_ms=latency_ms),
    )
    async with (
        Service(settings, model or served()) as service,
        httpx.AsyncClient(base_url=f"http://{service.http_endpoint}") as client,
    ):
        yield service, client


@pytest.mark.parametrize("field", ["input", "features", "inputs"])
async def test_predict_answers_with_the_fields_of_the_contract(field: str) -> None:
    async with running() as (_, client):
        response = await client.post("/predict", json={field: [1, 2, 3, 4]})
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    body = response.json()
    assert body.keys() == {"prediction", "inference_time_ms", "model", "model_version", "tier"}
    assert body["prediction"] == 10.0
    assert 0 < body["inference_time_ms"] < 1000
    assert (body["model"], body["model_version"], body["tier"]) == ("sum", "1", "edge")


@pytest.mark.parametrize(
    ("body", "prediction"),
    [
        ({"input": [[1, 2, 3, 4], [0, 0, 0, 1]]}, [10.0, 1.0]),
        ({"input": [[1, 2, 3, 4]]}, [10.0]),
        ({"input": {"features": [1, 2, 3, 4]}}, 10.0),
        ({"inputs": [{"name": "features", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4]}]}, [10.0]),
        ({"inputs": [{"name": "features", "shape": [4], "datatype": "INT64", "data": [1, 2, 3, 4]}]}, 10.0),
        ({"input": [1, 2, 3, 4], "model": "sum", "model_version": "1", "surprise": True}, 10.0),
    ],
)
async def test_forms_of_the_input(body: dict[str, Any], prediction: float | list[float]) -> None:
    async with running() as (_, client):
        response = await client.post("/predict", json=body)
    assert response.status_code == 200, response.text
    assert response.json()["prediction"] == prediction


@pytest.mark.parametrize(
    ("content", "status", "said"),
    [
        (b"hello", 400, "not JSON"),
        (b"", 400, "not JSON"),
        (b"[1, 2, 3, 4]", 400, "not a request"),
        (b"{}", 400, "expected exactly one of input, features and inputs, got none of them"),
        (b'{"input": [1], "features": [1]}', 400, "got input and features"),
        (b'{"input": [1, 2]}', 400, "expected 4 values"),
        (b'{"input": ["a", 2, 3, 4]}', 400, "expected numbers"),
        (b'{"input": [NaN, 2, 3, 4]}', 400, "NaN"),
        (b'{"input": [[1, 2, 3, 4], [1]]}', 400, "ragged"),
        (b'{"input": 3}', 400, "expected a list of numbers"),
        (b'{"input": [1, 2, 3, 4], "model": "other"}', 404, "no model other here"),
        (b'{"input": [1, 2, 3, 4], "deadline_ms": -1}', 400, "deadline_ms"),
        (b'{"input": [1, 2, 3, 4], "deadline_ms": 1e-6}', 504, "deadline passed"),
        (b'{"input": [' + b"1," * 2000 + b"1]}", 413, "more than 2000 bytes"),
        (b'{"inputs": [{"name": "features"}]}', 400, "inputs"),
        (b'{"inputs": [{"name": "f", "shape": [5], "datatype": "FP32", "data": [1]}]}', 400, "does not hold 1 values"),
        (b'{"inputs": [{"name": "f", "shape": [1], "datatype": "F32", "data": [1]}]}', 400, "unknown datatype"),
        (
            b'{"inputs": [{"name": "f", "shape": [1], "datatype": "UINT8", "data": [256]}]}',
            400,
            "not all values are UINT8",
        ),
    ],
)
async def test_each_fault_has_its_status_and_says_what_is_wrong(content: bytes, status: int, said: str) -> None:
    async with running() as (_, client):
        response = await client.post("/predict", content=content)
        assert response.status_code == status, response.text
        assert response.json().keys() == {"error"}
        assert said in response.json()["error"]
        assert (await client.post("/predict", json={"input": [1, 2, 3, 4]})).status_code == 200, "the service lives on"


async def test_a_body_without_length_is_limited_too() -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b"1," * 50

    async with running() as (_, client):
        response = await client.post("/predict", content=chunks())
    assert response.status_code == 413


async def test_a_full_queue_is_503_with_retry_after_and_health_still_answers() -> None:
    model, may_finish = held()
    async with running(model, queue_size=1) as (service, client):
        first = asyncio.create_task(client.post("/predict", json={"input": [1, 2, 3, 4]}))
        await until(lambda: service.plane.pending == 1)
        refused = await client.post("/predict", json={"input": [1, 2, 3, 4]})
        healthy = await client.get("/health")
        assert refused.status_code == 503
        assert int(refused.headers["retry-after"]) >= 1
        assert healthy.status_code == 200
        assert healthy.json()["requests_in_progress"] == 1
        may_finish.set()
        assert (await first).status_code == 200


async def test_a_simulated_cloud_tells_its_delay() -> None:
    async with running(latency_ms=10) as (_, client):
        body: dict[str, float] = (await client.post("/predict", json={"input": [1, 2, 3, 4]})).json()
    assert body["cloud_latency_ms"] == 20.0
    assert body["total_latency_ms"] >= 20.0 + body["inference_time_ms"]


async def test_other_methods_and_paths_are_errors_in_json() -> None:
    async with running() as (_, client):
        wrong_method = await client.get("/predict")
        no_such_page = await client.get("/nothing")
        posted_health = await client.post("/health")
    assert wrong_method.status_code == 405
    assert wrong_method.headers["allow"] == "POST"
    assert no_such_page.status_code == 404
    assert posted_health.status_code == 405
    for response in (wrong_method, no_such_page, posted_health):
        assert response.json().keys() == {"error"}


async def test_health_tells_what_is_served_and_503_while_draining() -> None:
    async with running() as (service, client):
        ready = await client.get("/health")
        service.plane.accepting = False
        draining = await client.get("/health")
        alive = await client.get("/health/live")
    assert ready.status_code == 200
    assert ready.json()["status"] == "ok"
    assert ready.json()["model"] == "sum"
    assert ready.json()["mqtt"] == "off"
    assert draining.status_code == 503
    assert "draining" in draining.json()["reason"]
    assert (alive.status_code, alive.json()) == (200, {"status": "alive"})


async def test_metrics_count_requests_by_outcome() -> None:
    async with running() as (_, client):
        for values in ([1, 2, 3, 4], [1, 2, 3, 4], []):
            await client.post("/predict", json={"input": values})
        response = await client.get("/metrics")
        as_json = (await client.get("/metrics", headers={"accept": "application/json"})).json()
    assert response.headers["content-type"].startswith("text/plain")
    samples = [s for family in text_string_to_metric_families(response.text) for s in family.samples]
    counts = {s.labels["code"]: s.value for s in samples if s.name == "tierwise_requests_total"}
    assert counts == {"ok": 2, "invalid_input": 1}
    assert as_json["tierwise_requests"]["samples"]


async def test_a_taken_port_is_one_clear_error() -> None:
    async with running() as (service, _):
        settings = ServiceSettings(
            model=ModelSettings(path=Path("none")),
            mqtt=MqttSettings(endpoint=None),
            http=HttpSettings(endpoint=service.http_endpoint),
        )
        with pytest.raises(ConfigurationError, match=r"cannot listen on 127\.0\.0\.1:\d+ \(--http\): .*; end what"):
            async with Service(settings, served()):
                pass


async def test_a_service_that_cannot_open_leaves_nothing_open() -> None:
    settings = ServiceSettings(
        model=ModelSettings(path=Path("none")),
        mqtt=MqttSettings(endpoint=Endpoint("127.0.0.1", 1), password_file=Path("no-such-secret")),
        http=HttpSettings(endpoint=Endpoint("127.0.0.1", 0)),
    )
    service = Service(settings, served())
    before = asyncio.all_tasks()
    with pytest.raises(ConfigurationError, match="cannot read no-such-secret"):
        await service.__aenter__()
    assert asyncio.all_tasks() == before
    assert service.http_endpoint is not None
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection(*service.http_endpoint)


async def test_stopping_answers_what_is_under_way() -> None:
    async with running(latency_ms=50) as (service, client):
        asked = asyncio.create_task(client.post("/predict", json={"input": [1, 2, 3, 4]}))
        await until(lambda: service.plane.pending == 1)
        assert await service.plane.drain(5) == 0
        assert json.loads((await asked).content)["prediction"] == 10.0


async def _exchange(service: Service, sent: bytes, *, until_bytes: bytes) -> bytes:
    """What the service writes to one connection until ``until_bytes`` has come or it closes."""
    assert service.http_endpoint is not None
    reader, writer = await asyncio.open_connection(*service.http_endpoint)
    writer.write(sent)
    got = b""
    async with asyncio.timeout(10):
        while until_bytes not in got and (chunk := await reader.read(4096)):
            got += chunk
    writer.close()
    return got


BODY = b'{"input": [1, 2, 3, 4]}'
PREDICT = b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%b" % (len(BODY), BODY)
HEALTH = b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n"


@pytest.mark.parametrize("latency_ms", [0, 5])
async def test_pipelined_requests_are_answered_in_their_order(latency_ms: float) -> None:
    async with running(latency_ms=latency_ms) as (service, _):
        last = PREDICT.replace(b"host: x", b"host: x\r\nconnection: close")
        got = await _exchange(service, PREDICT + HEALTH + PREDICT + last, until_bytes=b"never")
    bodies = [part.partition(b"\r\n\r\n")[2][:13] for part in got.split(b"HTTP/1.1 200")[1:]]
    assert bodies == [b'{"prediction"', b'{"status":"ok', b'{"prediction"', b'{"prediction"']


async def test_a_large_batch_is_answered_later_and_nothing_overtakes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tierwise.serving.dataplane.INLINE_VALUES", 4)
    batch = b'{"input": [[1, 2, 3, 4], [0, 0, 0, 1]]}'
    large = b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%b" % (len(batch), batch)
    async with running() as (service, client):
        last = PREDICT.replace(b"host: x", b"host: x\r\nconnection: close")
        got = await _exchange(service, large + last, until_bytes=b"never")
        assert got.count(b"HTTP/1.1 200") == 2
        assert 0 < got.find(b'"prediction":[10.0,1.0]') < got.find(b'"prediction":10.0')
        one_by_one = [await client.post("/predict", content=body) for body in (batch, BODY, batch)]
    assert [response.json()["prediction"] for response in one_by_one] == [[10.0, 1.0], 10.0, [10.0, 1.0]]


async def test_a_client_that_does_not_wait_for_a_large_batch_disturbs_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tierwise.serving.dataplane.INLINE_VALUES", 4)
    may_finish = threading.Event()

    def wait(features: NDArray[Any]) -> NDArray[Any]:
        assert may_finish.wait(20)
        return row_sums(features)

    batch = b'{"input": [[1, 2, 3, 4], [0, 0, 0, 1]]}'
    large = b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%b" % (len(batch), batch)
    async with running(served(wait)) as (service, client):
        assert service.http_endpoint is not None
        _, writer = await asyncio.open_connection(*service.http_endpoint)
        writer.write(large)
        await until(lambda: service.plane.pending == 1)
        writer.close()
        await writer.wait_closed()
        may_finish.set()
        assert (await client.post("/predict", content=BODY)).json()["prediction"] == 10.0


async def test_a_request_in_pieces_is_answered() -> None:
    async with running() as (service, _):
        assert service.http_endpoint is not None
        reader, writer = await asyncio.open_connection(*service.http_endpoint)
        for index in range(len(PREDICT)):
            writer.write(PREDICT[index : index + 1])
            await writer.drain()
            await asyncio.sleep(0)
        async with asyncio.timeout(10):
            assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        writer.close()


async def test_the_connection_is_closed_where_the_client_asks_for_it() -> None:
    request = PREDICT.replace(b"host: x", b"host: x\r\nconnection: close")
    async with running() as (service, _):
        got = await _exchange(service, request, until_bytes=b"never")
    assert got.startswith(b"HTTP/1.1 200")
    assert b"connection: close" in got
    assert b'"prediction":10.0' in got


async def test_a_client_that_waits_for_100_continue_gets_it() -> None:
    async with running() as (service, _):
        assert service.http_endpoint is not None
        reader, writer = await asyncio.open_connection(*service.http_endpoint)
        head, _, body = PREDICT.partition(b"\r\n\r\n")
        writer.write(head + b"\r\nexpect: 100-continue\r\n\r\n")
        async with asyncio.timeout(10):
            assert (await reader.readline()).startswith(b"HTTP/1.1 100")
            await reader.readline()
            writer.write(body)
            assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        writer.close()


async def test_what_is_no_http_is_refused_and_the_next_client_served() -> None:
    async with running() as (service, client):
        got = await _exchange(service, b"\x00\x01 nonsense\r\n\r\n", until_bytes=b"never")
        assert got.startswith(b"HTTP/1.1 400")
        assert (await client.get("/health")).status_code == 200


async def test_head_has_the_headers_and_no_body() -> None:
    async with running() as (service, client):
        shown, asked = await client.get("/health"), await client.head("/health")
        got = await _exchange(
            service, b"HEAD /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n", until_bytes=b"never"
        )
    assert asked.status_code == 200
    assert asked.headers["content-type"] == shown.headers["content-type"]
    assert got.endswith(b"\r\n\r\n")


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "PUT", "DELETE"])
async def test_predict_takes_post_only(method: str) -> None:
    async with running() as (_, client):
        response = await client.request(method, "/predict")
    assert response.status_code == 405
    assert response.headers["allow"] == "POST"


@pytest.mark.parametrize("path", ["/predict", "/health", "/nothing"])
async def test_every_response_has_a_date(path: str) -> None:
    async with running() as (service, client):
        server = service._http
        assert server is not None
        await until(lambda: bool(server.server_state.default_headers))
        response = await client.request("POST" if path == "/predict" else "GET", path)
    assert response.headers["date"].endswith("GMT")


@pytest.mark.parametrize("target", [b"/predict?x=1", b"http://somewhere/predict", b"/%70redict"])
async def test_the_same_target_in_other_words(target: bytes) -> None:
    async with running() as (service, _):
        got = await _exchange(service, PREDICT.replace(b"/predict", target), until_bytes=b"}")
    assert b'"prediction":10.0' in got


async def test_a_client_of_http_1_0_is_answered_and_the_connection_closed() -> None:
    request = PREDICT.replace(b"HTTP/1.1", b"HTTP/1.0").replace(b"host: x", b"connection: keep-alive")
    async with running() as (service, _):
        got = await _exchange(service, request, until_bytes=b"never")
    assert b'"prediction":10.0' in got
    assert b"connection: close" in got


async def test_an_offer_of_http_2_is_ignored() -> None:
    offer = b"host: x\r\nconnection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABk"
    async with running() as (service, _):
        got = await _exchange(service, PREDICT.replace(b"host: x", offer) + HEALTH, until_bytes=b'"status":"ok"')
    assert got.count(b"HTTP/1.1 200") == 2
    assert b'"prediction":10.0' in got


async def test_100_continue_waits_for_the_answers_before_it() -> None:
    head, _, body = PREDICT.partition(b"\r\n\r\n")
    async with running(latency_ms=20) as (service, _):
        assert service.http_endpoint is not None
        reader, writer = await asyncio.open_connection(*service.http_endpoint)
        writer.write(PREDICT + head + b"\r\nexpect: 100-continue\r\n\r\n")
        async with asyncio.timeout(10):
            assert (await reader.readline()).startswith(b"HTTP/1.1 200")
            assert b'"prediction":10.0' in await reader.readuntil(b"}")
            assert (await reader.readline()).startswith(b"HTTP/1.1 100")
            await reader.readline()
            writer.write(body)
            assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        writer.close()


async def test_a_service_that_stops_closes_idle_connections_and_answers_the_others() -> None:
    async with running(latency_ms=100) as (service, _):
        assert service.http_endpoint is not None
        idle, idle_writer = await asyncio.open_connection(*service.http_endpoint)
        busy, busy_writer = await asyncio.open_connection(*service.http_endpoint)
        busy_writer.write(PREDICT + PREDICT)
        await until(lambda: service.plane.pending == 1)
        server = service._http
        assert server is not None
        server.should_exit = True
        async with asyncio.timeout(10):
            assert await idle.read() == b""
            got = await busy.read()
        idle_writer.close()
        busy_writer.close()
    assert got.count(b"HTTP/1.1 200") == 2
    assert got.count(b"connection: close") == 1
