"""The sensor against a real broker and a tier whose answers the test decides."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pytest
from tests.waiting import until

from tierwise.core.clocks import epoch_us, monotonic_ns
from tierwise.core.errors import OverloadedError, TransportError
from tierwise.core.messages import Answer
from tierwise.live.broker import PrivateBroker, private_broker
from tierwise.live.processes import free_port
from tierwise.live.sensor import Pace, Sample, Sensor, Target
from tierwise.messaging.connection import MqttConnection
from tierwise.messaging.payloads import DeviceRequest, decode_request, encode_error, encode_result
from tierwise.messaging.settings import MqttConnectionSettings
from tierwise.messaging.topics import error_topic, result_topic

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from mqtt5 import PublishPacket

EDGE, CLOUD = Target("edge", "test/edge"), Target("cloud", "test/cloud")
FAST = Pace(rate_hz=500, deadline_s=20.0)


def samples(count: int) -> list[Sample]:
    return [Sample(f"s{number:03d}", np.full(4, number, np.float32), truth=str(number % 2)) for number in range(count)]


@dataclass
class Tier:
    """Answers requests as the test wants; ``heard`` are those that came."""

    name: str
    topic: str
    react: Callable[[Tier, DeviceRequest, PublishPacket], None]
    heard: list[DeviceRequest] = field(default_factory=list)
    connection: MqttConnection | None = None

    def on_message(self, packet: PublishPacket, acknowledge: Callable[[], None]) -> None:
        request = decode_request(packet.payload, received_ns=monotonic_ns())
        self.heard.append(request)
        self.react(self, request, packet)
        acknowledge()

    def publish(self, topic: str, payload: bytes, **properties: list[tuple[str, str]]) -> None:
        assert self.connection is not None
        self.connection.publish(topic, payload, qos=1, user_properties=properties.get("user_properties", []))

    def answer(self, request: DeviceRequest, packet: PublishPacket, *, delay_ns: int | None = None) -> None:
        """As the service does: what it thinks of the first feature, and its instants to whom asks for them."""
        started = monotonic_ns()
        value = float(np.asarray(request.request.features).ravel()[0])
        reply = Answer(
            prediction=value, model="m", model_version="1", tier=self.name, received_ns=request.request.received_ns,
            started_ns=started, finished_ns=started + 250_000, label=str(int(value) % 2),
            request_id=request.request.request_id, delay_ns=delay_ns,
        )  # fmt: skip
        told = []
        if ("tierwise-timing", "1") in packet.user_properties:
            instants = {
                "arrived_us": reply.received_ns,
                "started_us": reply.started_ns,
                "finished_us": reply.finished_ns,
            }
            told = [(name, str(epoch_us(at))) for name, at in instants.items()]
        payload = encode_result(request.device_id, request.timestamp_us, reply)
        self.publish(result_topic(request.device_id), payload, user_properties=told)


def answers(tier: Tier, request: DeviceRequest, packet: PublishPacket) -> None:
    tier.answer(request, packet)


def stays_silent(_tier: Tier, _request: DeviceRequest, _packet: PublishPacket) -> None:
    pass


@contextlib.asynccontextmanager
async def meeting(*tiers: Tier, protocol: str = "auto", broker: PrivateBroker | None = None) -> AsyncIterator[Sensor]:
    """A broker, the tiers and a sensor, all connected."""
    async with contextlib.AsyncExitStack() as stack:
        if broker is None:
            broker = await stack.enter_async_context(private_broker())
        where = MqttConnectionSettings(host=broker.host, port=broker.port)
        for tier in tiers:
            tier.connection = await stack.enter_async_context(MqttConnection(where, on_message=tier.on_message))
            await tier.connection.wait_connected(10)
            await tier.connection.subscribe(tier.topic)
        own = MqttConnectionSettings(host=broker.host, port=broker.port, protocol=protocol)  # type: ignore[arg-type]  # a str of the test
        yield await stack.enter_async_context(Sensor(own, device_id="sensor1", model="m"))


async def test_every_sample_is_answered_once_by_every_tier_with_every_instant() -> None:
    edge, cloud = Tier("edge", EDGE.topic, answers), Tier("cloud", CLOUD.topic, answers)
    async with meeting(edge, cloud) as sensor:
        rows = await sensor.send(samples(40), [EDGE, CLOUD], FAST)

    assert sorted((row.request_id, row.tier) for row in rows) == sorted(
        (sample.request_id, tier) for sample in samples(40) for tier in ("edge", "cloud")
    )
    assert [row.created_us for row in rows] == sorted(row.created_us for row in rows)
    for row in rows:
        assert row.outcome == "answered"
        assert row.device_id == "sensor1"
        assert row.label == row.truth
        assert row.prediction == f"{float(row.request_id[1:])}"
        assert row.inference_us == pytest.approx(250)
        assert row.configured_delay_us is None
        assert row.sent_us is not None
        assert row.arrived_us is not None
        assert row.started_us is not None
        assert row.finished_us is not None
        assert row.answered_us is not None
        assert row.created_us <= row.sent_us <= row.arrived_us <= row.started_us
        assert row.finished_us - row.started_us in {250, 251}
        assert row.bytes_up > 50
        assert row.bytes_down > 50


async def test_the_bytes_are_those_of_the_payloads() -> None:
    sizes: list[tuple[int, int]] = []

    def react(tier: Tier, request: DeviceRequest, packet: PublishPacket) -> None:
        payload = encode_error(
            request.device_id, request.timestamp_us, OverloadedError("full"), request.request.request_id
        )
        sizes.append((len(packet.payload), len(payload)))
        tier.publish(error_topic(request.device_id), payload)

    async with meeting(Tier("edge", EDGE.topic, react)) as sensor:
        [row] = await sensor.send(samples(1), [EDGE], FAST)
    assert [(row.bytes_up, row.bytes_down)] == sizes


async def test_a_configured_delay_is_written_down_as_such() -> None:
    tier = Tier("cloud", CLOUD.topic, lambda self, request, packet: self.answer(request, packet, delay_ns=100_000_000))
    async with meeting(tier) as sensor:
        [row] = await sensor.send(samples(1), [CLOUD], FAST)
    assert row.configured_delay_us == 100_000


async def test_silence_is_a_timeout_and_the_other_tier_is_not_held_up() -> None:
    async with meeting(Tier("edge", EDGE.topic, stays_silent), Tier("cloud", CLOUD.topic, answers)) as sensor:
        rows = await sensor.send(samples(5), [EDGE, CLOUD], Pace(rate_hz=500, deadline_s=3.0))
    lost = [row for row in rows if row.tier == "edge"]
    assert [row.outcome for row in lost] == ["timeout"] * 5
    assert all(row.answered_us is None and row.bytes_up > 0 and row.label is None for row in lost)
    assert [row.outcome for row in rows if row.tier == "cloud"] == ["answered"] * 5


async def test_an_error_is_a_row_of_the_tier_that_sent_it() -> None:
    def react(tier: Tier, request: DeviceRequest, _packet: PublishPacket) -> None:
        tier.publish(
            error_topic(request.device_id),
            encode_error(request.device_id, request.timestamp_us, OverloadedError("full"), request.request.request_id),
        )

    async with meeting(Tier("edge", EDGE.topic, react), Tier("cloud", CLOUD.topic, answers)) as sensor:
        rows = await sensor.send(samples(10), [EDGE, CLOUD], FAST)
    assert {(row.tier, row.outcome) for row in rows} == {("edge", "overloaded"), ("cloud", "answered")}


async def test_an_error_without_the_request_id_is_matched_by_its_timestamp() -> None:
    def react(tier: Tier, request: DeviceRequest, _packet: PublishPacket) -> None:
        payload = encode_error(request.device_id, request.timestamp_us, OverloadedError("full"))
        tier.publish(error_topic(request.device_id), payload)

    async with meeting(Tier("edge", EDGE.topic, react)) as sensor:
        rows = await sensor.send(samples(3), [EDGE], FAST)
    assert [row.outcome for row in rows] == ["overloaded"] * 3


async def test_answers_twice_strange_or_to_nobody_do_no_harm() -> None:
    def react(tier: Tier, request: DeviceRequest, packet: PublishPacket) -> None:
        for nonsense in (b"", b"not json", b'{"device_id": "sensor1"}', b"\xff\xfe", b"[" * 5000):
            tier.publish(result_topic(request.device_id), nonsense)
            tier.publish(error_topic(request.device_id), nonsense)
        tier.answer(
            DeviceRequest(request.device_id, 0, msgspec.structs.replace(request.request, request_id="?")), packet
        )
        tier.answer(request, packet)
        tier.answer(request, packet)

    async with meeting(Tier("edge", EDGE.topic, react)) as sensor:
        rows = await sensor.send(samples(5), [EDGE], FAST)
    assert [row.outcome for row in rows] == ["answered"] * 5


@pytest.mark.parametrize("told", ["", "soon", "-5", "١٢"])
async def test_an_instant_that_is_no_number_stays_empty(told: str) -> None:
    def react(tier: Tier, request: DeviceRequest, _packet: PublishPacket) -> None:
        reply = Answer(1.0, "m", "1", "edge", 0, 0, 1000, request_id=request.request.request_id)
        tier.publish(
            result_topic(request.device_id), encode_result(request.device_id, 0, reply),
            user_properties=[("arrived_us", told), ("started_us", "17")],
        )  # fmt: skip

    async with meeting(Tier("edge", EDGE.topic, react)) as sensor:
        [row] = await sensor.send(samples(1), [EDGE], FAST)
    assert row.arrived_us is None
    assert row.started_us == 17


async def test_never_more_on_their_way_than_the_window_holds() -> None:
    waiting: list[tuple[DeviceRequest, PublishPacket]] = []
    most = 0

    def react(tier: Tier, request: DeviceRequest, packet: PublishPacket) -> None:
        nonlocal most
        waiting.append((request, packet))
        most = max(most, len(waiting))
        if len(waiting) == 3 or len(tier.heard) == 10:
            for held in waiting:
                tier.answer(*held)
            waiting.clear()

    async with meeting(Tier("edge", EDGE.topic, react)) as sensor:
        rows = await sensor.send(samples(10), [EDGE], Pace(rate_hz=100_000, window=3, deadline_s=20))
    assert [row.outcome for row in rows] == ["answered"] * 10
    assert most == 3


async def test_waiting_for_the_window_counts_from_when_the_sample_was_due() -> None:
    first_answer_ns = 0

    def react(tier: Tier, request: DeviceRequest, packet: PublishPacket) -> None:
        def answer() -> None:
            nonlocal first_answer_ns
            first_answer_ns = first_answer_ns or monotonic_ns()
            tier.answer(request, packet)

        asyncio.get_running_loop().call_later(0 if first_answer_ns else 2.0, answer)

    async with meeting(Tier("edge", EDGE.topic, react)) as sensor:
        first, second = await sensor.send(samples(2), [EDGE], Pace(rate_hz=1000, window=1, deadline_s=20))
    assert second.sent_us is not None
    assert second.sent_us >= epoch_us(first_answer_ns)
    assert second.sent_us - first.created_us >= 2_000_000
    assert second.created_us - first.created_us < 1_000_000


async def test_a_sample_that_found_no_place_in_time_was_never_sent() -> None:
    silent = Tier("edge", EDGE.topic, stays_silent)
    async with meeting(silent) as sensor:
        rows = await sensor.send(samples(6), [EDGE], Pace(rate_hz=1000, window=2, deadline_s=0.4))
        sent = sum(row.sent_us is not None for row in rows)
        await until(lambda: len(silent.heard) >= sent)
    assert [row.outcome for row in rows] == ["timeout"] * 6
    assert sent
    assert len(silent.heard) == sent


async def test_with_mqtt_3_1_1_the_instants_of_the_service_stay_empty() -> None:
    async with meeting(Tier("edge", EDGE.topic, answers), protocol="3.1.1") as sensor:
        assert sensor.connection.protocol == "3.1.1"
        rows = await sensor.send(samples(3), [EDGE], FAST)
    for row in rows:
        assert row.outcome == "answered"
        assert row.arrived_us is row.started_us is row.finished_us is None
        assert row.inference_us == pytest.approx(250)


async def test_the_rate_is_kept_and_the_tiers_take_turns() -> None:
    async with meeting(Tier("edge", EDGE.topic, answers), Tier("cloud", CLOUD.topic, answers)) as sensor:
        rows = await sensor.send(samples(20), [EDGE, CLOUD], Pace(rate_hz=100))
    start = rows[0].created_us
    for tier, phase_us in (("edge", 0), ("cloud", 5_000)):
        created = [row.created_us - start for row in rows if row.tier == tier]
        # Never early; late only by what the machine was late.
        assert all(at >= number * 10_000 + phase_us - 1_500 for number, at in enumerate(created))


async def test_no_broker_is_an_error_at_once() -> None:
    where = MqttConnectionSettings(host="127.0.0.1", port=free_port(), fail_fast=True)
    with pytest.raises(TransportError, match="cannot reach the MQTT broker at 127"):
        async with Sensor(where, device_id="sensor1", model="m"):
            pytest.fail("there is no broker")


async def test_samples_need_ids_of_their_own() -> None:
    async with private_broker() as broker, meeting(broker=broker) as sensor:
        with pytest.raises(ValueError, match="request_id of its own"):
            await sensor.send([*samples(1), *samples(1)], [EDGE], FAST)
