"""A stop takes its time and no more, however many others do not answer."""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mqtt5

from tests.messaging.peers import FakeBroker, Session, accept
from tests.serving.fakes import row_sums, served
from tests.serving.tcp import tcp_server
from tests.waiting import until
from tierwise.serving.service import Service
from tierwise.serving.settings import (
    Endpoint,
    HttpSettings,
    InfluxSettings,
    LimitSettings,
    ModelSettings,
    MqttSettings,
    ServiceSettings,
)

if TYPE_CHECKING:
    import pytest
    from numpy.typing import NDArray

DRAIN_S = 0.5


async def deaf_broker(session: Session) -> None:
    """Takes the subscription, and answers nothing more."""
    await accept(session)
    subscribe = await session.receive_until(mqtt5.SubscribePacket)
    assert isinstance(subscribe, mqtt5.SubscribePacket)
    session.send(mqtt5.SubAckPacket(subscribe.packet_id, [mqtt5.SubAckReasonCode.GRANTED_QOS_AT_LEAST_ONCE]))
    await asyncio.Event().wait()


async def silent(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    """An InfluxDB that takes points and never says so."""
    await reader.read()


async def test_deaf_broker_stuck_client_and_silent_influxdb_together_stay_within_the_time(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with AsyncExitStack() as stack:
        broker = await stack.enter_async_context(FakeBroker(deaf_broker))
        influx = await stack.enter_async_context(tcp_server(silent))
        settings = ServiceSettings(
            model=ModelSettings(path=Path("none")),
            mqtt=MqttSettings(endpoint=Endpoint(broker.host, broker.port)),
            http=HttpSettings(endpoint=Endpoint("127.0.0.1", 0)),
            limits=LimitSettings(drain_s=DRAIN_S),
            influx=InfluxSettings(url=f"http://127.0.0.1:{influx}", interval_s=0.1),
        )
        may_end = threading.Event()
        stack.callback(may_end.set)

        def hangs(features: NDArray[Any]) -> NDArray[Any]:
            may_end.wait(60)
            return row_sums(features)

        service = Service(settings, served(hangs, warm_s=1))
        await service.__aenter__()
        assert service.mqtt is not None
        assert service.http_endpoint is not None
        await service.mqtt.connection.wait_connected(10)
        reader, writer = await asyncio.open_connection("127.0.0.1", service.http_endpoint.port)
        stack.callback(writer.close)
        body = b'{"input": [1, 2, 3, 4]}'
        writer.write(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        await until(lambda: service.plane.pending == 1)
        started = time.monotonic()
        await service.__aexit__()
        took_s = time.monotonic() - started
        answer = await reader.read()
    assert b" 503 " in answer.partition(b"\r\n")[0]
    assert took_s < 3 + DRAIN_S + 3 + 2, "one wait for the broker, the drain, and the rest side by side"
    told = caplog.text
    assert "gave up on requests" in told
    assert "closing failed" not in told
