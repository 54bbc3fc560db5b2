"""Peers that are silent, broken, old or malicious must not end the process, nor stop the service for good."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import mqtt5
import pytest
from mqtt5 import PublishPacket
from tests.components import need
from tests.messaging.peers import FakeBroker, Inbox, Session, accept, connected, eventually

from tierwise.core.errors import BrokerError, TransportError
from tierwise.live.broker import private_broker
from tierwise.messaging import handshake, mqtt311
from tierwise.messaging.connection import MqttConnection
from tierwise.messaging.settings import MqttConnectionSettings

if TYPE_CHECKING:
    from collections.abc import Callable

PANICS = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
"""The codec panics on this; what it prints about that is not the point."""
AT_LEAST_ONCE = mqtt5.QoS.AT_LEAST_ONCE


async def test_silent_peer_is_pinged_then_dropped(caplog: pytest.LogCaptureFixture) -> None:
    async with FakeBroker(accept) as broker, connected(broker, keep_alive_s=1):
        await eventually(lambda: len(broker.sessions) > 1)
        assert isinstance(broker.sessions[0].packets[-1], mqtt5.PingReqPacket)
    assert "the broker has been silent for 1 s" in caplog.text


async def test_idle_connection_is_kept_alive() -> None:
    async def script(session: Session) -> None:
        await accept(session, server_keep_alive=1)
        while True:
            await session.receive_until(mqtt5.PingReqPacket)
            session.send(mqtt5.PingRespPacket())

    async with FakeBroker(script) as broker, connected(broker) as connection:
        await eventually(lambda: len(broker.sessions[0].packets) >= 5)
        assert connection.connected
        assert len(broker.sessions) == 1


@pytest.mark.parametrize(
    "garbage",
    [
        pytest.param(b"HTTP/1.1 400 Bad Request\r\n" * 10, id="another protocol"),
        pytest.param(b"\x30\xff\xff\xff\xff\xff", id="endless length"),
        pytest.param(b"\x30\x05\x00\x02\xff\xff\x00", id="topic that is not UTF-8", marks=PANICS),
        pytest.param(b"\x36\x08\x00\x01a\x00\x05\x00xx", id="QoS 3"),
        pytest.param(mqtt5.PublishPacket("a", b"", qos=mqtt5.QoS.EXACTLY_ONCE, packet_id=1).write(), id="QoS 2"),
        pytest.param(b"\x40\x03\x00\x05\x07", id="unknown reason"),
        pytest.param(mqtt5.ConnAckPacket().write(), id="second welcome"),
        pytest.param(mqtt5.AuthPacket().write(), id="unasked authentication"),
    ],
)
async def test_nonsense_costs_the_connection_only(garbage: bytes, capfd: pytest.CaptureFixture[str]) -> None:
    async def script(session: Session) -> None:
        await accept(session)
        if len(broker.sessions) == 1:
            session.send(garbage)
        else:
            session.send(PublishPacket("a", b"sane"))

    inbox = Inbox()
    async with FakeBroker(script) as broker, connected(broker, on_message=inbox) as connection:
        assert await inbox.holds(1) == [b"sane"]
        await eventually(lambda: connection.connected and len(broker.sessions[0].packets) > 1)
        goodbye = broker.sessions[0].packets[-1]
        assert isinstance(goodbye, mqtt5.DisconnectPacket)
        assert goodbye.reason_code.value >= 0x80
    capfd.readouterr()  # the codec reports its panics on stderr


@pytest.mark.parametrize("piece", [1, 7, 10_000])
@pytest.mark.parametrize("qos", [mqtt5.QoS.AT_MOST_ONCE, AT_LEAST_ONCE])
async def test_packet_too_large_is_skipped(piece: int, qos: mqtt5.QoS, caplog: pytest.LogCaptureFixture) -> None:
    large = PublishPacket("topic", bytes(3000), qos=qos, packet_id=9 if qos is AT_LEAST_ONCE else None).write()
    small = PublishPacket("topic", b"small", qos=AT_LEAST_ONCE, packet_id=10).write()

    async def script(session: Session) -> None:
        await accept(session)
        data = large + small
        for start in range(0, len(data), piece):
            session.send(data[start : start + piece])
            await session.writer.drain()
            if piece < 10:
                await asyncio.sleep(0)

    inbox = Inbox()
    async with (
        FakeBroker(script) as broker,
        connected(broker, on_message=inbox, max_packet_size=1000, announced_packet_size=5000) as connection,
    ):
        assert await inbox.holds(1) == [b"small"]
        expected = [9, 10] if qos is AT_LEAST_ONCE else [10]
        await eventually(lambda: len(broker.sessions[0].packets) >= 1 + len(expected))
        assert [p.packet_id for p in broker.sessions[0].packets[1:]] == expected  # type: ignore[union-attr]  # PUBACKs
        assert connection.connected
    assert "skipped a message to topic with a payload of 3000 bytes" in caplog.text
    greeting = broker.sessions[0].packets[0]
    assert isinstance(greeting, mqtt5.ConnectPacket)
    assert greeting.max_packet_size == 5000


async def test_dismissal_is_logged_and_answered_with_a_new_connection(caplog: pytest.LogCaptureFixture) -> None:
    async def script(session: Session) -> None:
        await accept(session)
        if len(broker.sessions) == 1:
            session.send(mqtt5.DisconnectPacket(reason_code=mqtt5.DisconnectReasonCode.SESSION_TAKEN_OVER))

    async with FakeBroker(script) as broker, connected(broker) as connection:
        await eventually(lambda: len(broker.sessions) == 2 and connection.connected)
        first, second = (session.packets[0] for session in broker.sessions)
    assert isinstance(first, mqtt5.ConnectPacket)
    assert isinstance(second, mqtt5.ConnectPacket)
    assert first.client_id != second.client_id
    assert "session taken over" in caplog.text


async def test_silence_after_the_greeting_ends_the_try() -> None:
    async def script(session: Session) -> None:
        await session.receive_until(mqtt5.ConnectPacket)

    async with FakeBroker(script) as broker:
        settings = MqttConnectionSettings(
            host=broker.host, port=broker.port, connect_timeout_s=0.2, fail_fast=True, protocol="5"
        )
        connection = MqttConnection(settings)
        with pytest.raises(TransportError, match="did not answer within"):
            await connection.start()
        await connection.stop()


@pytest.mark.parametrize(
    ("code", "fatal"),
    [
        (mqtt5.ConnAckReasonCode.BANNED, True),
        (mqtt5.ConnAckReasonCode.NOT_AUTHORIZED, True),
        (mqtt5.ConnAckReasonCode.SERVER_BUSY, False),
        (mqtt5.ConnAckReasonCode.QUOTA_EXCEEDED, False),
    ],
)
async def test_only_refusals_for_good_end_the_connection(code: mqtt5.ConnAckReasonCode, *, fatal: bool) -> None:
    async def script(session: Session) -> None:
        refused = fatal or len(broker.sessions) == 1
        await accept(session, reason_code=code if refused else mqtt5.ConnAckReasonCode.SUCCESS)

    async with FakeBroker(script) as broker:
        settings = MqttConnectionSettings(host=broker.host, port=broker.port, backoff_base_s=0.01)
        async with MqttConnection(settings) as connection:
            if fatal:
                with pytest.raises(BrokerError, match="refused the connection"):
                    await connection.wait_connected(5)
            else:
                await connection.wait_connected(5)


def _refuses_5_in_its_own_form(session: Session) -> None:
    session.send(b"\x20\x02\x00\x01")
    session.writer.close()


def _refuses_5_politely(session: Session) -> None:
    session.send(mqtt5.ConnAckPacket(reason_code=mqtt5.ConnAckReasonCode.UNSUPPORTED_PROTOCOL_VERSION))
    session.writer.close()


def _hangs_up_on_5(session: Session) -> None:
    session.writer.close()


@pytest.mark.parametrize(
    ("refuse", "connections"), [(_refuses_5_in_its_own_form, 3), (_refuses_5_politely, 3), (_hangs_up_on_5, 4)]
)
async def test_broker_that_knows_only_3_1_1(refuse: Callable[[Session], None], connections: int) -> None:
    async def script(session: Session) -> None:
        first = await session._reader.readexactly(10)
        level = first[8] if first[2:8] == b"\x00\x04MQTT" else first[9]
        if level == 5:
            refuse(session)
            return
        session._buffer = first
        await session.receive_until(mqtt5.ConnectPacket)
        session.send(mqtt311.write(mqtt5.ConnAckPacket()))
        request = await session.receive_until(mqtt5.SubscribePacket)
        assert isinstance(request, mqtt5.SubscribePacket)
        granted = [mqtt5.SubAckReasonCode.GRANTED_QOS_AT_LEAST_ONCE]
        session.send(mqtt311.write(mqtt5.SubAckPacket(request.packet_id, granted)))
        session.send(mqtt311.write(PublishPacket("a", b"old", qos=AT_LEAST_ONCE, packet_id=3)))
        packet = await session.receive_until(mqtt5.PubAckPacket)
        assert isinstance(packet, mqtt5.PubAckPacket)
        assert packet.packet_id == 3

    inbox = Inbox()
    async with (
        FakeBroker(script, old=True) as broker,
        connected(broker, "a", on_message=inbox, fail_fast=True) as connection,
    ):
        assert await inbox.holds(1) == [b"old"]
        assert connection.protocol == "3.1.1"
        assert len(broker.sessions) == 2
        connection.abort()
        await inbox.holds(2)
        assert len(broker.sessions) == connections, "a version refused in words is not offered again"


async def test_broker_that_was_only_busy_is_asked_for_5_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def script(session: Session) -> None:
        if len(broker.sessions) == 1:
            await session._reader.read()  # says nothing until the client has lost its patience
        elif len(broker.sessions) == 2:
            await session._reader.read(1000)
            session.send(mqtt311.write(mqtt5.ConnAckPacket()))
            session.send(mqtt311.write(PublishPacket("a", b"old")))
        else:
            await accept(session)
            session.send(PublishPacket("a", b"new"))

    monkeypatch.setattr(handshake, "_PATIENCE_WITH_5_S", 0.1)
    inbox = Inbox()
    async with FakeBroker(script) as broker:
        settings = MqttConnectionSettings(host=broker.host, port=broker.port, backoff_base_s=0.01)
        async with MqttConnection(settings, on_message=inbox) as connection:
            await connection.wait_connected(30)
            assert connection.protocol == "3.1.1"
            assert "did not answer MQTT 5: speaking 3.1.1 until the next connection" in caplog.text
            connection.abort()
            await eventually(lambda: connection.protocol == "5")
            assert await inbox.holds(2) == [b"old", b"new"]


async def test_embedded_broker_is_spoken_to_in_3_1_1() -> None:
    need(package="amqtt")
    inbox = Inbox()
    async with (
        private_broker("amqtt") as broker,
        connected(broker, "a/#", on_message=inbox) as connection,
    ):
        assert connection.protocol == broker.protocol == "3.1.1"
        for number in range(20):
            await connection.publish_and_wait(f"a/{number}", str(number).encode(), qos=number % 2)  # type: ignore[arg-type]  # 0 or 1
        assert sorted(map(int, await inbox.holds(20))) == list(range(20))


async def test_5_is_demanded_where_only_3_1_1_is_spoken() -> None:
    async def script(session: Session) -> None:
        await session._reader.read(1000)
        _refuses_5_in_its_own_form(session)

    async with FakeBroker(script) as broker:
        settings = MqttConnectionSettings(host=broker.host, port=broker.port, protocol="5")
        async with MqttConnection(settings) as connection:
            with pytest.raises(BrokerError, match="unsupported protocol version"):
                await connection.wait_connected(5)
