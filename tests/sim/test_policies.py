"""Placement policies in Python, by entry point."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.scenario.examples import MINIMAL
from tests.sim.runs import load, trace_of
from tierwise import policy
from tierwise.core.errors import ConfigurationError
from tierwise.sim import simulate
from tierwise.sim.kernel.tables import R_OUTCOME, R_TIER

if TYPE_CHECKING:
    from tierwise.policy import Decide, Situation

BAD_DAY = {
    "run.duration": "60s",
    "links.up.loss": "10%",
    "links.wan.loss": "20%",
    "links.wan.latency": "{exponential: 40ms}",
    "nodes.gateway.service": "{exponential: 40ms}",
    "nodes.gateway.queue": "3",
    "faults": "[{fault: node_down, node: cloud, at: 10s, lasts: 5s}, {fault: link_down, link: up, at: 30s, lasts: 5s}]",
}
SEEN: list[Situation] = []


def twice(first: str = "device", second: str = "cloud", threshold: float = 0.5) -> Decide:
    """A policy that asks a second tier where the first is unsure."""

    def decide(situation: Situation) -> str | None:
        SEEN.append(situation)
        if not situation.asked:
            return first
        return second if len(situation.asked) == 1 and situation.confidence < threshold else None

    return decide


def ours(rule: str, tiers: str, threshold: float = 0.5) -> Decide:
    """The package's own rules as a policy: what they are asked and what they say is noted."""
    names = tiers.split()
    own = {
        "fixed": lambda: policy.fixed(names[0]),
        "cascade": lambda: policy.cascade(names, threshold),
        "fallback": lambda: policy.fallback(names),
    }[rule]()

    def decide(situation: Situation) -> str | None:
        SEEN.append(situation)
        return own(situation)

    return decide


def broken(*, when: str) -> Decide:
    """A policy with a mistake, in its factory or later."""
    if when == "made":
        raise LookupError("no such table")
    return lambda situation: {"a": "edge"}[situation.group]


@pytest.fixture(autouse=True)
def _offered(monkeypatch: pytest.MonkeyPatch) -> None:
    SEEN.clear()
    entries = [
        importlib.metadata.EntryPoint(name, f"{__name__}:{name}", "tierwise.policies")
        for name in ("twice", "ours", "broken")
    ]
    monkeypatch.setattr(
        "tierwise.sim.decide.entry_points", lambda group: entries if group == "tierwise.policies" else []
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
    with pytest.raises(
        ConfigurationError, match=r"no package offers the policy 'thrice' \(known: broken, ours, twice\)"
    ):
        simulate(load(tmp_path, MINIMAL, {"placement": "{policy: thrice}"}))


def test_an_expression_moves_load_away_from_a_long_queue(tmp_path: Path) -> None:
    busy = {"nodes.gateway.service": "300ms", "placement": "cloud if queue_edge > 2 else edge"}
    summary = simulate(load(tmp_path, MINIMAL, busy))
    assert summary.nodes["gateway"].longest_queue <= 4
    assert summary.by_tier["cloud"].answered > 10


@pytest.mark.parametrize(
    ("built_in", "options", "timeout"),
    [
        ("edge", "{rule: fixed, tiers: edge}", None),
        ("{cascade: [edge, cloud], threshold: 0.6}", "{rule: cascade, tiers: edge cloud, threshold: 0.6}", None),
        ("{cascade: [device, cloud], threshold: 0.6}", "{rule: cascade, tiers: device cloud, threshold: 0.6}", "90ms"),
        ("{cascade: [device, edge, cloud], threshold: 0.6}",
         "{rule: cascade, tiers: device edge cloud, threshold: 0.6}", "90ms"),
        ("{fallback: [cloud, device]}", "{rule: fallback, tiers: cloud device}", "90ms"),
        ("{fallback: [edge, device]}", "{rule: fallback, tiers: edge device}", "40ms"),
        ("{fallback: [edge, cloud, device]}", "{rule: fallback, tiers: edge cloud device}", "60ms"),
    ],
)  # fmt: skip
def test_the_simulators_steps_are_the_policies(
    tmp_path: Path, built_in: str, options: str, timeout: str | None
) -> None:
    """The same requests meet the same luck, whether a rule is laid out in steps or asked in each situation."""
    late = "" if timeout is None else f", timeout: {timeout}"
    steps, _ = trace_of(load(tmp_path, MINIMAL, BAD_DAY | {"placement": built_in.replace("}", late + "}")}), "event")
    asked = BAD_DAY | {"placement": f"{{policy: ours, options: {options}{late}}}"}
    replayed, _ = trace_of(load(tmp_path, MINIMAL, asked), "event")
    assert (steps == replayed).all()
    assert len(set(steps[:, R_OUTCOME].tolist())) > (1 if "device" in options else 2)
    assert any(situation.failed for situation in SEEN) == (timeout is not None)


def test_it_is_asked_after_a_failure_that_it_learns_of(tmp_path: Path) -> None:
    down = {"faults": "[{fault: node_down, node: gateway, at: 0, lasts: 20s}]"}
    placement = {"placement": "{policy: ours, options: {rule: fallback, tiers: edge cloud}, timeout: 80ms}"}
    summary = simulate(load(tmp_path, MINIMAL, down | placement))
    # Nobody is left to ask after the cloud has answered.
    assert {(situation.asked, situation.failed) for situation in SEEN} == {((), False), (("edge",), True)}
    assert summary.by_tier["cloud"].answered == summary.answered == summary.requests - summary.in_flight
    assert summary.end_to_end_ms is not None
    assert summary.end_to_end_ms.p50 > 80


def test_a_policy_that_gives_up_loses_the_request(tmp_path: Path) -> None:
    down = {"faults": "[{fault: node_down, node: gateway, at: 0, lasts: 5s}]"}
    placement = {"placement": "{policy: ours, options: {rule: fixed, tiers: edge}, timeout: 50ms}"}
    summary = simulate(load(tmp_path, MINIMAL, down | placement))
    assert summary.dropped == {"timeout": 50}
    assert summary.answered == 50


@pytest.mark.parametrize(
    ("when", "error"),
    [
        ("made", r"the policy 'broken' cannot be made: LookupError: no such table"),
        ("asked", r"the policy of 'sensors' failed at 0\.\d+ s: KeyError: 'sensors'"),
    ],
)
def test_whatever_a_policy_raises_is_told(tmp_path: Path, when: str, error: str) -> None:
    with pytest.raises(ConfigurationError, match=error):
        simulate(load(tmp_path, MINIMAL, {"placement": f"{{policy: broken, options: {{when: {when}}}}}"}))


def test_a_rule_that_divides_by_zero_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"the policy of 'sensors' failed at .*: rule 'edge if 1 / queue_edge"):
        simulate(load(tmp_path, MINIMAL, {"placement": "edge if 1 / queue_edge < 1 else cloud"}))


INTERPRETED = """
import importlib.metadata
import sys
from pathlib import Path
from tests.scenario.examples import MINIMAL
from tests.sim.runs import load
from tierwise.sim import decide, simulate

entry = importlib.metadata.EntryPoint("twice", "tests.sim.test_policies:twice", "tierwise.policies")
decide.entry_points = lambda group: [entry]
print(simulate(load(Path(sys.argv[1]), MINIMAL, {"placement": "{policy: twice}"})).trace_sha256)
"""


def test_policies_are_asked_the_same_without_a_compiler(tmp_path: Path) -> None:
    digests = {
        subprocess.run(
            [sys.executable, "-W", "error::RuntimeWarning", "-c", INTERPRETED, tmp_path],
            env=os.environ | {"NUMBA_DISABLE_JIT": disabled, "PYTHONPATH": os.pathsep.join(sys.path)},
            cwd=Path(__file__).parents[2],
            stdout=subprocess.PIPE,
            check=True,
        ).stdout
        for disabled in ("0", "1")
    }
    assert len(digests) == 1
