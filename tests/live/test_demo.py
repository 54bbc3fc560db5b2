"""The demo as a function: with the embedded broker, whose MQTT 3.1.1 carries no instants."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import pytest
from tests.components import need

from tierwise.core.errors import ConfigurationError
from tierwise.core.trace import TraceRow, read_trace_csv
from tierwise.device.boards import load_board
from tierwise.live import demo
from tierwise.live.broker import private_broker
from tierwise.live.demo import DemoSettings, Listener, run_demo

if TYPE_CHECKING:
    from pathlib import Path


async def test_the_embedded_broker_does_where_mosquitto_is_missing(
    anomaly_detector: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    need(package="amqtt")
    need(program="arm-none-eabi-gcc")
    need(program="qemu-system-arm")
    monkeypatch.setattr(demo, "private_broker", functools.partial(private_broker, "amqtt"))
    steps: list[str] = []
    rows: list[TraceRow] = []
    settings = DemoSettings(model=str(anomaly_detector), requests=20, latency_ms=5, out=tmp_path / "out")
    result = await run_demo(settings, Listener(on_step=steps.append, on_row=rows.append))

    assert result.problems == ()
    assert result.summary.left_out == {}
    assert result.summary.agreement == 1
    assert [(name, tier.answered, tier.errors) for name, tier in result.summary.tiers.items()] == [
        ("device", 20, 0),
        ("edge", 20, 0),
        ("cloud", 20, 0),
    ]
    assert not any(result.summary.tiers[name].queue_measured for name in ("edge", "cloud"))
    device = result.summary.tiers["device"]
    assert device.energy_mj == pytest.approx(load_board("nucleo-l4r5zi").energy_mj(device.instructions or 0), rel=1e-3)
    assert result.summary.tiers["cloud"].configured_delay_ms == 10
    written = read_trace_csv(result.files.trace)
    assert sorted(rows, key=lambda row: (row.created_us, row.request_id, row.tier)) == written
    assert steps[0] == "starting the broker"
    assert steps[-1] == "stopping the services"


async def test_all_that_is_wrong_is_told_at_once(tmp_path: Path) -> None:
    settings = DemoSettings(requests=0, rate_hz=0, latency_ms=float("nan"), board="toaster", out=tmp_path / "out")
    with pytest.raises(ConfigurationError, match=r"--requests.*--rate.*--latency-ms.*--board: unknown board 'toaster'"):
        await run_demo(settings)
    assert not (tmp_path / "out").exists()


async def test_a_name_that_no_folder_can_have_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigurationError, match="neither one of anomaly-detector, digits nor a model file nor a folder"
    ):
        await run_demo(DemoSettings(model="m" * 300, out=tmp_path / "out"))


def test_the_command_that_does_it_again_is_complete() -> None:
    settings = DemoSettings(model="my models/x", requests=7, edge_runtime="litert", latency_ms=12.5, seed=3)
    assert settings.command() == (
        "tierwise demo --model 'my models/x' --requests 7 --rate 50 --edge-runtime litert --latency-ms 12.5 --seed 3"
    )
    assert (
        DemoSettings().command()
        == "tierwise demo --model anomaly-detector --requests 200 --rate 50 --latency-ms 50 --seed 0"
    )
    assert DemoSettings(device=False).command().endswith(" --seed 0 --no-device")
    assert DemoSettings(board="my board.yaml").command().endswith(" --seed 0 --board 'my board.yaml'")
