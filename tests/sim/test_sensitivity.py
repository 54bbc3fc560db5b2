"""Which constants flip which conclusions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.scenario.examples import MINIMAL
from tests.sim.runs import load
from tierwise.sim.sensitivity import flips, numbers_of, scaled

if TYPE_CHECKING:
    from pathlib import Path

RADIO = {
    "links.up.radio": "{tx: 300nJ/bit, source: LEAF}",
    "devices.sensors.board": "{active_power: 600mW, source: sheet}",
}


def test_the_radio_constant_decides_where_to_compute(tmp_path: Path) -> None:
    """A kilobyte costs 2.4 mJ to send; five milliseconds of computing at 600 mW cost 3 mJ."""
    device = load(tmp_path, MINIMAL, RADIO | {"placement": "device", "name": "device"})
    edge = load(tmp_path, MINIMAL, RADIO | {"placement": "edge", "name": "edge"})
    found = {(flip.constant, flip.factor): flip for flip in flips(device, edge) if flip.figure == "energy_j"}
    assert set(found) == {("links.up.radio.tx", 2.0), ("devices.sensors.board.active_power", 0.5)}
    flip = found["links.up.radio.tx", 2.0]
    assert (flip.better, flip.better_then, flip.source) == ("edge", "device", "LEAF")


def test_every_number_with_a_source_is_tried(tmp_path: Path) -> None:
    scenario = load(tmp_path, MINIMAL, RADIO)
    value, source = numbers_of(scenario)["links.up.radio.tx"]
    assert value == pytest.approx(3e-7)
    assert source == "LEAF"
    assert not any(path.endswith("accuracy") for path in numbers_of(scenario))
    doubled = scaled(scenario, ["links", "up", "radio", "tx"], 2.0)
    assert numbers_of(doubled)["links.up.radio.tx"][0] == pytest.approx(6e-7)  # type: ignore[arg-type]  # a scenario
    assert scaled(scenario, ["links", "none", "radio", "tx"], 2.0) is scenario
