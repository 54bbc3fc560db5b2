"""The device tier as a demo or a comparison uses it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.components import need
from tests.sensor_client import device_on
from tierwise.core.errors import DependencyError
from tierwise.device import toolchain
from tierwise.device.tier import device_tier
from tierwise.messaging.settings import MqttConnectionSettings

need(package="ai_edge_litert")
need(program="arm-none-eabi-gcc")
need(program="qemu-system-arm")

from tests.device.reference_models import MODELS  # noqa: E402 - after the check that its package is installed

if TYPE_CHECKING:
    from pathlib import Path

    from tierwise.live.broker import PrivateBroker


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "wake-word.tflite"
    path.write_bytes(MODELS["wake-word"]())
    return path


async def test_tier_answers_on_its_topic(model: Path, tmp_path: Path, broker: PrivateBroker) -> None:
    connection = MqttConnectionSettings(host=broker.host, port=broker.port)
    request = {"device_id": "s1", "timestamp_us": 5, "features": [0.5] * 1200, "request_id": "r1"}
    async with (
        device_on(broker) as client,
        device_tier(
            model, tmp_path / "out", connection, device_id="mcu1", name="words", label_of=lambda _: "yes"
        ) as tier,
    ):
        assert tier.is_counted
        client.send(request, topic=tier.topic)
        (answer,) = await client.receive(1)
    assert answer["tier"] == "device"
    assert answer["model"] == "words"
    assert answer["label"] == "yes"
    assert answer["inference_time_ms"] == pytest.approx(tier.board.latency_ms(860_000), rel=0.1)


async def test_tier_names_what_is_missing(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toolchain, "have_arm", lambda: False)
    monkeypatch.setattr(toolchain, "host_compiler", lambda: None)
    with pytest.raises(DependencyError, match="gcc-arm-none-eabi"):
        async with device_tier(model, tmp_path / "out", MqttConnectionSettings(), device_id="mcu1"):
            pytest.fail("it was not missing")
