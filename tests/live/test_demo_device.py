"""The device of a demonstration: what its rows say, and what happens where it says nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tierwise.core.trace import TraceRow
from tierwise.device.boards import load_board
from tierwise.live import device
from tierwise.live.device import OwnBoard
from tierwise.live.sensor import Pace, Sample, Target
from tierwise.messaging.settings import MqttConnectionSettings
from tierwise.report.summary import end_to_end_us, summarise

if TYPE_CHECKING:
    from tierwise.live.broker import PrivateBroker

BOARD = load_board("nucleo-l4r5zi")
COUNTED = OwnBoard(target=Target("device", "a/topic"), board=BOARD, artifact="m-int8.tflite", is_counted=True)
NOT_COUNTED = OwnBoard(target=Target("device", "a/topic"), board=BOARD, artifact="m-int8.tflite", is_counted=False)
SEEN = TraceRow(
    request_id="1", device_id="d", model="m", tier="device", created_us=1_000, sent_us=1_100, arrived_us=2_000,
    started_us=3_000, finished_us=9_000, answered_us=12_000, bytes_up=700, bytes_down=200, prediction="0.5",
    label="a", truth="a", inference_us=15.365, outcome="answered",
)  # fmt: skip
"""What the sensor saw: with the time that emulator and messages took."""


def test_nothing_of_the_emulators_time_is_left() -> None:
    row = COUNTED.row(SEEN)
    assert (row.created_us, row.sent_us, row.arrived_us, row.started_us) == (1_000, None, 1_000, 1_000)
    assert (row.finished_us, row.answered_us, row.bytes_up, row.bytes_down) == (1_016, 1_016, 0, 0)
    assert (row.label, row.prediction, row.outcome) == ("a", "0.5", "answered")
    assert end_to_end_us(row) == row.inference_us == 15.365


def test_energy_is_what_the_device_told_or_where_mqtt_cannot_carry_it_the_boards() -> None:
    assert COUNTED.row(msgspec.structs.replace(SEEN, energy_device_j=0.25)).energy_device_j == 0.25
    assert COUNTED.row(SEEN).energy_device_j == pytest.approx(15.365e-6 * 41.6e-3)


@given(st.integers(1, 10**8))
def test_instructions_come_back_exactly_from_the_modelled_time(instructions: int) -> None:
    # The bridge models whole nanoseconds.
    inference_us = round(BOARD.latency_ms(instructions) * 1e6) / 1e3
    row = COUNTED.row(msgspec.structs.replace(SEEN, inference_us=inference_us))
    facts = COUNTED.facts([row])
    assert facts.instructions == instructions
    tier = summarise([row], facts={"device": facts}).tiers["device"]
    assert tier.breakdown_ms is not None
    assert (tier.breakdown_ms.queue, tier.breakdown_ms.network, tier.network_share) == (0, 0, 0)


def test_without_counted_instructions_no_time_is_told() -> None:
    row = NOT_COUNTED.row(SEEN)
    assert row.inference_us is row.answered_us is row.finished_us is row.energy_device_j is None
    assert (row.outcome, row.label) == ("answered", "a")
    assert NOT_COUNTED.facts([row]).instructions is None
    assert NOT_COUNTED.facts([row]).runtime == "host build"


async def test_a_device_that_is_gone_is_given_up_after_a_few_samples(
    broker: PrivateBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device, "_PACE", Pace(rate_hz=100_000, window=16, deadline_s=0.2))
    connection = MqttConnectionSettings(host=broker.host, port=broker.port)
    samples = [Sample(str(number), np.zeros(2, np.float32)) for number in range(100)]
    heard: list[TraceRow] = []
    rows = await COUNTED.ask(samples, connection, device_id="d", model="m", on_row=heard.append)
    assert [row.outcome for row in rows] == ["timeout"] * 16
    assert heard == rows
    assert {row.answered_us for row in rows} == {None}
