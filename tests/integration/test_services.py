"""The main job with real parts: processes of the command line, mosquitto, and clients that know nothing of tierwise."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
import pytest
from tests.components import need
from tests.sensor_client import device_on
from tests.services import TIERWISE, service
from tests.waiting import until

from tierwise.live.broker import private_broker
from tierwise.live.processes import child_process, free_port
from tierwise.serving.cloud import CloudMLService

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from tierwise.live.broker import PrivateBroker

NO_HTTP = ("--http", "off")


def samples(model: Path, count: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Held-out samples of a model and their classes."""
    with np.load(model / "samples.npz", allow_pickle=False) as archive:
        return archive["features"][:count], archive["labels"][:count]


def request(values: NDArray[Any], **fields: Any) -> dict[str, Any]:
    return {"device_id": "sensor1", "timestamp_us": 1_000_000, "features": values.tolist(), **fields}


def artifact(model: Path, suffix: str) -> Path:
    return next(model.glob(f"*{suffix}"))


@pytest.mark.parametrize("suffix", ["r.onnx", "r.tflite", "-int8.tflite", ".pt", ".pt2", ".safetensors"])
async def test_each_artifact_is_served(anomaly_detector: Path, broker: PrivateBroker, suffix: str) -> None:
    features, labels = samples(anomaly_detector, 50)
    async with service("serve", artifact(anomaly_detector, suffix), broker, *NO_HTTP), device_on(broker) as device:
        for number, values in enumerate(features):
            device.send(request(values, request_id=str(number)))
        results = await device.receive(len(features))
    assert all(topic == "ml/inference/result/sensor1" for topic in {packet.topic for packet in device.received})
    right = [result["label"] == ("normal", "faulty")[labels[int(result["request_id"])]] for result in results]
    assert sum(right) >= 45
    assert all(0 <= result["prediction"] <= 1 for result in results)
    assert all(0 < result["inference_time_ms"] < 1000 for result in results)


async def test_a_foreign_client_asks_and_hears_the_answer(anomaly_detector: Path, broker: PrivateBroker) -> None:
    need(program="mosquitto_sub")
    features, _ = samples(anomaly_detector, 1)
    at = ["-h", broker.host, "-p", str(broker.port)]
    listen = ["mosquitto_sub", *at, "-t", "ml/inference/result/+", "-v", "-C", "1", "-W", "60"]
    async with service("serve", anomaly_detector, broker, *NO_HTTP), child_process(listen) as ear:
        ask = ["mosquitto_pub", *at, "-t", "ml/inference/request", "-m", json.dumps(request(features[0]))]
        while ear.exit_code is None:  # it may not have subscribed yet, and does not say when it has
            async with child_process(ask) as mouth:
                assert await mouth.wait() == 0
        topic, _, body = (await ear.wait_line("ml/inference/result/sensor1 {", timeout_s=20)).partition(" ")
    assert topic == "ml/inference/result/sensor1"
    result = json.loads(body)
    assert result["device_id"] == "sensor1"
    assert 0 <= result["prediction"] <= 1


async def test_edge_and_cloud_agree_on_the_same_inputs(digits: Path, broker: PrivateBroker) -> None:
    features, _ = samples(digits, 40)
    async with (
        service("serve", digits, broker, *NO_HTTP),
        service("cloud", digits, broker, "--latency-ms", "5", "--request-topic", "ml/cloud/inference/request"),
        device_on(broker) as device,
    ):
        for topic in ("ml/inference/request", "ml/cloud/inference/request"):
            for number, values in enumerate(features):
                device.send(request(values, request_id=str(number)), topic=topic)
        results = await device.receive(2 * len(features))
    by_tier = {
        tier: {result["request_id"]: result for result in results if result["tier"] == tier}
        for tier in ("edge", "cloud")
    }
    assert by_tier["edge"].keys() == by_tier["cloud"].keys() == {str(number) for number in range(40)}
    for request_id, edge in by_tier["edge"].items():
        cloud = by_tier["cloud"][request_id]
        assert edge["label"] == cloud["label"]
        np.testing.assert_allclose(edge["prediction"], cloud["prediction"], atol=1e-5)
        assert "cloud_latency_ms" not in edge
        assert cloud["cloud_latency_ms"] == 10.0


async def test_a_hundred_requests_at_once_wait_side_by_side_in_the_cloud(
    anomaly_detector: Path, broker: PrivateBroker
) -> None:
    features, _ = samples(anomaly_detector, 100)
    async with service("cloud", anomaly_detector, broker), device_on(broker) as device:
        await device.ask(request(features[0]))
        started = time.monotonic()
        for number, values in enumerate(features):
            device.send(request(values, request_id=str(number)))
        results = (await device.receive(101))[1:]
        took_s = time.monotonic() - started
    assert {result["request_id"] for result in results} == {str(number) for number in range(100)}
    for result in results:
        assert result["cloud_latency_ms"] == 100.0
        assert result["total_latency_ms"] >= 100.0 + result["inference_time_ms"]
    assert took_s >= 0.099, "both ways of 50 ms are waited for"
    assert took_s < 5.0, "one after the other they would take 10 s"


async def test_the_version_of_mqtt_can_be_chosen(anomaly_detector: Path, broker: PrivateBroker) -> None:
    features, _ = samples(anomaly_detector, 1)
    options = (*NO_HTTP, "--mqtt-protocol", "3.1.1")
    async with service("serve", anomaly_detector, broker, *options) as child, device_on(broker) as device:
        assert "(MQTT 3.1.1)" in await child.wait_line("connected to the MQTT broker")
        assert "prediction" in (await device.ask(request(features[0])))[1]


async def test_the_service_survives_a_restart_of_the_broker(anomaly_detector: Path) -> None:
    need(program="mosquitto")
    features, _ = samples(anomaly_detector, 1)
    port = free_port()
    async with private_broker("mosquitto", port=port) as first:
        serving = service("serve", anomaly_detector, first, *NO_HTTP)
        child = await serving.__aenter__()
        try:
            async with device_on(first) as device:
                assert "prediction" in (await device.ask(request(features[0])))[1]
            await first.child.stop()
            async with private_broker("mosquitto", port=port) as second, device_on(second, "tierwise/+/status") as ear:
                await until(lambda: b"online" in [packet.payload for packet in ear.received], timeout_s=40)
                async with device_on(second) as device:
                    assert "prediction" in (await device.ask(request(features[0])))[1]
            assert child.exit_code is None
        finally:
            await serving.__aexit__(None, None, None)


async def test_sigterm_finishes_what_is_under_way_and_exits_0(anomaly_detector: Path, broker: PrivateBroker) -> None:
    features, _ = samples(anomaly_detector, 30)
    http = f"127.0.0.1:{free_port()}"
    options = ("--latency-ms", "3000", "--service-id", "cloud-9", "--http", http)
    async with (
        service("cloud", anomaly_detector, broker, *options) as cloud,
        device_on(broker, "ml/inference/result/+", "tierwise/+/status") as device,
        httpx.AsyncClient() as client,
    ):
        await until(lambda: device.of_topic("tierwise/cloud-9/status") == [b"online"])
        for number, values in enumerate(features):
            device.send(request(values, request_id=str(number)))
        async with asyncio.timeout(20):
            while (await client.get(f"http://{http}/health")).json()["requests_in_progress"] < len(features):
                pass
        assert not device.of_topic("ml/inference/result/sensor1"), "nothing is answered yet"
        cloud.terminate()
        assert await cloud.wait() == 0
        await until(lambda: device.of_topic("tierwise/cloud-9/status") == [b"online", b"stopped"])
    answered = {json.loads(payload)["request_id"] for payload in device.of_topic("ml/inference/result/sensor1")}
    assert answered == {str(number) for number in range(30)}


async def test_a_killed_service_is_told_offline(anomaly_detector: Path, broker: PrivateBroker) -> None:
    async with (
        device_on(broker, "tierwise/+/status") as device,
        service("serve", anomaly_detector, broker, *NO_HTTP, "--service-id", "edge-9") as edge,
    ):
        await until(lambda: device.of_topic("tierwise/edge-9/status") == [b"online"])
        edge.kill()
        await until(lambda: device.of_topic("tierwise/edge-9/status")[1:] != [])
        assert device.of_topic("tierwise/edge-9/status") == [b"online", b"offline"]


async def test_mqtt_and_http_of_one_service_give_the_same_answer(anomaly_detector: Path, broker: PrivateBroker) -> None:
    features, _ = samples(anomaly_detector, 1)
    port = free_port()
    async with (
        service("serve", anomaly_detector, broker, "--http", f"127.0.0.1:{port}"),
        device_on(broker) as device,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client,
    ):
        _, over_mqtt = await device.ask(request(features[0]))
        over_http = (await client.post("/predict", json={"input": features[0].tolist()})).json()
        metrics = (await client.get("/metrics")).text
    assert over_http["prediction"] == over_mqtt["prediction"]
    assert over_http["label"] == over_mqtt["label"]
    for transport in ("mqtt", "http"):
        labels = f'code="ok",model="anomaly-detector",tier="edge",transport="{transport}",version="1.0.0"'
        assert f"tierwise_requests_total{{{labels}}} 1.0" in _sorted_labels(metrics)


def _sorted_labels(metrics: str) -> str:
    lines = []
    for line in metrics.splitlines():
        name, brace, rest = line.partition("{")
        labels, _, value = rest.rpartition("}")
        lines.append(f"{name}{{{','.join(sorted(labels.split(',')))}}}{value}" if brace else line)
    return "\n".join(lines)


async def test_settings_come_from_the_environment(anomaly_detector: Path, broker: PrivateBroker) -> None:
    env = {
        "MODEL_PATH": str(artifact(anomaly_detector, ".onnx")),
        "MQTT_BROKER_HOST": broker.host,
        "MQTT_BROKER_PORT": str(broker.port),
        "TIERWISE_HTTP": "off",
        "TIERWISE_REQUEST_TOPIC": "plant/7/request",
        "TIERWISE_STATS_INTERVAL_S": "0.2",
    }
    features, _ = samples(anomaly_detector, 1)
    async with child_process([*TIERWISE, "serve"], env=env) as child, device_on(broker) as device:
        await child.wait_line("connected to the MQTT broker", timeout_s=60)
        _, result = await device.ask(request(features[0]), topic="plant/7/request")
        assert "prediction" in result
        line = await child.wait_line('"requests":1,', timeout_s=20)
    figures = json.loads(line)
    assert figures["event"] == "stats"
    assert figures["requests_per_s"] > 0
    assert figures["inference_ms"]["p50"] > 0
    assert any('"request_topic":"plant/7/request"' in line for line in child.lines), "the log names the topic"


@pytest.fixture(scope="module")
def import_s() -> float:
    """CPU time that the import of PyTorch takes here, in seconds."""
    before = children_s()
    subprocess.run([sys.executable, "-c", "import torch"], check=True)
    return children_s() - before


def children_s() -> float:
    """CPU time of all processes that were started and have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


@pytest.mark.parametrize("suffix", [".onnx", ".pt"])
@pytest.mark.parametrize("fault", ["missing", "empty", "garbage", "truncated", "pickle", "changed"])
async def test_an_unusable_model_ends_the_service_at_once_with_one_line(
    anomaly_detector: Path, tmp_path: Path, fault: str, suffix: str, import_s: float
) -> None:
    good = artifact(anomaly_detector, suffix).read_bytes()
    model = tmp_path / (artifact(anomaly_detector, suffix).name if fault == "changed" else f"model{suffix}")
    content = {
        "empty": b"",
        "garbage": b"not a model" * 100,
        "truncated": good[: len(good) // 2],
        "pickle": good.replace(b"\x80\x02}", b"\x80\x02\xff") if suffix == ".pt" else b"\x80\x02}.",
        "changed": good + b"\0",
    }
    if fault != "missing":
        model.write_bytes(content[fault])
    if fault == "changed":
        (tmp_path / "model.yaml").write_bytes((anomaly_detector / "model.yaml").read_bytes())
    before = children_s()
    async with child_process([*TIERWISE, "serve", "--model", model, "--mqtt", "127.0.0.1:9", *NO_HTTP]) as child:
        assert await child.wait() == 2
        await until(lambda: bool(child.lines))
    assert len(child.lines) == 1
    assert child.lines[0].startswith("tierwise: ")
    assert str(model) in child.lines[0]
    assert children_s() - before < import_s, "PyTorch is not imported for that"


async def test_the_cloud_service_as_a_class(anomaly_detector: Path, broker: PrivateBroker) -> None:
    features, _ = samples(anomaly_detector, 3)
    cloud = CloudMLService(str(artifact(anomaly_detector, ".pt")), broker.host, broker.port, cloud_latency_ms=20)
    cloud.load_model()
    alone = cloud.run_inference(features[0])
    assert isinstance(alone, float)
    assert cloud.run_inference(features) == pytest.approx([cloud.run_inference(values) for values in features])
    await asyncio.to_thread(cloud.connect_mqtt)
    running = asyncio.create_task(asyncio.to_thread(cloud.run))
    try:
        async with device_on(broker) as device:
            _, result = await device.ask(request(features[0]))
    finally:
        await asyncio.to_thread(cloud.stop)
        await running
    assert result["tier"] == "cloud"
    assert result["prediction"] == pytest.approx(alone, abs=1e-6)
    assert result["cloud_latency_ms"] == 40.0
    assert result["total_latency_ms"] >= 40.0 + result["inference_time_ms"]


async def test_ctrl_c_stops_a_service_like_sigterm(anomaly_detector: Path, broker: PrivateBroker) -> None:
    async with service("serve", anomaly_detector, broker, *NO_HTTP) as edge:
        os.kill(edge.pid, signal.SIGINT)
        assert await edge.wait() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("command", ["serve", "cloud"])
async def test_a_signal_while_the_model_loads_ends_the_service_in_good_order(
    tmp_path: Path, command: str, number: signal.Signals
) -> None:
    (tmp_path / "onnxruntime.py").write_text("import time\nprint('loading', flush=True)\ntime.sleep(3600)\n")
    (tmp_path / "model.onnx").write_bytes(b"a model")
    arguments: list[str | Path] = [
        *TIERWISE,
        command,
        "--model",
        tmp_path / "model.onnx",
        "--mqtt",
        "127.0.0.1:9",
        *NO_HTTP,
    ]
    async with child_process(arguments, env={"PYTHONPATH": str(tmp_path)}) as child:
        await child.wait_line("loading", timeout_s=60)
        os.kill(child.pid, number)
        assert await child.wait() == 0
    assert list(child.lines) == ["loading"]


MOMENTS = (
    "click",
    "tierwise.cli",
    "tierwise.serving.settings",
    "numpy",
    "uvloop",
    "tierwise.serving.service",
    "onnxruntime",
)
"""Modules in the order in which a starting service has imported them."""


@pytest.mark.parametrize("moment", MOMENTS)
async def test_a_service_that_is_stopped_while_it_starts_ends_with_0_and_no_word(
    anomaly_detector: Path, broker: PrivateBroker, moment: str
) -> None:
    """Python tells each import when it is done: the signal comes at these moments, not after guessed times."""
    at = f"{broker.host}:{broker.port}"
    arguments: list[str | Path] = [
        sys.executable,
        "-X",
        "importtime",
        *TIERWISE[1:],
        "serve",
        "--model",
        anomaly_detector,
        "--mqtt",
        at,
    ]
    heard: list[str] = []

    def on_line(line: str) -> None:
        imported = line.rpartition("|")[2].strip()
        heard.append(imported)
        if imported == moment:
            os.kill(child.pid, signal.SIGTERM)

    async with device_on(broker, "tierwise/+/status") as ear:
        async with child_process([*arguments, *NO_HTTP], on_line=on_line) as child, asyncio.timeout(30):
            assert await child.wait() == 0
        assert moment in heard
        assert not [line for line in child.lines if not line.startswith("import time:")]
        assert ear.received == []


async def test_a_service_that_is_stopped_as_soon_as_it_serves_says_stopped_at_most(
    anomaly_detector: Path, broker: PrivateBroker
) -> None:
    at = f"{broker.host}:{broker.port}"
    arguments: list[str | Path] = [*TIERWISE, "serve", "--model", anomaly_detector]
    arguments += ["--mqtt", at, "--http", "127.0.0.1:0"]

    def on_line(line: str) -> None:
        if '"event":"serving"' in line:
            os.kill(child.pid, signal.SIGTERM)

    async with device_on(broker, "tierwise/+/status") as ear:
        async with child_process(arguments, on_line=on_line) as child, asyncio.timeout(30):
            assert await child.wait() == 0
        assert [packet.payload for packet in ear.received] in ([], [b"stopped"], [b"online", b"stopped"])
    assert '"event":"stopped"' in child.lines[-1]
