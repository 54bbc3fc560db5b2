"""A traced request over a real broker: the same trace id in the answer, the log and the exemplar."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tests.integration.servers import tierwise_serve
from tests.sensor_client import device_on
from tests.waiting import until

if TYPE_CHECKING:
    from pathlib import Path

    from tierwise.live.broker import PrivateBroker

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
REQUEST = {"device_id": "sensor1", "timestamp_us": 1, "features": [0.1] * 32}


async def test_one_trace_id_in_answer_log_and_exemplar(anomaly_detector: Path, broker: PrivateBroker) -> None:
    async with (
        tierwise_serve(anomaly_detector, "--mqtt", f"127.0.0.1:{broker.port}") as service,
        device_on(broker, "ml/inference/result/sensor1") as device,
    ):
        await service.child.wait_line("connected to the MQTT broker")
        for header in (f"00-{TRACE}-{SPAN}-01", "not a traceparent"):
            device.send(REQUEST, user_properties=[("traceparent", header)])
        await device.receive(2)
        traced, untraced = (dict(packet.user_properties or ()) for packet in device.received)
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
