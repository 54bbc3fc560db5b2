"""Who makes a request when: arrivals in order of (time, device, number), window by window.

A request's time depends on its device and number alone, so windows of any length give the same arrivals.
"""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING, Protocol

import numpy as np

from tierwise.core.errors import ConfigurationError
from tierwise.scenario.distributions import Distribution
from tierwise.scenario.schema import (
    Burst,
    ClockDrift,
    External,
    MultiStream,
    Offline,
    Periodic,
    Poisson,
    Replay,
    Server,
    SingleStream,
    Traffic,
)
from tierwise.sim.numerics import draw_array, uniform_array
from tierwise.sim.rows import order_of
from tierwise.sim.streams import stream_keys
from tierwise.sim.tables import Tables

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from tierwise.sim.plan import Plan

    Times = NDArray[np.int64]

_BLOCK = 1 << 20
_MILLION = 1e6


class Source(Protocol):
    """Arrivals of one group."""

    def before(self, end: int) -> Times:
        """Those before ``end`` ns that were not given yet: rows (created ns, device, k), in any order."""


class Regular:
    """Periodic and burst patterns: request k at its regular time, plus a jitter."""

    def __init__(self, traffic: Periodic | Burst, devices: Times, names: list[str], seed: int, slow: float) -> None:
        self.devices = devices
        self.start, self.stop = traffic.start, traffic.stop
        self.period = max(1, round(traffic.period * slow))
        self.size, self.spacing = (traffic.size, traffic.spacing) if isinstance(traffic, Burst) else (1, 0)
        self.phase = np.zeros(len(devices), np.int64)
        if traffic.phase == "random":
            keys = stream_keys(seed, "phase", names)
            self.phase = (uniform_array(keys, np.zeros(len(devices), np.int64)) * self.period).astype(np.int64)
        order = np.lexsort((devices, self.phase))
        self.devices, self.phase = devices[order], self.phase[order]
        self.jitter = traffic.jitter
        self.in_order = self.size == 1 and self.jitter is None  # phases are, and rounds follow one another
        if self.jitter is not None:
            self.keys = stream_keys(seed, "traffic", names)[order]
            self.row, self.values = _distribution(self.jitter)
        self.round = 0
        self.kept = np.empty((0, 3), np.int64)

    def before(self, end: int) -> Times:
        """See ``Source``."""
        parts = [self.kept]
        last = -(-(end - self.start) // self.period)
        if last > self.round:
            parts.append(self._rounds(self.round, last))
            self.round = last
        rows = np.concatenate(parts) if len(parts[0]) else parts[-1]
        if self.in_order:
            first = int(np.searchsorted(rows[:, 0], end))
            self.kept = rows[first:]
            return rows[:first]
        ready = rows[:, 0] < end
        if ready.all():
            self.kept = rows[:0]
            return rows
        self.kept = rows[~ready]
        return rows[ready]

    def _rounds(self, first: int, last: int) -> Times:
        devices = len(self.devices)
        rounds = np.arange(first, last, dtype=np.int64)
        within = np.arange(self.size, dtype=np.int64)
        shape = (len(rounds), devices, self.size)
        rows = np.empty((*shape, 3), np.int64)
        base = (self.start + rounds * self.period)[:, None, None] + (within * self.spacing)[None, None, :]
        rows[..., 0] = base + self.phase[None, :, None]
        rows[..., 1] = self.devices[None, :, None]
        rows[..., 2] = (rounds * self.size)[:, None, None] + within[None, None, :]
        flat = rows.reshape(-1, 3)
        if self.stop is not None:
            keep = flat[:, 0] < self.stop
            flat = flat[keep]
        if self.jitter is not None:
            keys = np.broadcast_to(self.keys[None, :, None], shape).reshape(-1)
            if self.stop is not None:
                keys = keys[keep]
            flat[:, 0] += draw_array(self.row, self.values, np.ascontiguousarray(keys), flat[:, 2].copy())
        return flat


class Random:
    """Independent exponential gaps."""

    def __init__(self, traffic: Poisson | Server, devices: Times, names: list[str], seed: int, slow: float) -> None:
        self.devices, self.stop = devices, traffic.stop
        self.keys = stream_keys(seed, "traffic", names)
        self.mean = 1e9 / traffic.rate * slow
        self.row, self.values = _distribution(Distribution("exponential", (self.mean,)))
        self.last = np.full(len(devices), traffic.start, np.int64)
        self.k = np.zeros(len(devices), np.int64)

    def before(self, end: int) -> Times:
        """See ``Source``."""
        end = end if self.stop is None else min(end, self.stop)
        active = np.flatnonzero(self.last < end)
        parts = []
        while active.size:
            expected = (end - int(self.last[active].min())) / self.mean
            width = max(1, min(int(expected + 4 * expected**0.5) + 2, _BLOCK // active.size + 1))
            k = self.k[active][:, None] + np.arange(width)
            keys = np.repeat(self.keys[active], width)
            gaps = draw_array(self.row, self.values, keys, k.reshape(-1)).reshape(k.shape)
            times = self.last[active][:, None] + np.cumsum(gaps, axis=1)
            early = times < end
            count = early.sum(axis=1)
            who = np.repeat(self.devices[active], count)
            parts.append(np.stack([times[early], who, k[early]], axis=1))
            some = count > 0
            self.last[active[some]] = times[some, count[some] - 1]
            self.k[active] += count
            active = active[count == width]
        return np.concatenate(parts) if parts else np.empty((0, 3), np.int64)


class Listed:
    """Times known beforehand."""

    def __init__(self, rows: Times) -> None:
        self.rows = rows[np.lexsort((rows[:, 2], rows[:, 1], rows[:, 0]))]
        self.position = 0

    def before(self, end: int) -> Times:
        """See ``Source``."""
        first = self.position
        self.position = int(np.searchsorted(self.rows[:, 0], end))
        return self.rows[first : self.position]


def _checked(device: int, at: int, count: int) -> int:
    if not 0 <= device < count or at < 0:
        raise ValueError(f"device {device} at {at} ns")
    return device


def read_times(path: Path, count: int) -> list[list[int]]:
    """Times (ns) of each of ``count`` devices from a CSV file. Raises ``ConfigurationError``."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            if "time_s" not in (reader.fieldnames or ()):
                raise ConfigurationError(f"{path}: a traffic trace needs a column time_s")
            times: list[list[int]] = [[] for _ in range(count)]
            for record in reader:
                at = round(float(record["time_s"]) * 1e9)
                device = record.get("device") or None
                for index in range(count) if device is None else [int(device)]:
                    times[_checked(index, at, count)].append(at)
    except OSError as error:
        raise ConfigurationError(f"cannot read the traffic trace {path}: {error.strerror}") from error
    except (ValueError, TypeError) as error:
        raise ConfigurationError(f"{path}:{reader.line_num}: not a traffic trace: {error}") from error
    return [sorted(own) for own in times]


def _distribution(distribution: Distribution) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    tables = Tables()
    row = tables.distribution(distribution)
    _, floats, values = tables.arrays()
    return floats[row], values


def _source(traffic: Traffic, devices: Times, names: list[str], seed: int, slow: float) -> Source:
    match traffic:
        case Periodic() | Burst():
            return Regular(traffic, devices, names, seed, slow)
        case Poisson() | Server():
            return Random(traffic, devices, names, seed, slow)
        case Replay():
            listed = read_times(traffic.file, len(devices))
            stop = traffic.stop
            rows = [
                (round(at * slow) + traffic.start, device, k)
                for device, own in zip(devices.tolist(), listed, strict=True)
                for k, at in enumerate(own)
                if stop is None or at + traffic.start < stop
            ]
            return Listed(np.array(rows, np.int64).reshape(-1, 3))
        case Offline():
            k = np.tile(np.arange(traffic.samples), len(devices))
            who = np.repeat(devices, traffic.samples)
            return Listed(np.stack([np.full(k.shape, traffic.start), who, k], axis=1))
        case External():
            return Listed(np.empty((0, 3), np.int64))
        case SingleStream() | MultiStream():
            zero = np.zeros(len(devices), np.int64)
            return Listed(np.stack([zero + traffic.start, devices, zero], axis=1))


def rate_of(plan: Plan) -> float:
    """Requests a second that the fleet makes, roughly."""
    total = 0.0
    for name, group in plan.scenario.devices.items():
        match traffic := plan.scenario.traffic_of(name):
            case Periodic():
                total += group.count * 1e9 / traffic.period
            case Burst():
                total += group.count * traffic.size * 1e9 / traffic.period
            case Poisson() | Server():
                total += group.count * traffic.rate
            case _:
                total += group.count
    return total


def arrivals(plan: Plan, chunk: int) -> Iterator[tuple[int, Times]]:
    """Windows of about ``chunk`` requests: (end ns, rows in order). The last window ends with the run."""
    sources = []
    for name, first in plan.first_device.items():
        count = plan.scenario.devices[name].count
        slow = 1.0
        for fault in plan.scenario.faults:
            if isinstance(fault, ClockDrift) and fault.devices == name:
                slow *= 1 + fault.drift / _MILLION
        devices = np.arange(first, first + count, dtype=np.int64)
        names = plan.names[first : first + count]
        sources.append(_source(plan.scenario.traffic_of(name), devices, names, plan.seed, slow))
    duration = plan.scenario.run.duration
    window = max(1, int(chunk / rate_of(plan) * 1e9))
    end = 0
    while end < duration:
        end = min(duration, end + window)
        parts = [source.before(end) for source in sources]
        rows = parts[0] if len(parts) == 1 else np.concatenate(parts)
        yield end, in_order(rows)


def in_order(rows: Times) -> Times:
    """Rows by (time, device, k)."""
    order = order_of(rows[:, 0], rows[:, 1], rows[:, 2])
    return rows if order is None else rows[order]
