"""The MQTT transport against a real mosquitto."""

from __future__ import annotations

import asyncio
import contextlib
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mqtt5
import msgspec
import pytest

from tests.messaging.peers import FakeBroker, Session, accept
from tests.sensor_client import REQUEST_TOPIC, device_on
from tests.serving.fakes import held, served
from tests.waiting import until
from tierwise.core.errors import BrokerError, ConfigurationError
from tierwise.serving.mqtt import connection_settings
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

    from tierwise.live.broker import PrivateBroker
    from tierwise.serving.model import ServedModel

TRACE = "0af7651916cd43dd8448eb211c80319c"
GOOD = {"device_id": "s1", "timestamp_us": 1_000_000, "features": [1, 2, 3, 4]}


@contextlib.asynccontextmanager
async def serving(
    broker: PrivateBroker | FakeBroker,
    model: ServedModel | None = None,
    *,
    latency_ms: float = 0,
    queue_size: int = 1000,
    service_id: str = "edge-1",
    **mqtt: Any,
) -> AsyncIterator[Service]:
    settings = ServiceSettings(
        model=ModelSettings(path=Path("none")),
        service_id=service_id,
        mqtt=MqttSettings(endpoint=Endpoint(broker.host, broker.port), **mqtt),
        http=HttpSettings(endpoint=None),
        limits=LimitSettings(max_payload_bytes=1_000_000, queue_size=queue_size),
        delay=DelaySettings(latency_ms=latency_ms),
    )
    async with Service(settings, model or served()) as service:
        assert service.mqtt is not None
        await service.mqtt.connection.wait_connected(20)
        yield service


@pytest.mark.parametrize("qos", [0, 1])
async def test_a_result_has_exactly_the_fields_of_the_contract(broker: PrivateBroker, qos: int) -> None:
    async with serving(broker), device_on(broker) as device:
        topic, result = await device.ask({**GOOD, "request_id": "r7"}, qos=qos)
    assert topic == "ml/inference/result/s1"
    assert result.keys() == {
        "device_id", "timestamp_us", "prediction", "inference_time_ms", "model", "model_version", "tier", "request_id",
    }  # fmt: skip
    assert (result["device_id"], result["timestamp_us"], result["prediction"]) == ("s1", 1_000_000, 10.0)
    assert (result["model"], result["model_version"], result["tier"], result["request_id"]) == (
        "sum",
        "1",
        "edge",
        "r7",
    )
    assert isinstance(result["inference_time_ms"], float)
    assert 0 < result["inference_time_ms"] < 1000
    assert device.received[0].qos.value == qos


async def test_the_cloud_adds_its_two_latencies(broker: PrivateBroker) -> None:
    async with serving(broker, latency_ms=20), device_on(broker) as device:
        _, result = await device.ask(GOOD)
    assert result["cloud_latency_ms"] == 40.0
    assert result["total_latency_ms"] >= 40.0 + result["inference_time_ms"]


@pytest.mark.parametrize(
    ("payload", "topic", "code", "said"),
    [
        (b"hello", "unknown", "invalid_request", "not JSON"),
        (b"", "unknown", "invalid_request", "not JSON"),
        (b"\xff\xfe\x00", "unknown", "invalid_request", "not JSON"),
        (b'{"device_id": "s1", "timestamp_us": 5, "features": [1, 2', "s1", "invalid_request", "not JSON"),
        (msgspec.json.encode({"timestamp_us": 5, "features": [1]}), "unknown", "invalid_request", "device_id"),
        (msgspec.json.encode({"device_id": "s1", "features": [1]}), "s1", "invalid_request", "timestamp_us"),
        (msgspec.json.encode({"device_id": "s1", "timestamp_us": 5}), "s1", "invalid_request", "features"),
        (msgspec.json.encode({**GOOD, "device_id": "a/b"}), "unknown", "invalid_request", "device_id"),
        (msgspec.json.encode({**GOOD, "timestamp_us": "5"}), "s1", "invalid_request", "timestamp_us"),
        (msgspec.json.encode({**GOOD, "features": [1, 2, 3]}), "s1", "invalid_input", "expected 4 values"),
        (msgspec.json.encode({**GOOD, "features": "1234"}), "s1", "invalid_request", "features"),
        (msgspec.json.encode({**GOOD, "features": [1, 2, 3, None]}), "s1", "invalid_input", "numbers"),
        (msgspec.json.encode({**GOOD, "features": [[1, 2, 3, 4], [1]]}), "s1", "invalid_input", "ragged"),
        (b'{"device_id": "s1", "timestamp_us": 5, "features": [NaN, 1, 2, 3]}', "s1", "invalid_input", "NaN"),
        (b'{"device_id": "s1", "timestamp_us": 5, "features": [1e300, 1, 2, 3]}', "s1", "invalid_input", "too large"),
        (msgspec.json.encode({**GOOD, "features": [0.5] * 262_144}), "s1", "too_large", "limit is 1000000"),
        (msgspec.json.encode({**GOOD, "features": [1] * 100_000}), "s1", "invalid_input", "got 100000"),
        (msgspec.json.encode({**GOOD, "model": "other"}), "s1", "unknown_model", "no model other here"),
        (msgspec.json.encode({**GOOD, "model_version": "9"}), "s1", "unknown_model", "version 9"),
        (msgspec.json.encode({**GOOD, "deadline_ms": 1e-6}), "s1", "deadline_exceeded", "deadline passed"),
    ],
)
async def test_each_fault_gets_its_error_and_the_service_lives(
    broker: PrivateBroker, payload: bytes, topic: str, code: str, said: str
) -> None:
    async with serving(broker), device_on(broker) as device:
        error_topic, message = await device.ask(payload)
        assert error_topic == f"ml/inference/error/{topic}"
        assert message.keys() == {"device_id", "timestamp_us", "error"}
        assert message["device_id"] == (None if topic == "unknown" else topic)
        assert message["error"].keys() == {"code", "message"}
        assert message["error"]["code"] == code
        assert said in message["error"]["message"]
        assert (await device.ask(GOOD))[1]["prediction"] == 10.0


@pytest.mark.parametrize("payload_bytes", [1_100_000, 2_000_000, 16_000_000])
@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
async def test_requests_far_too_large_are_told_and_counted(
    broker: PrivateBroker, protocol: str, payload_bytes: int
) -> None:
    payload = b'{"device_id": "s1", "timestamp_us": 5, "features": ['.ljust(payload_bytes, b"1")
    async with serving(broker, protocol=protocol) as service, device_on(broker) as device:
        assert service.mqtt is not None
        assert service.mqtt.connection.protocol == protocol
        topic, message = await device.ask(payload)
        assert topic == "ml/inference/error/s1"
        assert (message["device_id"], message["timestamp_us"]) == ("s1", 5)
        assert message["error"]["code"] == "too_large"
        assert f"{payload_bytes} bytes, the limit is 1000000" in message["error"]["message"]
        assert (await device.ask(GOOD))[1]["prediction"] == 10.0
        service.metrics.count()
        labels = 'code="too_large",model="sum",tier="edge",transport="mqtt",version="1"'
        assert f"tierwise_requests_total{{{labels}}} 1.0" in service.metrics.text().decode()


async def test_properties_far_too_large_are_told(broker: PrivateBroker) -> None:
    properties = [("k", "v" * 60_000)] * 20
    async with serving(broker), device_on(broker) as device:
        topic, message = await device.ask(GOOD, user_properties=properties)
    assert topic == "ml/inference/error/unknown"
    assert message["error"]["code"] == "too_large"
    assert "topic and properties" in message["error"]["message"]


async def test_an_error_carries_the_request_id(broker: PrivateBroker) -> None:
    async with serving(broker), device_on(broker) as device:
        _, message = await device.ask({**GOOD, "features": [1], "request_id": "r1"})
    assert message["request_id"] == "r1"


async def test_raw_floats_are_taken_as_they_are(broker: PrivateBroker) -> None:
    properties = [("device_id", "raw1"), ("timestamp_us", "77")]
    async with serving(broker), device_on(broker) as device:
        topic, result = await device.ask(
            struct.pack("<4f", 1, 2, 3, 4), content_type="application/octet-stream", user_properties=properties
        )
        assert topic == "ml/inference/result/raw1"
        assert (result["timestamp_us"], result["prediction"]) == (77, 10.0)
        topic, error = await device.ask(
            b"\x00\x00\x80", content_type="application/octet-stream", user_properties=properties
        )
    assert topic == "ml/inference/error/raw1"
    assert (error["timestamp_us"], error["error"]["code"]) == (77, "invalid_input")


async def test_answer_and_error_go_to_the_response_topic_too_with_the_correlation_data(broker: PrivateBroker) -> None:
    async with serving(broker), device_on(broker, "ml/inference/+/s1", "mine") as device:
        trace = [("traceparent", f"00-{TRACE}-b7ad6b7169203331-01")]
        device.send(GOOD, response_topic="mine", correlation_data=b"c1", user_properties=trace)
        device.send({**GOOD, "features": []}, response_topic="mine", correlation_data=b"c2")
        await device.receive(4)
        mine = [packet for packet in device.received if packet.topic == "mine"]
        usual = [packet for packet in device.received if packet.topic != "mine"]
    assert [packet.correlation_data for packet in mine] == [b"c1", b"c2"]
    assert [packet.payload for packet in mine] == [packet.payload for packet in usual]
    assert [packet.topic for packet in usual] == ["ml/inference/result/s1", "ml/inference/error/s1"]
    assert dict(mine[0].user_properties)["traceparent"].startswith(f"00-{TRACE}-")


async def test_instants_are_told_to_whoever_asks(broker: PrivateBroker) -> None:
    async with serving(broker), device_on(broker) as device:
        await device.ask(GOOD, user_properties=[("tierwise-timing", "1")])
        await device.ask(GOOD)
    told = {name: int(value) for name, value in device.received[0].user_properties}
    assert told["arrived_us"] <= told["started_us"] <= told["finished_us"]
    assert device.received[1].user_properties == []


async def test_a_burst_that_comes_at_once_shows_its_queue() -> None:
    """What is read in one piece waits for what is before it, and that wait is queue time."""
    arrived: list[int] = []

    async def script(session: Session) -> None:
        await granted(session)
        timing = [("tierwise-timing", "1")]
        request = mqtt5.PublishPacket(REQUEST_TOPIC, msgspec.json.encode(GOOD), user_properties=timing)
        session.writer.write(request.write() * 20)
        while len(arrived) < 20:
            packet = await session.receive()
            if isinstance(packet, mqtt5.PublishPacket) and packet.topic == "ml/inference/result/s1":
                arrived.append(int(dict(packet.user_properties)["arrived_us"]))

    async with FakeBroker(script) as broker, serving(broker):
        await until(lambda: len(arrived) == 20)
    assert len(set(arrived)) <= 2, "one read, or two where the network cut it"


async def test_message_expiry_is_the_deadline(broker: PrivateBroker) -> None:
    async with serving(broker, latency_ms=1200), device_on(broker) as device:
        _, message = await device.ask(GOOD, message_expiry_interval=1)
    assert message["error"]["code"] == "deadline_exceeded"


async def test_status_says_online_and_stopped(broker: PrivateBroker) -> None:
    async with device_on(broker, "tierwise/+/status") as device:
        async with serving(broker, service_id="edge-7"):
            await until(lambda: device.of_topic("tierwise/edge-7/status") == [b"online"])
        await until(lambda: device.of_topic("tierwise/edge-7/status") == [b"online", b"stopped"])
    async with device_on(broker, "tierwise/edge-7/status") as late:
        await until(lambda: late.of_topic("tierwise/edge-7/status") == [b"stopped"])
        assert late.received[0].retain


async def test_the_will_says_offline_and_the_reconnect_online(broker: PrivateBroker) -> None:
    async with device_on(broker, "tierwise/+/status") as device, serving(broker) as service:
        await until(lambda: device.of_topic("tierwise/edge-1/status") == [b"online"])
        assert service.mqtt is not None
        service.mqtt.connection.abort()
        await until(lambda: device.of_topic("tierwise/edge-1/status") == [b"online", b"offline", b"online"])


async def test_a_request_is_acknowledged_only_after_the_broker_has_its_answer() -> None:
    order: list[str] = []

    async def script(session: Session) -> None:
        await granted(session)
        payload = msgspec.json.encode(GOOD)
        session.send(mqtt5.PublishPacket(REQUEST_TOPIC, payload, qos=mqtt5.QoS.AT_LEAST_ONCE, packet_id=7))
        while "acknowledged" not in order:
            packet = await session.receive()
            if isinstance(packet, mqtt5.PublishPacket) and packet.packet_id is not None:
                if packet.topic == "ml/inference/result/s1":
                    order.append("answered")
                session.send(mqtt5.PubAckPacket(packet.packet_id))
            elif isinstance(packet, mqtt5.PubAckPacket):
                assert packet.packet_id == 7
                order.append("acknowledged")

    async with FakeBroker(script) as broker, serving(broker, latency_ms=20):
        await until(lambda: len(order) == 2)
    assert order == ["answered", "acknowledged"]


async def test_a_request_whose_answer_the_broker_refuses_does_not_keep_its_place() -> None:
    refused = mqtt5.PubAckReasonCode.NOT_AUTHORIZED
    acknowledged: list[int] = []

    async def script(session: Session) -> None:
        await granted(session)
        payload = msgspec.json.encode(GOOD)
        at_least_once = mqtt5.QoS.AT_LEAST_ONCE
        session.send(
            mqtt5.PublishPacket(REQUEST_TOPIC, payload, qos=at_least_once, packet_id=7, response_topic="not/allowed")
        )
        while not acknowledged:
            packet = await session.receive()
            if isinstance(packet, mqtt5.PubAckPacket):
                acknowledged.append(packet.packet_id)
            elif isinstance(packet, mqtt5.PublishPacket) and packet.packet_id is not None:
                code = refused if packet.topic == "not/allowed" else mqtt5.PubAckReasonCode.SUCCESS
                session.send(mqtt5.PubAckPacket(packet.packet_id, reason_code=code))

    async with FakeBroker(script) as broker, serving(broker):
        await until(lambda: bool(acknowledged))
    assert acknowledged == [7]


async def test_messages_that_it_did_not_ask_for_are_acknowledged_and_no_requests() -> None:
    """Some brokers give every subscriber all retained messages, statuses of services among them."""
    acknowledged: list[int] = []

    async def script(session: Session) -> None:
        await granted(session)
        for packet_id, topic in enumerate(("tierwise/other/status", REQUEST_TOPIC), start=7):
            payload = msgspec.json.encode(GOOD)
            session.send(
                mqtt5.PublishPacket(topic, payload, qos=mqtt5.QoS.AT_LEAST_ONCE, packet_id=packet_id, retain=True)
            )
        while len(acknowledged) < 2:
            packet = await session.receive()
            if isinstance(packet, mqtt5.PubAckPacket):
                acknowledged.append(packet.packet_id)
            elif isinstance(packet, mqtt5.PublishPacket) and packet.packet_id is not None:
                session.send(mqtt5.PubAckPacket(packet.packet_id))

    async with FakeBroker(script) as broker, serving(broker) as service:
        await until(lambda: sorted(acknowledged) == [7, 8])
        service.metrics.count()
        assert service.stats.take()["requests"] == 1


async def granted(session: Session, **connack: Any) -> None:
    """Accepts the service and its subscription."""
    await accept(session, **connack)
    subscribe = await session.receive_until(mqtt5.SubscribePacket)
    assert isinstance(subscribe, mqtt5.SubscribePacket)
    session.send(mqtt5.SubAckPacket(subscribe.packet_id, [mqtt5.SubAckReasonCode.GRANTED_QOS_AT_LEAST_ONCE]))


async def test_with_a_full_window_no_request_is_acknowledged_before_its_answer() -> None:
    """The broker takes one answer at a time, and five requests are there at once."""
    answered: list[str] = []
    acknowledged: list[int] = []

    async def script(session: Session) -> None:
        await granted(session, receive_max=1)
        for number in range(1, 6):
            payload = msgspec.json.encode({**GOOD, "request_id": str(number)})
            at_least_once = mqtt5.QoS.AT_LEAST_ONCE
            session.send(mqtt5.PublishPacket(REQUEST_TOPIC, payload, qos=at_least_once, packet_id=number))
        while len(acknowledged) < 5:
            packet = await session.receive()
            if isinstance(packet, mqtt5.PubAckPacket):
                acknowledged.append(packet.packet_id)
                assert str(packet.packet_id) in answered, "acknowledged before its answer was sent"
            elif isinstance(packet, mqtt5.PublishPacket) and packet.packet_id is not None:
                if packet.topic == "ml/inference/result/s1":
                    answered.append(msgspec.json.decode(packet.payload)["request_id"])
                session.send(mqtt5.PubAckPacket(packet.packet_id))

    async with FakeBroker(script) as broker, serving(broker):
        await until(lambda: len(acknowledged) == 5)
    assert answered == ["1", "2", "3", "4", "5"]


async def test_an_answer_that_the_broker_does_not_take_becomes_a_short_error() -> None:
    seen: list[dict[str, Any]] = []

    async def script(session: Session) -> None:
        await granted(session, max_packet_size=300)
        batch = msgspec.json.encode({**GOOD, "features": [[1, 2, 3, 4]] * 100})
        session.send(mqtt5.PublishPacket(REQUEST_TOPIC, batch))
        while not seen:
            packet = await session.receive()
            if isinstance(packet, mqtt5.PublishPacket) and packet.topic == "ml/inference/error/s1":
                seen.append(msgspec.json.decode(packet.payload))

    async with FakeBroker(script) as broker, serving(broker):
        await until(lambda: bool(seen))
    assert seen[0]["error"]["code"] == "too_large"


@pytest.mark.parametrize("qos", [mqtt5.QoS.AT_MOST_ONCE, mqtt5.QoS.AT_LEAST_ONCE])
@pytest.mark.parametrize("long", [600, 1150], ids=["error fits", "nothing fits"])
async def test_what_is_too_large_for_the_response_topic_alone_is_told_there_alone(qos: mqtt5.QoS, long: int) -> None:
    seen: list[tuple[str, bool]] = []
    acknowledged: list[int] = []
    at_least_once = qos is mqtt5.QoS.AT_LEAST_ONCE
    result = ("ml/inference/result/s1", False)
    expected = [result, *([("mine", True)] if long == 600 else []), result]

    def is_over() -> bool:
        return len(seen) >= len(expected) and len(acknowledged) == 2 * at_least_once

    async def script(session: Session) -> None:
        await granted(session, max_packet_size=1200)
        request = {**GOOD, "features": [[1, 2, 3, 4]] * 150}
        for number, response_topic in enumerate(("mine", None), 1):
            session.send(
                mqtt5.PublishPacket(
                    REQUEST_TOPIC,
                    msgspec.json.encode(request),
                    qos=qos,
                    packet_id=number if at_least_once else None,
                    response_topic=response_topic,
                    correlation_data=b"c" * long if response_topic else None,
                )
            )
        while not is_over():
            packet = await session.receive()
            if isinstance(packet, mqtt5.PubAckPacket):
                acknowledged.append(packet.packet_id)
            elif isinstance(packet, mqtt5.PublishPacket) and packet.payload != b"online":
                seen.append((packet.topic, b"too_large" in packet.payload))
                if packet.packet_id is not None:
                    session.send(mqtt5.PubAckPacket(packet.packet_id))

    async with FakeBroker(script) as broker, serving(broker):
        await until(is_over)
    assert sorted(seen) == sorted(expected)


@pytest.mark.parametrize("topic", ["$CONTROL/dynamic-security/v1", "tierwise/edge-1/status"])
async def test_no_client_has_the_service_write_where_it_should_not(topic: str) -> None:
    seen: list[str] = []

    async def script(session: Session) -> None:
        await granted(session)
        for response_topic in (topic, "mine"):
            session.send(mqtt5.PublishPacket(REQUEST_TOPIC, msgspec.json.encode(GOOD), response_topic=response_topic))
        while "mine" not in seen:
            packet = await session.receive()
            if isinstance(packet, mqtt5.PublishPacket) and packet.payload != b"online":
                seen.append(packet.topic)

    async with FakeBroker(script) as broker, serving(broker):
        await until(lambda: "mine" in seen)
    assert seen == ["ml/inference/result/s1", "ml/inference/result/s1", "mine"]


async def test_what_was_under_way_when_the_connection_broke_is_answered(broker: PrivateBroker) -> None:
    model, may_finish = held()
    async with serving(broker, model) as service, device_on(broker) as device:
        for number in range(20):
            device.send({**GOOD, "request_id": str(number)})
        await until(lambda: service.plane.pending == 20)
        assert service.mqtt is not None
        service.mqtt.connection.abort()
        may_finish.set()
        await until(lambda: len(device.received) >= 20)
        results = await device.receive(20)
    assert {result["request_id"] for result in results} == {str(number) for number in range(20)}


async def test_replicas_of_a_share_group_divide_the_requests(broker: PrivateBroker) -> None:
    async with (
        serving(broker, share_group="g", service_id="a") as a,
        serving(broker, share_group="g", service_id="b") as b,
    ):
        async with device_on(broker) as device:
            for number in range(200):
                device.send({**GOOD, "request_id": str(number)})
            results = await device.receive(200)
            assert sorted(int(result["request_id"]) for result in results) == list(range(200))
        counts = []
        for service in (a, b):
            service.metrics.count()
            counts.append(service.metrics.meter("sum", "1", "mqtt").codes["ok"])
    assert sum(counts) == 200
    assert min(counts) > 0


async def test_stopping_answers_all_that_was_delivered(broker: PrivateBroker) -> None:
    model, may_finish = held()

    async def let_go(service: Service) -> None:
        await until(lambda: not service.plane.accepting)
        may_finish.set()

    async with device_on(broker) as device:
        async with serving(broker, model) as service:
            for number in range(50):
                device.send({**GOOD, "request_id": str(number)})
            await until(lambda: service.plane.pending == 50)
            letting_go = asyncio.create_task(let_go(service))
        await letting_go
        results = await device.receive(50)
    assert {result["request_id"] for result in results if "prediction" in result} == {str(n) for n in range(50)}


async def test_an_overfull_queue_is_told_and_nothing_is_lost(broker: PrivateBroker) -> None:
    model, may_finish = held()
    async with serving(broker, model, queue_size=5), device_on(broker) as device:
        for number in range(20):
            device.send({**GOOD, "request_id": str(number)}, qos=0)
        await device.receive(15)
        may_finish.set()
        messages = await device.receive(20)
    answered = [message for message in messages if "prediction" in message]
    refused = [message for message in messages if message.get("error", {}).get("code") == "overloaded"]
    assert len(answered) == 5
    assert len(refused) == 15


async def test_another_request_topic(broker: PrivateBroker) -> None:
    async with serving(broker, request_topic="ml/cloud/inference/request"), device_on(broker) as device:
        device.send({**GOOD, "request_id": "unheard"}, topic=REQUEST_TOPIC)
        _, result = await device.ask({**GOOD, "request_id": "heard"}, topic="ml/cloud/inference/request")
    assert result["request_id"] == "heard"


async def test_a_burst_loses_nothing(broker: PrivateBroker) -> None:
    async with serving(broker), device_on(broker) as device:
        for number in range(3000):
            device.send({**GOOD, "request_id": str(number)})
        results = await device.receive(3000)
    assert len({result["request_id"] for result in results}) == 3000


async def test_health_follows_the_broker(broker: PrivateBroker) -> None:
    async with serving(broker) as service:
        assert service.health.report()["status"] == "ok"
        assert service.mqtt is not None
        await service.mqtt.connection.stop()
        report = service.health.report()
    assert report["status"] == "unavailable"
    assert "broker" in report["reason"]


def test_unreadable_secrets_are_one_clear_error(tmp_path: Path) -> None:
    settings = MqttSettings(password_file=tmp_path / "none")
    with pytest.raises(ConfigurationError, match=r"cannot read .*none \(--mqtt-password-file\)"):
        connection_settings(settings, Endpoint("x", 1), service_id="s", receive_max=1, max_payload_bytes=1)


def test_a_missing_authority_is_named_beside_a_good_password(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("s3cret")
    settings = MqttSettings(password_file=tmp_path / "secret", ca_file=tmp_path / "ca.pem")
    with pytest.raises(ConfigurationError, match=r"cannot read .*ca\.pem \(--mqtt-ca-file\)"):
        connection_settings(settings, Endpoint("x", 1), service_id="s", receive_max=1, max_payload_bytes=1)


def test_the_password_comes_from_its_file(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("s3cret\n")
    settings = MqttSettings(username="edge", password_file=secret, tls=True)
    connection = connection_settings(settings, Endpoint("x", 1), service_id="s", receive_max=9, max_payload_bytes=1)
    assert (connection.username, connection.password, connection.receive_max) == ("edge", "s3cret", 9)
    assert connection.tls is not None


async def test_a_broker_that_refuses_for_good_ends_the_service() -> None:
    async def script(session: Session) -> None:
        await accept(session, reason_code=mqtt5.ConnAckReasonCode.NOT_AUTHORIZED)

    async with FakeBroker(script) as broker:
        settings = ServiceSettings(
            model=ModelSettings(path=Path("none")),
            mqtt=MqttSettings(endpoint=Endpoint(broker.host, broker.port)),
            http=HttpSettings(endpoint=None),
        )
        with pytest.raises(BrokerError, match=r"(?i)not.authori[sz]ed"):
            await asyncio.wait_for(Service(settings, served()).serve_until(asyncio.Event()), 20)
