"""The cloud service as a class, where something goes wrong."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

import mqtt5
import pytest

from tests.messaging.peers import FakeBroker, Session, accept
from tierwise.core.clocks import monotonic_ns
from tierwise.core.errors import BrokerError, ConfigurationError, ModelFileError
from tierwise.live.processes import free_port
from tierwise.serving.cloud import CloudMLService

if TYPE_CHECKING:
    from pathlib import Path


def checkpoint(model: Path) -> Path:
    return next(model.glob("*.pt"))


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate()]


def test_a_missing_model_is_told_when_it_is_loaded() -> None:
    with pytest.raises(ModelFileError, match=r"no model at nowhere\.pt"):
        CloudMLService("nowhere.pt").load_model()


def test_nonsense_is_told_at_once() -> None:
    with pytest.raises(ConfigurationError, match="--latency-ms"):
        CloudMLService("model.pt", cloud_latency_ms=-1)


def test_without_a_broker_connecting_fails_in_time_and_leaves_nothing_behind(anomaly_detector: Path) -> None:
    cloud = CloudMLService(checkpoint(anomaly_detector), "127.0.0.1", free_port())
    before_ns = monotonic_ns()
    with pytest.raises(BrokerError, match="no broker answered"):
        cloud.connect_mqtt(timeout_s=0.2)
    assert monotonic_ns() - before_ns < 15_000_000_000
    assert "cloud-service" not in threads()
    assert isinstance(cloud.run_inference([0.0] * 32), float), "the model can still be used"


async def test_a_refusal_is_raised_and_the_model_can_still_be_used(anomaly_detector: Path) -> None:
    async def script(session: Session) -> None:
        await accept(session, reason_code=mqtt5.ConnAckReasonCode.NOT_AUTHORIZED)

    async with FakeBroker(script) as broker:
        cloud = CloudMLService(checkpoint(anomaly_detector), broker.host, broker.port)
        with pytest.raises(BrokerError):
            await asyncio.to_thread(cloud.connect_mqtt)
    assert isinstance(cloud.run_inference([0.0] * 32), float)
    assert "cloud-service" not in threads()


async def test_run_ends_with_the_reason_when_the_broker_refuses_later(anomaly_detector: Path) -> None:
    async def script(session: Session) -> None:
        if len(broker.sessions) > 1:
            await accept(session, reason_code=mqtt5.ConnAckReasonCode.BANNED)
            return
        await accept(session)
        subscribe = await session.receive_until(mqtt5.SubscribePacket)
        assert isinstance(subscribe, mqtt5.SubscribePacket)
        session.send(mqtt5.SubAckPacket(subscribe.packet_id, [mqtt5.SubAckReasonCode.GRANTED_QOS_AT_LEAST_ONCE]))
        await session.receive_until(mqtt5.PublishPacket)
        session.writer.close()

    async with FakeBroker(script) as broker:
        cloud = CloudMLService(checkpoint(anomaly_detector), broker.host, broker.port)
        with pytest.raises(BrokerError):
            await asyncio.wait_for(asyncio.to_thread(cloud.run), 30)
