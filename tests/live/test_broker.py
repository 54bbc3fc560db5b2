"""A private broker: started when it answers, gone when its block ends."""

from __future__ import annotations

import importlib.util
import socket
from typing import TYPE_CHECKING, Literal

import pytest
from tests.components import need
from tests.messaging.peers import Inbox, connected

from tierwise.core.errors import BrokerError, DependencyError
from tierwise.live import broker as broker_module
from tierwise.live.broker import private_broker
from tierwise.live.processes import free_port

if TYPE_CHECKING:
    from tierwise.live.broker import PrivateBroker


@pytest.mark.parametrize("kind", ["mosquitto", "amqtt"])
async def test_broker_answers_at_once_and_ends_with_its_block(kind: Literal["mosquitto", "amqtt"]) -> None:
    need(program="mosquitto") if kind == "mosquitto" else need(package="amqtt")
    inbox = Inbox()
    async with private_broker(kind) as broker:
        assert broker.kind == kind
        assert broker.host == "127.0.0.1"
        async with connected(broker, "a", on_message=inbox, fail_fast=True, protocol=broker.protocol) as connection:
            await connection.publish_and_wait("a", b"1")
            await inbox.holds(1)
    assert broker.child.exit_code == 0
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((broker.host, broker.port), timeout=5)


async def test_installed_broker_is_chosen() -> None:
    need(program="mosquitto")
    async with private_broker() as broker:
        assert broker.kind == "mosquitto"


async def test_embedded_broker_is_used_without_mosquitto(monkeypatch: pytest.MonkeyPatch) -> None:
    need(package="amqtt")
    monkeypatch.setattr(broker_module, "find_program", lambda _: None)
    async with private_broker() as broker:
        assert broker.kind == "amqtt"
    with pytest.raises(DependencyError, match="mosquitto is not installed"):
        async with private_broker("mosquitto"):
            pass


async def test_absence_of_any_broker_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broker_module, "find_program", lambda _: None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(DependencyError, match="apt-get install mosquitto"):
        async with private_broker():
            pass


async def test_taken_port_is_told() -> None:
    need(program="mosquitto")
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(BrokerError, match=f"127.0.0.1:{port}"):
            async with private_broker("mosquitto", port=port):
                pass


async def test_lost_race_for_a_port_is_run_again(broker: PrivateBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first choice is the port of another broker, which would answer in its stead."""
    choices = iter([broker.port])
    monkeypatch.setattr(broker_module, "free_port", lambda host: next(choices, None) or free_port(host))
    async with private_broker("mosquitto") as second:
        assert second.port != broker.port


async def test_several_brokers_run_side_by_side(broker: PrivateBroker) -> None:
    inbox = Inbox()
    async with (
        private_broker("mosquitto") as other,
        connected(broker, "a", on_message=inbox),
        connected(other) as elsewhere,
        connected(broker) as here,
    ):
        await elsewhere.publish_and_wait("a", b"elsewhere")
        await here.publish_and_wait("a", b"here")
        assert await inbox.holds(1) == [b"here"]
