"""Placement policies in Python, by entry point."""

from __future__ import annotations

import importlib.metadata
from typing import TYPE_CHECKING

import pytest

from tests.scenario.examples import MINIMAL
from tests.sim.runs import load, trace_of
from tierwise.core.errors import ConfigurationError
from tierwise.sim import simulate
from tierwise.sim.kernel.tables import R_TIER

if TYPE_CHECKING:
    from pathlib import Path

    from tierwise.policy import Decide, Situation

SEEN: list[Situation] = []


def twice(first: str = "device", second: str = "cloud", threshold: float = 0.5) -> Decide:
    """A policy that asks a second tier where the first is unsure."""

    def decide(situation: Situation) -> str | None:
        SEEN.append(situation)
        if not situation.asked:
            return first
        return second if len(situation.asked) == 1 and situation.confidence < threshold else None

    return decide


@pytest.fixture(autouse=True)
def _offered(monkeypatch: pytest.MonkeyPatch) -> None:
    SEEN.clear()
    entry = importlib.metadata.EntryPoint("twice", f"{__name__}:twice", "tierwise.policies")
    monkeypatch.setattr(
        "tierwise.sim.decide.entry_points", lambda group: [entry] if group == "tierwise.policies" else []
    )


def rule(options: str) -> dict[str, str]:
    """A custom placement."""
    return {"placement": f"{{policy: twice, options: {options}}}"}


def test_a_policy_that_is_a_cascade_gives_the_cascades_trace(tmp_path: Path) -> None:
    custom, _ = trace_of(load(tmp_path, MINIMAL, rule("{threshold: 0.3}")), "event")
    cascade = {"placement": "{cascade: [device, cloud], threshold: 0.3}"}
    built_in, _ = trace_of(load(tmp_path, MINIMAL, cascade), "vector")
    assert (custom == built_in).all()
    assert set(custom[:, R_TIER].tolist()) >= {0, 2}


def test_it_sees_the_situation(tmp_path: Path) -> None:
    changes = {
        "devices.sensors.board": "{active_power: 1W, idle_power: 1mW, source: test}",
        "devices.sensors.battery": "{capacity: 1J, source: test}",
        "nodes.gateway.service": "300ms",
    }
    simulate(load(tmp_path, MINIMAL, rule("{first: edge}") | changes))
    assert {situation.group for situation in SEEN} == {"sensors"}
    assert {situation.asked for situation in SEEN} == {(), ("edge",)}  # nobody is left to ask after the cloud
    assert max(situation.queues.get("edge", 0) for situation in SEEN) > 1
    assert all(0 <= situation.confidence <= 1 for situation in SEEN)
    batteries = [situation.battery for situation in SEEN if situation.device == 0]
    assert batteries == sorted(batteries, reverse=True)
    assert 0.9 < batteries[-1] < batteries[0] <= 1


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ("{first: mars}", r"the policy of 'sensors' chose 'mars', which cannot answer here"),
        ("{second: device, threshold: 1}", r"chose 'device', which cannot answer here"),
        ("{third: edge}", r"the policy 'twice' cannot be made: .*unexpected keyword"),
    ],
)
def test_its_mistakes_are_told(tmp_path: Path, options: str, error: str) -> None:
    with pytest.raises(ConfigurationError, match=error):
        simulate(load(tmp_path, MINIMAL, rule(options)))


def test_an_unknown_policy_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"no package offers the policy 'thrice' \(known: twice\)"):
        simulate(load(tmp_path, MINIMAL, {"placement": "{policy: thrice}"}))


def test_an_expression_moves_load_away_from_a_long_queue(tmp_path: Path) -> None:
    busy = {"nodes.gateway.service": "300ms", "placement": "cloud if queue_edge > 2 else edge"}
    summary = simulate(load(tmp_path, MINIMAL, busy))
    assert summary.nodes["gateway"].longest_queue <= 4
    assert summary.by_tier["cloud"].answered > 10
