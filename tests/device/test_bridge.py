"""A device on MQTT, as a sensor that asks the edge and as a tier that infers itself, over a real broker."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from typing import TYPE_CHECKING, Any

import mqtt5
import msgspec
import numpy as np
import pytest

from tests.components import need
from tests.messaging.peers import FakeBroker, Session, accept
from tests.sensor_client import device_on
from tests.waiting import until
from tierwise.core.clocks import monotonic_ns
from tierwise.core.errors import DeadlineExceededError, InferenceError, InvalidInputError
from tierwise.device.boards import load_board
from tierwise.device.bridge import DEVICE_REQUEST_TOPIC, ENERGY, BridgeSettings, DeviceBridge
from tierwise.device.build import Options, build
from tierwise.device.emulator import Emulator
from tierwise.messaging import status
from tierwise.messaging.payloads import RAW_CONTENT_TYPE
from tierwise.messaging.settings import MqttConnectionSettings
from tierwise.messaging.topics import TIMING

need(package="ai_edge_litert")

from tests.device.reference_models import MODELS  # noqa: E402 - after the check that its package is installed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
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
async def bridge_on(broker: PrivateBroker | FakeBroker, folder: Path, **options: Any) -> AsyncIterator[DeviceBridge]:
    connection = MqttConnectionSettings(host=broker.host, port=broker.port, backoff_base_s=0.02, backoff_cap_s=0.2)
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
        assert request["deadline_ms"] == 10_000
        assert edge.received[0].message_expiry_interval in range(1, 11)
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


async def test_a_raw_request_is_answered_like_one_in_json(broker: PrivateBroker, folder: Path) -> None:
    values = SAMPLE.astype("<f4")
    raw: dict[str, Any] = {"topic": DEVICE_REQUEST_TOPIC, "content_type": RAW_CONTENT_TYPE}
    who = [("device_id", "s1"), ("timestamp_us", "7"), ("request_id", "r1")]
    async with device_on(broker) as client, bridge_on(broker, folder, serve_topic=DEVICE_REQUEST_TOPIC):
        request = {"device_id": "s1", "timestamp_us": 7, "features": values.tolist()}
        _, in_json = await client.ask(request, topic=DEVICE_REQUEST_TOPIC)
        topic, answer = await client.ask(values.tobytes(), user_properties=who, **raw)
        _, error = await client.ask(b"\0\0\0", user_properties=who, **raw)
    assert topic == "ml/inference/result/s1"
    assert answer["prediction"] == in_json["prediction"]
    assert (answer["timestamp_us"], answer["request_id"]) == (7, "r1")
    assert (error["device_id"], error["timestamp_us"]) == ("s1", 7)
    assert error["error"]["code"] == "invalid_input"


async def test_answers_and_errors_go_to_the_response_topic_too(broker: PrivateBroker, folder: Path) -> None:
    trace = [("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")]
    request = {"device_id": "s1", "timestamp_us": 5, "features": SAMPLE.tolist()}
    async with (
        device_on(broker, "ml/inference/result/+", "ml/inference/error/+", "mine") as client,
        bridge_on(broker, folder, serve_topic=DEVICE_REQUEST_TOPIC),
    ):
        for correlation, changes in ((b"c1", {}), (b"c2", {"features": [1]}), (b"c3", {"model": "other"})):
            client.send(
                {**request, **changes},
                topic=DEVICE_REQUEST_TOPIC,
                response_topic="mine",
                correlation_data=correlation,
                user_properties=trace,
            )
        await client.receive(6)
    mine = {p.correlation_data: p for p in client.received if p.topic == "mine"}
    other = [p for p in client.received if p.topic != "mine"]
    assert sorted(p.payload for p in mine.values()) == sorted(p.payload for p in other)
    assert [p.correlation_data for p in other] == [None] * 3
    assert "prediction" in msgspec.json.decode(mine[b"c1"].payload)
    errors = [msgspec.json.decode(mine[key].payload)["error"] for key in (b"c2", b"c3")]
    assert [error["code"] for error in errors] == ["invalid_input", "unknown_model"]
    assert "this device has wake-word 3" in errors[1]["message"]
    for packet in client.received:
        assert ("traceparent", trace[0][1]) in packet.user_properties


async def test_message_expiry_is_the_deadline(broker: PrivateBroker, folder: Path) -> None:
    request = {"device_id": "s1", "timestamp_us": 5, "features": SAMPLE.tolist()}
    async with (
        device_on(broker) as client,
        bridge_on(broker, folder, serve_topic=DEVICE_REQUEST_TOPIC) as bridge,
    ):
        process = bridge._emulator.process_id
        assert process is not None
        os.kill(process, signal.SIGSTOP)  # the first request occupies the device, the second waits
        client.send({**request, "request_id": "first"}, topic=DEVICE_REQUEST_TOPIC)
        client.send({**request, "request_id": "second"}, topic=DEVICE_REQUEST_TOPIC, message_expiry_interval=3)
        await until(lambda: bridge._waiting.qsize() == 1)
        late_ns = monotonic_ns() + 3_000_000_000
        await until(lambda: monotonic_ns() > late_ns)
        os.kill(process, signal.SIGCONT)
        first, second = await client.receive(2)
    assert (first["request_id"], "prediction" in first) == ("first", True)
    assert (second["request_id"], second["error"]["code"]) == ("second", "deadline_exceeded")


async def test_who_waits_when_the_device_stops_is_told(broker: PrivateBroker, folder: Path) -> None:
    request = {"device_id": "s1", "timestamp_us": 5, "features": SAMPLE.tolist()}
    async with device_on(broker) as client:
        async with bridge_on(broker, folder, serve_topic=DEVICE_REQUEST_TOPIC) as bridge:
            process = bridge._emulator.process_id
            assert process is not None
            os.kill(process, signal.SIGSTOP)
            for _ in range(3):
                client.send(request, topic=DEVICE_REQUEST_TOPIC)
            await until(lambda: bridge._waiting.qsize() == 2)
        messages = await client.receive(3)
    assert [m["error"]["code"] for m in messages] == ["overloaded"] * 3


async def test_a_request_is_acknowledged_only_after_the_broker_has_its_answer(folder: Path) -> None:
    order: list[str] = []
    request = {"device_id": "s1", "timestamp_us": 5, "features": SAMPLE.tolist()}

    async def script(session: Session) -> None:
        await accept(session)
        subscribe = await session.receive_until(mqtt5.SubscribePacket)
        assert isinstance(subscribe, mqtt5.SubscribePacket)
        granted = [mqtt5.SubAckReasonCode.GRANTED_QOS_AT_LEAST_ONCE] * 3
        session.send(mqtt5.SubAckPacket(subscribe.packet_id, granted))
        at_least_once = mqtt5.QoS.AT_LEAST_ONCE
        session.send(
            mqtt5.PublishPacket(DEVICE_REQUEST_TOPIC, msgspec.json.encode(request), qos=at_least_once, packet_id=7)
        )
        while True:
            packet = await session.receive()
            if isinstance(packet, mqtt5.PublishPacket) and packet.packet_id is not None:
                if packet.topic == "ml/inference/result/s1":
                    order.append("answered")
                session.send(mqtt5.PubAckPacket(packet.packet_id))
            elif isinstance(packet, mqtt5.PubAckPacket):
                assert packet.packet_id == 7
                order.append("acknowledged")
            elif isinstance(packet, mqtt5.UnsubscribePacket):
                session.send(mqtt5.UnsubAckPacket(packet.packet_id, [mqtt5.UnsubAckReasonCode.SUCCESS]))

    async with FakeBroker(script) as broker, bridge_on(broker, folder, serve_topic=DEVICE_REQUEST_TOPIC):
        await until(lambda: len(order) == 2)
    assert order == ["answered", "acknowledged"]


async def test_a_request_that_comes_while_the_bridge_leaves_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(status, "GOODBYE_S", 3600.0)
    seen: list[str] = []
    request = {"device_id": "s1", "timestamp_us": 5, "features": SAMPLE.tolist()}

    async def script(session: Session) -> None:
        await accept(session)
        subscribe = await session.receive_until(mqtt5.SubscribePacket)
        assert isinstance(subscribe, mqtt5.SubscribePacket)
        granted = [mqtt5.SubAckReasonCode.GRANTED_QOS_AT_LEAST_ONCE] * 3
        session.send(mqtt5.SubAckPacket(subscribe.packet_id, granted))
        while True:
            packet = await session.receive()
            if isinstance(packet, mqtt5.UnsubscribePacket):  # it is refused, so requests go on coming
                refused = [mqtt5.UnsubAckReasonCode.UNSPECIFIED_ERROR]
                session.send(mqtt5.UnsubAckPacket(packet.packet_id, refused))
            elif isinstance(packet, mqtt5.PubAckPacket):
                seen.append("acknowledged")
            elif isinstance(packet, mqtt5.PublishPacket) and packet.packet_id is not None:
                if packet.payload == b"stopped":
                    payload = msgspec.json.encode(request)
                    session.send(
                        mqtt5.PublishPacket(DEVICE_REQUEST_TOPIC, payload, qos=mqtt5.QoS.AT_LEAST_ONCE, packet_id=7)
                    )
                    farewell = packet.packet_id
                    continue
                session.send(mqtt5.PubAckPacket(packet.packet_id))
                if packet.topic == "ml/inference/error/s1":
                    seen.append(msgspec.json.decode(packet.payload)["error"]["code"])
                    session.send(mqtt5.PubAckPacket(farewell))

    async with FakeBroker(script) as broker:
        async with bridge_on(broker, folder, serve_topic=DEVICE_REQUEST_TOPIC):
            pass
        await until(lambda: len(seen) == 2)
    assert seen == ["overloaded", "acknowledged"]


async def test_status_is_retained_and_has_a_will(broker: PrivateBroker, folder: Path) -> None:
    topic, said = "tierwise/mcu1/status", [b"online"]
    async with device_on(broker, topic) as listener:
        async with bridge_on(broker, folder) as bridge:
            await until(lambda: listener.of_topic(topic) == said)
            bridge._connection.abort()
            said += [b"offline", b"online"]
            await until(lambda: listener.of_topic(topic) == said)
        said += [b"stopped"]
        await until(lambda: listener.of_topic(topic) == said)
    async with device_on(broker, topic) as late:
        await until(lambda: late.of_topic(topic) == [b"stopped"])
        assert late.received[0].retain


async def test_a_request_that_is_too_large_is_told(broker: PrivateBroker, folder: Path) -> None:
    serving = {"serve_topic": DEVICE_REQUEST_TOPIC, "max_payload_bytes": 20_000}
    async with device_on(broker) as client, bridge_on(broker, folder, **serving):
        for size in (30_000, 300_000):
            payload = b'{"device_id": "s1", "timestamp_us": 5, "features": ['.ljust(size, b"1")
            _, message = await client.ask(payload, topic=DEVICE_REQUEST_TOPIC)
            assert (message["device_id"], message["error"]["code"]) == ("s1", "too_large")


async def test_nothing_that_a_request_does_ends_the_bridge(
    broker: PrivateBroker, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    labels: Iterator[ValueError | str] = iter([ValueError("no word for it"), "word"])

    def label_of(_: object) -> str:
        label = next(labels)
        if isinstance(label, ValueError):
            raise label
        return label

    request = {"device_id": "s1", "timestamp_us": 5, "features": SAMPLE.tolist()}
    serving = {"serve_topic": DEVICE_REQUEST_TOPIC, "label_of": label_of}
    async with device_on(broker) as client, bridge_on(broker, folder, **serving):
        _, failed = await client.ask(request, topic=DEVICE_REQUEST_TOPIC)
        _, answered = await client.ask(request, topic=DEVICE_REQUEST_TOPIC)
    assert failed["error"] == {"code": "inference_failed", "message": "the device failed: ValueError: no word for it"}
    assert answered["label"] == "word"
    assert "a request to the device mcu1 failed" in caplog.text


@pytest.mark.parametrize("kind", ["host", "firmware"])
async def test_a_device_whose_firmware_is_gone_answers_again_when_it_is_back(
    broker: PrivateBroker, tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    need(program="cc" if kind == "host" else "arm-none-eabi-gcc")
    need(program="qemu-system-arm")
    (tmp_path / "m.tflite").write_bytes(MODELS["wake-word"]())
    report = build(tmp_path / "m.tflite", tmp_path / "build", Options(host=kind == "host"))
    firmware, away = tmp_path / "build" / report.firmware, tmp_path / "away"
    request = {"device_id": "s1", "timestamp_us": 5, "features": SAMPLE.tolist()}
    async with (
        device_on(broker) as client,
        bridge_on(broker, tmp_path / "build", serve_topic=DEVICE_REQUEST_TOPIC) as bridge,
    ):
        process = bridge._emulator.process_id
        assert process is not None
        firmware.rename(away)
        os.kill(process, signal.SIGKILL)
        for _ in range(2):
            _, lost = await client.ask(request, topic=DEVICE_REQUEST_TOPIC)
            assert lost["error"]["code"] == "device"
        away.rename(firmware)
        for _ in range(2):  # the first may come before the device is there again
            _, answer = await client.ask(request, topic=DEVICE_REQUEST_TOPIC)
        assert "prediction" in answer
    assert "the device does not start again" in caplog.text


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
