"""A traced request over a real broker: the same trace id in the answer, the log and the exemplar."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING

import msgspec
from mqtt5 import PublishPacket  # noqa: TC002 -- the type of what arrives
from tests.integration.servers import tierwise_serve
from tests.waiting import until

from tierwise.messaging.connection import MqttConnection
from tierwise.messaging.settings import MqttConnectionSettings

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tierwise.live.broker import PrivateBroker

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


async def test_one_trace_id_in_answer_log_and_exemplar(anomaly_detector: Path, broker: PrivateBroker) -> None:
    answers: asyncio.Queue[PublishPacket] = asyncio.Queue()

    def on_message(packet: PublishPacket, acknowledge: Callable[[], None]) -> None:
        acknowledge()
        answers.put_nowait(packet)

    settings = MqttConnectionSettings(host="127.0.0.1", port=broker.port)
    async with (
        tierwise_serve(anomaly_detector, "--mqtt", f"127.0.0.1:{broker.port}") as service,
        MqttConnection(settings, on_message=on_message) as sensor,
    ):
        await sensor.wait_connected(10)
        await sensor.subscribe("ml/inference/result/sensor1")
        body = msgspec.json.encode({"device_id": "sensor1", "timestamp_us": 1, "features": [0.1] * 32})
        for header in (f"00-{TRACE}-{SPAN}-01", "not a traceparent"):
            sensor.publish("ml/inference/request", body, qos=1, user_properties=[("traceparent", header)])
        traced = dict((await asyncio.wait_for(answers.get(), 20)).user_properties or ())
        untraced = dict((await asyncio.wait_for(answers.get(), 20)).user_properties or ())
        await until(lambda: bool(service.lines("request")))
        openmetrics = await service.client.get("/metrics", headers={"accept": "application/openmetrics-text"})
    match = re.fullmatch(rf"00-{TRACE}-([0-9a-f]{{16}})-01", traced["traceparent"])
    assert match is not None
    assert match.group(1) != SPAN
    assert "traceparent" not in untraced
    (line,) = service.lines("request")
    assert (line["trace_id"], line["span_id"], line["parent_id"]) == (TRACE, match.group(1), SPAN)
    assert (line["transport"], line["code"]) == ("mqtt", "ok")
    assert f'trace_id="{TRACE}"' in openmetrics.text
