"""How much work a simulation is, before it is done."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tierwise.scenario.schema import Burst, MultiStream, Offline, Periodic, Poisson, Server
from tierwise.sim.compiled import INSTALLED

if TYPE_CHECKING:
    from tierwise.scenario.schema import Scenario, Traffic

LARGE = 200_000
"""Requests that take half a minute or more where nothing is compiled."""


def expected_requests(scenario: Scenario) -> int:
    """About how many requests one run makes. Those that wait for one another or come from elsewhere are not counted."""
    groups = ((scenario.traffic_of(name), group.count) for name, group in scenario.devices.items())
    return round(sum(count * _of_one(traffic, scenario.run.duration) for traffic, count in groups))


def hint(requests: int) -> str:
    """What would make this many requests faster; nothing where they are few or numba is there."""
    if INSTALLED or requests < LARGE:
        return ""
    return f"numba is not installed, and {requests:,} requests take long without it: pip install 'tierwise[sim]'"


def _of_one(traffic: Traffic, duration: int) -> float:
    start = getattr(traffic, "start", 0)
    stop = getattr(traffic, "stop", None)
    lasts = max(0, min(duration, duration if stop is None else stop) - start)
    match traffic:
        case Periodic(period=period):
            return lasts / period
        case Burst(period=period, size=size):
            return lasts / period * size
        case Poisson(rate=rate) | Server(rate=rate):
            return lasts * 1e-9 * rate
        case Offline(samples=samples):
            return samples
        case MultiStream(samples=samples, queries=queries):
            return samples * (queries or 0)
    return 0.0
