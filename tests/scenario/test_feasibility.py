"""What could never run is told before it is tried."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.scenario.examples import scenario
from tierwise.scenario import ScenarioError
from tierwise.sim import simulate

if TYPE_CHECKING:
    from pathlib import Path

LOOP = {"devices__sensors__traffic": "{pattern: single_stream}"}
MAY_LOSE = r"devices\.sensors: `single_stream` waits for each answer, and {} may lose it: state the `timeout`"


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"links__up__loss": "1%"}, "links.up"),
        ({"links__up__loss": "{to_bad: 0.1, to_good: 0.1}"}, "links.up"),
        ({"links__up__queue": "3"}, "links.up"),
        ({"nodes__gateway__queue": "3"}, "nodes.gateway"),
        ({"faults": "[{fault: node_down, node: gateway, at: 1s, lasts: 1s}]"}, "faults.0"),
        ({"faults": "[{fault: broker_restart, node: gateway, at: 1s, lasts: 1s}]"}, "faults.0"),
        ({"faults": "[{fault: link_down, link: up, at: 1s, lasts: 1s}]"}, "faults.0"),
        ({"faults": "[{fault: link_degraded, link: up, at: 1s, lasts: 1s, extra_loss: 0.1}]"}, "faults.0"),
        ({"placement": "{cascade: [edge, cloud], threshold: 1}", "links__wan__loss": "1%"}, "links.wan"),
    ],
)
def test_a_closed_loop_that_may_lose_needs_a_timeout(tmp_path: Path, changes: dict[str, str], what: str) -> None:
    with pytest.raises(ScenarioError, match=MAY_LOSE.format(what)):
        scenario(tmp_path, **LOOP, **changes)
    scenario(tmp_path, **LOOP, **changes, devices__sensors__timeout="1s")


def test_what_a_closed_loop_does_not_use_may_lose(tmp_path: Path) -> None:
    degraded = "{fault: link_degraded, link: up, at: 1s, lasts: 1s, extra_latency: 1ms}"
    elsewhere = "{fault: node_down, node: cloud, at: 1s, lasts: 1s}"
    loaded = scenario(tmp_path, **LOOP, links__wan__loss="1%", faults=f"[{degraded}, {elsewhere}]")
    assert loaded.devices["sensors"].timeout is None


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {"links__up__shaper": "{rate: 1kB/s, burst: 100B}"},
            r"links\.up.*: is less than a message of 'sensors' \(1000 B with overhead\)",
        ),
        (
            {"links__up__shaper": "{rate: 1kB/s, burst: 1kB}", "links__up__overhead": "1B"},
            r"is less than a message of 'sensors' \(1001 B with overhead\)",
        ),
        (
            {"faults": "[{fault: battery_out, devices: sensors, at: 1s, share: 1%}]"},
            r"is not even one of 10 devices",
        ),
        ({"links__up__from": "[sensors, sensors]"}, r"links\.up\.from: names a place twice"),
        (
            {"devices__sensors__traffic": "{pattern: offline, samples: 10000000}"},
            r"devices\.sensors\.traffic: 100,000,000 requests at once; the simulator takes 16,777,216",
        ),
        (
            {
                "devices__sensors__traffic": "{pattern: burst, period: 1s, size: 1000000}",
                "devices__sensors__count": "20",
            },
            r"20,000,000 requests at once",
        ),
    ],
)
def test_what_could_never_run_is_told(tmp_path: Path, changes: dict[str, str], expected: str) -> None:
    with pytest.raises(ScenarioError, match=expected):
        scenario(tmp_path, **changes)


def test_a_share_of_the_devices_is_rounded(tmp_path: Path) -> None:
    fault = "[{fault: battery_out, devices: sensors, at: 1s, share: 26%}]"
    assert simulate(scenario(tmp_path, faults=fault)).silent_devices == 3
