"""What survives a lost connection: subscriptions, messages under way, and messages not yet acknowledged."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

import mqtt5
import pytest
from mqtt5 import PublishPacket
from tests.components import need
from tests.messaging.peers import FakeBroker, Inbox, Session, accept, connected, eventually

from tierwise.core.errors import BrokerError, OverloadedError, PayloadTooLargeError, TransportError
from tierwise.live.broker import private_broker
from tierwise.live.processes import free_port
from tierwise.messaging.connection import MqttConnection
from tierwise.messaging.settings import MqttConnectionSettings

if TYPE_CHECKING:
    from collections.abc import Callable

    from tierwise.live.broker import PrivateBroker


async def test_everything_comes_back_after_a_restart_of_the_broker() -> None:
    need(program="mosquitto")
    states: list[bool] = []
    done: list[Exception | None] = []
    port, inbox = free_port(), Inbox()
    async with private_broker("mosquitto", port=port) as broker:
        connection = MqttConnection(
            MqttConnectionSettings(host=broker.host, port=port, backoff_base_s=0.02, backoff_cap_s=0.1),
            on_message=inbox,
            on_state=states.append,
        )
        await connection.start()
        await connection.subscribe("first", "second")
        await connection.wait_connected()
        await connection.publish_and_wait("first", b"before")
    await eventually(lambda: not connection.connected)
    for number in range(50):
        connection.publish("second", str(number).encode(), qos=1, on_done=done.append)
    async with private_broker("mosquitto", port=port):
        await eventually(lambda: len(done) == 50)
        await inbox.holds(51)
        await connection.stop()
    assert inbox.payloads == [b"before", *(str(number).encode() for number in range(50))]
    assert done == [None] * 50
    assert states == [True, False, True, False]


async def test_service_may_start_before_its_broker(caplog: pytest.LogCaptureFixture) -> None:
    need(program="mosquitto")
    port, inbox = free_port(), Inbox()
    settings = MqttConnectionSettings(host="127.0.0.1", port=port, backoff_base_s=0.02, backoff_cap_s=0.1)
    async with MqttConnection(settings, on_message=inbox) as connection:
        await connection.subscribe("a")
        await eventually(lambda: "cannot reach the MQTT broker" in caplog.text)
        with pytest.raises(TransportError, match="no connection"):
            await connection.wait_connected(0.01)
        async with private_broker("mosquitto", port=port):
            await connection.publish_and_wait("a", b"1")
            await inbox.holds(1)


async def test_tries_are_told_at_growing_distance_and_the_recovery_with_their_number(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG, "tierwise.messaging")
    need(program="mosquitto")
    port = free_port()

    def tries(*levels: int) -> list[str]:
        told = [record for record in caplog.records if record.levelno in levels]
        return [record.getMessage() for record in told if "next try in" in record.getMessage()]

    settings = MqttConnectionSettings(host="127.0.0.1", port=port, backoff_base_s=0.001, backoff_cap_s=0.01)
    async with MqttConnection(settings) as connection:
        await eventually(lambda: len(tries(logging.DEBUG, logging.WARNING)) >= 40)
        all_tries = tries(logging.DEBUG, logging.WARNING)
        loud = [message for message in all_tries if message in tries(logging.WARNING)]
        async with private_broker("mosquitto", port=port):
            await eventually(lambda: connection.connected)
            failed = len(tries(logging.DEBUG, logging.WARNING))
            (recovery,) = [record.getMessage() for record in caplog.records if "connected to" in record.getMessage()]
    assert [message.rpartition(": ")[2] for message in loud[:6]] == ["1)", "2)", "4)", "8)", "16)", "32)"]
    assert "cannot reach the MQTT broker" in loud[0]
    assert recovery.endswith(f" after {failed} failed tries")


async def test_every_loss_of_a_connection_that_stood_is_told(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "tierwise.messaging")

    async def script(session: Session) -> None:
        await accept(session)
        await session.receive_until(PublishPacket)
        session.writer.close()

    def on_state(is_connected: bool) -> None:  # noqa: FBT001 -- the connection's callback
        if is_connected:
            connection.publish("a", b"it stands")

    async with FakeBroker(script) as broker:
        settings = MqttConnectionSettings(host=broker.host, port=broker.port, backoff_base_s=0.001, backoff_cap_s=0.01)
        async with MqttConnection(settings, on_state=on_state) as connection:
            await eventually(lambda: len(broker.sessions) >= 12)
    told = [record for record in caplog.records if "next try in" in record.getMessage()]
    assert len(told) >= 11
    assert {record.levelno for record in told} == {logging.WARNING}


async def test_unacknowledged_message_is_delivered_again_in_the_same_session(broker: PrivateBroker) -> None:
    inbox = Inbox(acknowledge=False)
    async with connected(broker, "a", on_message=inbox, session_expiry_s=60) as connection:
        await connection.publish_and_wait("a", b"1")
        await connection.publish_and_wait("a", b"2")
        await inbox.holds(2)
        inbox.acknowledgements[0]()
        await connection.publish_and_wait("other", b"the acknowledgement has left before")
        connection.abort()
        assert await inbox.holds(3) == [b"1", b"2", b"2"]
        assert inbox.packets[2].duplicate
        # An acknowledgement of the former connection must not reach the new one.
        inbox.acknowledgements[1]()
        await connection.publish_and_wait("other", b"")
        connection.abort()
        assert await inbox.holds(4) == [b"1", b"2", b"2", b"2"]
        inbox.acknowledgements[3]()


async def test_shared_message_comes_back_with_the_session(broker: PrivateBroker) -> None:
    silent, diligent = Inbox(acknowledge=False), Inbox()
    async with connected(broker, "$share/group/q", on_message=silent, session_expiry_s=60) as member:
        await member.publish_and_wait("q", b"1")
        await silent.holds(1)
        member._on_message = diligent
        member.abort()
        assert await diligent.holds(1) == [b"1"]


async def test_stopped_member_of_a_group_takes_nothing_with_it(broker: PrivateBroker) -> None:
    """A session that outlived its process would go on to receive its share, unheard."""
    leaving, staying = Inbox(), Inbox()
    async with connected(broker, "$share/group/q", on_message=staying, session_expiry_s=60) as sender:
        async with connected(broker, "$share/group/q", on_message=leaving, session_expiry_s=60):
            pass
        for number in range(10):
            await sender.publish_and_wait("q", str(number).encode())
        assert sorted(map(int, await staying.holds(10))) == list(range(10))
    assert leaving.packets == []


async def test_acknowledging_twice_sends_one_acknowledgement() -> None:
    async def script(session: Session) -> None:
        await accept(session)
        session.send(PublishPacket("a", b"", qos=mqtt5.QoS.AT_LEAST_ONCE, packet_id=7))

    inbox = Inbox(acknowledge=False)
    async with FakeBroker(script) as broker, connected(broker, on_message=inbox) as connection:
        await inbox.holds(1)
        inbox.acknowledgements[0]()
        inbox.acknowledgements[0]()
        connection.publish("b", b"")
        await eventually(lambda: any(isinstance(p, PublishPacket) for p in broker.sessions[0].packets))
        assert sum(isinstance(p, mqtt5.PubAckPacket) for p in broker.sessions[0].packets) == 1


async def test_answer_leaves_before_its_acknowledgement() -> None:
    async def script(session: Session) -> None:
        await accept(session)
        await session.receive_until(PublishPacket)
        at_least_once = mqtt5.QoS.AT_LEAST_ONCE
        session.send(*(PublishPacket("q", b"x", qos=at_least_once, packet_id=number) for number in range(1, 65)))

    connection: MqttConnection

    def answer(packet: PublishPacket, acknowledge: Callable[[], None]) -> None:
        connection.publish(f"r/{packet.packet_id}", packet.payload, qos=1)
        acknowledge()

    async with FakeBroker(script) as broker, connected(broker, on_message=answer) as connection:
        connection.publish("ready", b"")
        await eventually(lambda: len(broker.sessions[0].packets) >= 130)
        received = broker.sessions[0].packets[2:]
        await connection.stop(drain_s=0)
    order = [p.topic if isinstance(p, PublishPacket) else p.packet_id for p in received]  # type: ignore[union-attr]  # PUBLISH and PUBACK only
    assert order == [entry for number in range(1, 65) for entry in (f"r/{number}", number)]


async def test_unacknowledged_publish_is_resent_with_its_id_in_the_same_session() -> None:
    async def script(session: Session) -> None:
        again = len(broker.sessions) > 1
        await accept(session, session_present=again)
        packet = await session.receive_until(PublishPacket)
        assert isinstance(packet, PublishPacket)
        if again:
            assert packet.packet_id is not None
            session.send(mqtt5.PubAckPacket(packet.packet_id))
        else:
            session.writer.close()

    done: list[Exception | None] = []
    async with FakeBroker(script) as broker, connected(broker, session_expiry_s=60) as connection:
        connection.publish("a", b"1", qos=1, on_done=done.append)
        await eventually(lambda: done == [None])
        first, second = (s.packets[1] for s in broker.sessions)
    assert isinstance(first, PublishPacket)
    assert isinstance(second, PublishPacket)
    assert (first.duplicate, second.duplicate) == (False, True)
    assert first.packet_id == second.packet_id
    assert isinstance(broker.sessions[1].packets[0], mqtt5.ConnectPacket)
    assert not broker.sessions[1].packets[0].clean_start


async def test_window_of_the_broker_is_respected() -> None:
    async def script(session: Session) -> None:
        await accept(session, receive_max=2)
        taken = [await session.receive_until(PublishPacket) for _ in range(2)]
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await session.receive()
        for _ in range(3):
            session.send(mqtt5.PubAckPacket(taken.pop(0).packet_id))  # type: ignore[union-attr, arg-type]  # a PUBLISH at QoS 1
            taken.append(await session.receive_until(PublishPacket))
        session.send(*(mqtt5.PubAckPacket(packet.packet_id) for packet in taken))  # type: ignore[union-attr, arg-type]  # a PUBLISH at QoS 1

    done: list[Exception | None] = []
    async with FakeBroker(script) as broker, connected(broker) as connection:
        for number in range(5):
            connection.publish("a", str(number).encode(), qos=1, on_done=done.append)
        await eventually(lambda: len(done) == 5)
        sent = [p.payload for p in broker.sessions[0].packets if isinstance(p, PublishPacket)]
    assert sent == [b"0", b"1", b"2", b"3", b"4"]


async def test_full_queue_refuses_and_waiting_senders_get_room() -> None:
    released = asyncio.Event()

    async def script(session: Session) -> None:
        await accept(session, receive_max=1)
        first = await session.receive_until(PublishPacket)
        await released.wait()
        session.send(mqtt5.PubAckPacket(first.packet_id))  # type: ignore[union-attr, arg-type]  # a PUBLISH at QoS 1
        while True:
            packet = await session.receive_until(PublishPacket)
            session.send(mqtt5.PubAckPacket(packet.packet_id))  # type: ignore[union-attr, arg-type]  # a PUBLISH at QoS 1

    async with FakeBroker(script) as broker, connected(broker, max_queued=3) as connection:
        for _ in range(4):
            connection.publish("a", b"", qos=1)
        with pytest.raises(OverloadedError, match="3 messages"):
            connection.publish("a", b"", qos=1)
        waiting = asyncio.create_task(connection.publish_and_wait("a", b""))
        released.set()
        await waiting


async def test_stop_waits_for_acknowledgements() -> None:
    async def script(session: Session) -> None:
        await accept(session)
        packet = await session.receive_until(PublishPacket)
        await asyncio.sleep(0)
        session.send(mqtt5.PubAckPacket(packet.packet_id))  # type: ignore[union-attr, arg-type]  # a PUBLISH at QoS 1

    done: list[Exception | None] = []
    async with FakeBroker(script) as broker:
        async with connected(broker) as connection:
            connection.publish("a", b"", qos=1, on_done=done.append)
        assert done == [None]
        await eventually(lambda: isinstance(broker.sessions[0].packets[-1], mqtt5.DisconnectPacket))


async def test_refused_publish_is_told() -> None:
    async def script(session: Session) -> None:
        await accept(session)
        packet = await session.receive_until(PublishPacket)
        reason = mqtt5.PubAckReasonCode.NOT_AUTHORIZED
        session.send(mqtt5.PubAckPacket(packet.packet_id, reason_code=reason))  # type: ignore[union-attr, arg-type]  # a PUBLISH at QoS 1

    async with FakeBroker(script) as broker, connected(broker) as connection:
        with pytest.raises(BrokerError, match="refused a message to a: not authorized"):
            await connection.publish_and_wait("a", b"")


async def test_message_too_large_for_the_broker_is_refused_here() -> None:
    async def script(session: Session) -> None:
        await accept(session, max_packet_size=100)

    async with FakeBroker(script) as broker, connected(broker) as connection:
        for qos in (0, 1):
            with pytest.raises(PayloadTooLargeError, match="at most 100"):
                connection.publish("a", bytes(200), qos=qos)
        assert connection.connected


async def test_refused_subscription_is_an_error() -> None:
    async def script(session: Session) -> None:
        await accept(session)
        request = await session.receive_until(mqtt5.SubscribePacket)
        assert isinstance(request, mqtt5.SubscribePacket)
        session.send(mqtt5.SubAckPacket(request.packet_id, [mqtt5.SubAckReasonCode.NOT_AUTHORIZED]))

    async with FakeBroker(script) as broker, connected(broker) as connection:
        with pytest.raises(BrokerError, match="subscription to secret: not authorized"):
            await connection.subscribe("secret")
    async with FakeBroker(script) as broker:
        settings = MqttConnectionSettings(host=broker.host, port=broker.port)
        async with MqttConnection(settings) as connection:
            await connection.subscribe("secret")
            with pytest.raises(BrokerError, match="secret"):
                await connection.wait_failed()


async def test_failing_handlers_do_not_end_the_connection(
    broker: PrivateBroker, caplog: pytest.LogCaptureFixture
) -> None:
    seen = []

    def fail(packet: PublishPacket, acknowledge: Callable[[], None]) -> None:
        acknowledge()
        seen.append(packet.payload)
        raise RuntimeError("bug in a handler")

    def fail_done(_: Exception | None) -> None:
        raise RuntimeError("bug in a callback")

    with caplog.at_level(logging.ERROR):
        async with connected(broker, "a", on_message=fail) as connection:
            for _ in range(3):
                connection.publish("a", b"", qos=1, on_done=fail_done)
            await eventually(lambda: len(seen) == 3)
            assert connection.connected
    assert "bug in a handler" in caplog.text
    assert "bug in a callback" in caplog.text
