"""A device on MQTT, as a sensor that asks the edge and as a tier that infers itself, over a real broker."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest

from tests.components import need
from tests.sensor_client import device_on
from tests.waiting import until
from tierwise.core.errors import DeadlineExceededError, InferenceError, InvalidInputError
from tierwise.device.boards import load_board
from tierwise.device.bridge import DEVICE_REQUEST_TOPIC, ENERGY, TIMING, BridgeSettings, DeviceBridge
from tierwise.device.build import Options, build
from tierwise.device.emulator import Emulator
from tierwise.messaging.settings import MqttConnectionSettings

need(package="ai_edge_litert")

from tests.device.reference_models import MODELS  # noqa: E402 - after the check that its package is installed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tierwise.live.broker import PrivateBroker

SAMPLE = np.linspace(-5, 5, 1200).reshape(30, 1, 40)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    need(program="arm-none-eabi-gcc")
    need(program="qemu-system-arm")
    made = tmp_path_factory.mktemp("bridge")
    (made / "wake-word.tflite").write_bytes(MODELS["wake-word"]())
    build(made / "wake-word.tflite", made / "build", Options(version="3"))
    return made / "build"


@contextlib.asynccontextmanager
async def bridge_on(broker: PrivateBroker, folder: Path, **options: Any) -> AsyncIterator[DeviceBridge]:
    connection = MqttConnectionSettings(host=broker.host, port=broker.port)
    async with (
        Emulator(folder) as emulator,
        DeviceBridge(emulator, connection, BridgeSettings(device_id="mcu1", **options)) as bridge,
    ):
        yield bridge


async def test_sensor_asks_the_edge_and_its_device_takes_the_answer(broker: PrivateBroker, folder: Path) -> None:
    async with device_on(broker, "ml/inference/request") as edge, bridge_on(broker, folder) as bridge:
        asking = asyncio.create_task(bridge.ask(SAMPLE))
        await until(lambda: bool(edge.received))
        request = msgspec.json.decode(edge.received[0].payload)
        assert request["device_id"] == "mcu1"
        # What the device senses is int8: the features are off by half a step of its input's scale at most.
        assert np.abs(np.array(request["features"]).ravel() - SAMPLE.ravel()).max() <= 0.05 / 2 + 1e-6
        answer = {name: request[name] for name in ("device_id", "timestamp_us", "request_id")}
        edge.send({**answer, "prediction": [0.25, 0.5], "inference_time_ms": 1.5}, topic="ml/inference/result/mcu1")
        result = await asking
        assert result.prediction == [0.25, 0.5]
        assert bridge.answers_taken == 1


async def test_sensor_is_told_of_a_refusal(broker: PrivateBroker, folder: Path) -> None:
    async with device_on(broker, "ml/inference/request") as edge, bridge_on(broker, folder) as bridge:
        asking = asyncio.create_task(bridge.ask(SAMPLE))
        await until(lambda: bool(edge.received))
        request = msgspec.json.decode(edge.received[0].payload)
        answer = {name: request[name] for name in ("device_id", "timestamp_us", "request_id")}
        edge.send({**answer, "error": {"code": "overloaded", "message": "full"}}, topic="ml/inference/error/mcu1")
        with pytest.raises(InferenceError, match="the edge refuses: full"):
            await asking
        assert bridge.answers_taken == 1


async def test_sensor_gives_up_on_a_silent_edge(broker: PrivateBroker, folder: Path) -> None:
    async with bridge_on(broker, folder, deadline_s=0.2) as bridge:
        with pytest.raises(DeadlineExceededError, match=r"within 0\.2 s"):
            await bridge.ask(SAMPLE)
        with pytest.raises(InvalidInputError, match="batch"):
            await bridge.ask(np.stack([SAMPLE, SAMPLE]))


async def test_device_publishes_what_it_has_inferred(broker: PrivateBroker, folder: Path) -> None:
    board = load_board("nucleo-l4r5zi")
    async with device_on(broker) as listener, bridge_on(broker, folder, board=board) as bridge:
        answer = await bridge.infer(SAMPLE)
        (message,) = await listener.receive(1)
    assert listener.received[0].topic == "ml/inference/result/mcu1"
    assert message["prediction"] == pytest.approx(answer.prediction)
    assert message["tier"] == "device"
    assert message["model"] == "wake-word"
    assert message["model_version"] == "3"
    assert 1 < message["inference_time_ms"] < 50


async def test_device_answers_others_like_every_tier(broker: PrivateBroker, folder: Path) -> None:
    board = load_board("nucleo-l4r5zi")
    serving = {"serve_topic": DEVICE_REQUEST_TOPIC, "board": board, "label_of": lambda _: "word"}
    request = {"device_id": "s1", "timestamp_us": 5, "features": SAMPLE.tolist(), "request_id": "r1"}
    async with device_on(broker) as client, bridge_on(broker, folder, **serving) as bridge:
        client.send(request, topic=DEVICE_REQUEST_TOPIC, user_properties=[(TIMING, "1")])
        client.send({**request, "features": [SAMPLE.tolist()] * 2}, topic=DEVICE_REQUEST_TOPIC)
        client.send({**request, "features": [1, 2]}, topic=DEVICE_REQUEST_TOPIC)
        client.send({**request, "deadline_ms": 1e-6}, topic=DEVICE_REQUEST_TOPIC)
        client.send(b'{"device_id": "s1"', topic=DEVICE_REQUEST_TOPIC)
        messages = await client.receive(5)
        own = await bridge.infer(SAMPLE)
    answers = [m for m in messages if "prediction" in m]
    errors = [m for m in messages if "error" in m]
    assert answers[0]["prediction"] == pytest.approx(own.prediction)
    assert answers[0]["request_id"] == "r1"
    assert answers[0]["label"] == "word"
    assert answers[1]["prediction"] == [answers[0]["prediction"]] * 2
    assert answers[1]["inference_time_ms"] == pytest.approx(2 * answers[0]["inference_time_ms"], rel=1e-3)
    assert sorted(e["error"]["code"] for e in errors) == ["deadline_exceeded", "invalid_input", "invalid_request"]
    first = next(packet for packet in client.received if b'"prediction"' in packet.payload)
    told = dict(first.user_properties)
    assert int(told["arrived_us"]) <= int(told["started_us"]) < int(told["finished_us"])
    assert 1e-5 < float(told[ENERGY]) < 1e-2


async def test_device_refuses_more_than_may_wait(broker: PrivateBroker, folder: Path) -> None:
    serving = {"serve_topic": DEVICE_REQUEST_TOPIC, "max_waiting": 1}
    request = {"device_id": "s1", "timestamp_us": 5, "features": SAMPLE.tolist()}
    async with device_on(broker) as client, bridge_on(broker, folder, **serving):
        for _ in range(12):
            client.send(request, topic=DEVICE_REQUEST_TOPIC)
        messages = await client.receive(12)
    codes = {m["error"]["code"] for m in messages if "error" in m}
    assert codes == {"overloaded"}
    assert any("prediction" in m for m in messages)


async def test_a_device_that_died_is_started_again(broker: PrivateBroker, folder: Path) -> None:
    request = {"device_id": "s1", "timestamp_us": 5, "features": SAMPLE.tolist()}
    async with (
        device_on(broker) as client,
        bridge_on(broker, folder, serve_topic=DEVICE_REQUEST_TOPIC) as bridge,
    ):
        process = bridge._emulator.process_id
        assert process is not None
        os.kill(process, signal.SIGKILL)
        client.send(request, topic=DEVICE_REQUEST_TOPIC)
        (lost,) = await client.receive(1)
        client.send(request, topic=DEVICE_REQUEST_TOPIC)
        (_, answer) = await client.receive(2)
    assert lost["error"]["code"] == "device"
    assert "prediction" in answer
