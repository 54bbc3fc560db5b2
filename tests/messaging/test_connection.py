"""The connection against a real mosquitto."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import subprocess
import sys
from typing import TYPE_CHECKING, Literal

import pytest
from mqtt5 import QoS
from tests.components import need
from tests.messaging.peers import DEADLINE_S, Inbox, connected, eventually

from tierwise.core.errors import BrokerError, ConfigurationError, TransportError
from tierwise.live.broker import private_broker
from tierwise.live.processes import Child, child_process, free_port
from tierwise.messaging.connection import MqttConnection
from tierwise.messaging.framing import HEAD_BYTES
from tierwise.messaging.settings import MqttConnectionSettings

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mqtt5 import PublishPacket

    from tierwise.live.broker import PrivateBroker


@pytest.mark.parametrize("qos", [0, 1])
@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
async def test_message_arrives_as_it_was_sent(broker: PrivateBroker, qos: Literal[0, 1], protocol: str) -> None:
    inbox = Inbox()
    async with connected(broker, "a/+", on_message=inbox, protocol=protocol) as connection:
        await connection.publish_and_wait("a/ü", b"\x00payload\xff", qos=qos)
        assert await inbox.holds(1) == [b"\x00payload\xff"]
        assert connection.protocol == protocol
    packet = inbox.packets[0]
    assert packet.topic == "a/ü"
    assert packet.qos.value == qos
    assert not packet.retain


@pytest.mark.parametrize("qos", [0, 1])
@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
async def test_beginning_of_a_message_that_is_too_large_is_told(
    broker: PrivateBroker, qos: Literal[0, 1], protocol: str
) -> None:
    told: list[tuple[PublishPacket, int]] = []

    def on_oversize(packet: PublishPacket, payload_bytes: int, acknowledge: Callable[[], None]) -> None:
        told.append((packet, payload_bytes))
        acknowledge()

    inbox, payload = Inbox(), b'{"device_id": "d"' + b" " * 2_000_000
    async with (
        connected(
            broker, "a", on_message=inbox, on_oversize=on_oversize, protocol=protocol, max_packet_size=10_000
        ) as connection,
        connected(broker) as sender,
    ):
        await sender.publish_and_wait("a", payload, qos=qos)
        await sender.publish_and_wait("a", b"small", qos=qos)
        assert await inbox.holds(1) == [b"small"]
        assert connection.connected
    ((packet, payload_bytes),) = told
    assert payload_bytes == len(payload)
    assert packet.topic == "a"
    assert packet.qos.value == qos
    assert payload.startswith(packet.payload)
    assert 4096 < len(packet.payload) <= HEAD_BYTES


async def test_properties_travel(broker: PrivateBroker) -> None:
    inbox = Inbox()
    async with connected(broker, "a", on_message=inbox) as connection:
        connection.publish(
            "a",
            b"x",
            qos=1,
            response_topic="b",
            correlation_data=b"\x01\x02",
            content_type="application/json",
            message_expiry_interval=60,
            user_properties=[("traceparent", "00-1"), ("k", "v")],
        )
        await inbox.holds(1)
    packet = inbox.packets[0]
    assert packet.response_topic == "b"
    assert packet.correlation_data == b"\x01\x02"
    assert packet.content_type == "application/json"
    assert packet.message_expiry_interval is not None
    assert 0 < packet.message_expiry_interval <= 60
    assert packet.user_properties == [("traceparent", "00-1"), ("k", "v")]


async def test_retained_message_waits_for_subscribers(broker: PrivateBroker) -> None:
    inbox = Inbox()
    async with connected(broker) as connection:
        await connection.publish_and_wait("state", b"online", retain=True)
    async with connected(broker, "state", on_message=inbox):
        assert await inbox.holds(1) == [b"online"]
    assert inbox.packets[0].retain


async def test_unsubscribed_topics_are_silent(broker: PrivateBroker) -> None:
    inbox = Inbox()
    async with connected(broker, "a", "b", on_message=inbox) as connection:
        await connection.unsubscribe("a")
        await connection.publish_and_wait("a", b"1")
        await connection.publish_and_wait("b", b"2")
        assert await inbox.holds(1) == [b"2"]


async def test_shared_subscription_divides_the_messages(broker: PrivateBroker) -> None:
    first, second = Inbox(), Inbox()
    async with (
        connected(broker, "$share/group/q", on_message=first),
        connected(broker, "$share/group/q", on_message=second),
        connected(broker) as sender,
    ):
        for number in range(20):
            await sender.publish_and_wait("q", str(number).encode())
        await eventually(lambda: len(first.packets) + len(second.packets) == 20)
    assert first.packets
    assert second.packets
    assert sorted(map(int, first.payloads + second.payloads)) == list(range(20))


async def test_foreign_clients_understand_us(broker: PrivateBroker) -> None:
    need(program="mosquitto_sub")
    need(program="mosquitto_pub")
    inbox = Inbox()
    address = ["-h", broker.host, "-p", str(broker.port), "-q", "1"]
    async with connected(broker, "to/us", on_message=inbox) as connection:
        await connection.publish_and_wait("from/us", b"hello", retain=True)
        async with child_process(["mosquitto_sub", *address, "-t", "from/us", "-C", "1"]) as subscriber:
            await subscriber.wait_line("hello")
        async with child_process(["mosquitto_pub", *address, "-t", "to/us", "-m", "hi"]) as publisher:
            assert await publisher.wait() == 0
        assert await inbox.holds(1) == [b"hi"]


async def test_nodelay_is_set_on_the_socket(broker: PrivateBroker) -> None:
    async with connected(broker) as connection:
        assert connection._wire is not None
        assert connection._wire._transport is not None
        sock = connection._wire._transport.get_extra_info("socket")
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0


async def test_burst_of_qos_1_loses_nothing(broker: PrivateBroker) -> None:
    count = 5000
    answers = Inbox()
    service: MqttConnection

    def answer(packet: PublishPacket, acknowledge: Callable[[], None]) -> None:
        service.publish("answer", packet.payload, qos=1)
        acknowledge()

    async with (
        connected(broker, "request", on_message=answer) as service,
        connected(broker, "answer", on_message=answers) as client,
    ):
        for number in range(count):
            await client.wait_writable()
            client.publish("request", str(number).encode(), qos=1)
        await eventually(lambda: len(answers.packets) >= count, timeout_s=60)
    assert sorted(map(int, answers.payloads)) == list(range(count))


async def test_client_ids_differ() -> None:
    connections = [MqttConnection(MqttConnectionSettings(client_id_prefix="edge")) for _ in range(100)]
    ids = {connection._client_id for connection in connections}
    assert len(ids) == 100
    assert all(client_id.startswith("edge-") for client_id in ids)


@pytest.mark.parametrize("topic", ["", "a/#", "+/b", "a\x00", "a\ud800"])
async def test_impossible_topic_is_refused_before_the_broker_sees_it(broker: PrivateBroker, topic: str) -> None:
    async with connected(broker) as connection:
        with pytest.raises(ConfigurationError, match="topic"):
            connection.publish(topic, b"")
        await connection.publish_and_wait("still/there", b"")


_DYING = """
import asyncio, sys
from tierwise.messaging.connection import MqttConnection
from tierwise.messaging.settings import MqttConnectionSettings, Will

async def main():
    settings = MqttConnectionSettings(port=int(sys.argv[1]), host="127.0.0.1", will=Will("status", b"offline"))
    async with MqttConnection(settings) as connection:
        await connection.wait_connected(10)
        await connection.publish_and_wait("status", b"online", retain=True)
        if sys.argv[2] == "killed":
            print("up", flush=True)
            await asyncio.Event().wait()
asyncio.run(main())
"""


def _dying(broker: PrivateBroker, how: str) -> list[str]:
    return [sys.executable, "-c", _DYING, str(broker.port), how]


async def test_will_is_published_when_the_process_is_killed(broker: PrivateBroker) -> None:
    inbox = Inbox()
    async with connected(broker, "status", on_message=inbox), child_process(_dying(broker, "killed")) as child:
        await child.wait_line("up")
        child.kill()
        assert await inbox.holds(2) == [b"online", b"offline"]


async def test_will_is_withheld_after_a_goodbye(broker: PrivateBroker) -> None:
    inbox = Inbox()
    async with connected(broker, "status", "after", on_message=inbox) as connection:
        async with child_process(_dying(broker, "stopped")) as child:
            assert await child.wait() == 0
        await connection.publish_and_wait("after", b"after")
        assert await inbox.holds(2) == [b"online", b"after"]


async def _mosquitto(folder: Path, port: int, *settings: str) -> list[str | Path]:
    need(program="mosquitto")
    if os.geteuid() == 0:
        settings = ("user root", *settings)  # an unprivileged user could not read the test's folder
    configuration = folder / "mosquitto.conf"
    configuration.write_text("\n".join((f"listener {port} 127.0.0.1", *settings)) + "\n")
    return ["mosquitto", "-v", "-c", configuration]


async def _running(child: Child) -> None:
    await child.wait_line("running")


def _passwords(folder: Path, user: str, password: str) -> Path:
    file = folder / "passwords"
    subprocess.run(["mosquitto_passwd", "-b", "-c", file, user, password], check=True, capture_output=True)
    return file


def _certificate(folder: Path) -> tuple[Path, Path]:
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    options = ["-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    names = ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    files: list[str | Path] = ["-keyout", key, "-out", certificate]
    subprocess.run(["openssl", "req", *options, *names, *files], check=True, capture_output=True)
    return key, certificate


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
async def test_refused_credentials_end_the_connection_with_the_reason(tmp_path: Path, protocol: str) -> None:
    need(program="mosquitto_passwd")
    port, passwords = free_port(), _passwords(tmp_path, "ann", "right")
    command = await _mosquitto(tmp_path, port, "allow_anonymous false", f"password_file {passwords}")
    async with child_process(command) as child:
        await _running(child)
        shared = {"host": "127.0.0.1", "port": port, "protocol": protocol, "username": "ann"}
        async with MqttConnection(MqttConnectionSettings(**shared, password="wrong")) as connection:  # type: ignore[arg-type]  # fields by name
            connection.publish("kept", b"", qos=1)
            with pytest.raises(BrokerError, match=r"not authorized|bad user name"):
                await connection.wait_connected(DEADLINE_S)
            with pytest.raises(BrokerError, match=str(port)):
                await connection.wait_failed()
            with pytest.raises(TransportError):
                connection.publish("too/late", b"", qos=1)
        async with MqttConnection(MqttConnectionSettings(**shared, password="right")) as connection:  # type: ignore[arg-type]  # fields by name
            await connection.wait_connected(DEADLINE_S)


@pytest.mark.parametrize(
    ("credentials", "protocol", "said"),
    [
        ({"password": "secret"}, "3.1.1", "takes no password without a user name"),
        ({"username": "ann", "password": "x" * 70_000}, "3.1.1", "65535"),
        ({"username": "ann", "password": "x" * 70_000}, "5", "65535"),
    ],
)
async def test_credentials_that_cannot_be_sent_are_one_clear_error(
    credentials: dict[str, str], protocol: str, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    settings = MqttConnectionSettings(host="127.0.0.1", port=free_port(), protocol=protocol, **credentials)  # type: ignore[arg-type]  # fields by name
    async with MqttConnection(settings) as connection:
        with pytest.raises(BrokerError, match=said):
            await connection.wait_connected(DEADLINE_S)
    assert len(caplog.records) == 1, "no retry"
    assert caplog.records[0].exc_info is None


async def test_password_without_a_user_name_ends_the_connection_to_an_old_broker() -> None:
    need(package="amqtt")
    async with (
        private_broker("amqtt") as broker,
        MqttConnection(MqttConnectionSettings(host=broker.host, port=broker.port, password="p")) as connection,
    ):
        with pytest.raises(BrokerError, match=r"MQTT 3\.1\.1: .*without a user name"):
            await connection.wait_failed()


def test_password_is_not_shown() -> None:
    assert "secret" not in repr(MqttConnectionSettings(username="ann", password="secret"))


async def test_tls_is_verified(tmp_path: Path) -> None:
    need(program="openssl")
    key, certificate = _certificate(tmp_path)
    port = free_port()
    command = await _mosquitto(tmp_path, port, "allow_anonymous true", f"certfile {certificate}", f"keyfile {key}")
    async with child_process(command) as child:
        await _running(child)
        trusting = ssl.create_default_context(cafile=certificate)
        inbox = Inbox()
        settings = MqttConnectionSettings(host="127.0.0.1", port=port, tls=trusting)
        async with MqttConnection(settings, on_message=inbox) as connection:
            await connection.wait_connected(DEADLINE_S)
            await connection.subscribe("a")
            await connection.publish_and_wait("a", b"secret")
            assert await inbox.holds(1) == [b"secret"]
        suspicious = MqttConnectionSettings(host="127.0.0.1", port=port, tls=ssl.create_default_context())
        async with MqttConnection(suspicious) as connection:
            with pytest.raises(BrokerError, match="not trusted"):
                await connection.wait_connected(DEADLINE_S)


async def test_absent_broker_fails_fast_on_request() -> None:
    port = free_port()
    connection = MqttConnection(MqttConnectionSettings(host="127.0.0.1", port=port, fail_fast=True))
    with pytest.raises(TransportError, match=f"cannot reach the MQTT broker at 127.0.0.1:{port}"):
        await connection.start()
    await connection.stop()


async def test_stop_returns_without_a_broker() -> None:
    lost: list[Exception | None] = []
    connection = MqttConnection(MqttConnectionSettings(host="127.0.0.1", port=free_port()))
    await connection.start()
    connection.publish("a", b"", qos=1, on_done=lost.append)
    async with asyncio.timeout(DEADLINE_S):
        await connection.stop()
    assert isinstance(lost[0], TransportError)


async def test_message_at_qos_0_without_a_connection_is_counted() -> None:
    told: list[Exception | None] = []
    connection = MqttConnection(MqttConnectionSettings(host="127.0.0.1", port=free_port()))
    connection.publish("a", b"", on_done=told.append)
    assert connection.dropped == 1
    assert isinstance(told[0], TransportError)


async def test_quality_of_service_is_what_was_subscribed(broker: PrivateBroker) -> None:
    inbox = Inbox()
    async with connected(broker, on_message=inbox) as connection:
        await connection.subscribe("a", qos=0)
        await connection.publish_and_wait("a", b"")
        await inbox.holds(1)
    assert inbox.packets[0].qos is QoS.AT_MOST_ONCE
