"""How a run went over time, and how its latencies are distributed."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING

import numpy as np

from tierwise.sim.histogram import Histogram
from tierwise.sim.kernel.tables import ANSWERED, D_DEAD, R_ANSWERED, R_CREATED, R_ENERGY, R_OUTCOME, R_TIER, TIERS
from tierwise.sim.statistics import quantiles

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from tierwise.sim.plan import Plan
    from tierwise.sim.rows import Rows

BUCKETS = 120
COLUMNS = ("start_s", "requests", "answered", *TIERS, "lost", "mean_ms", "p99_ms", "max_ms", "energy_device_j")


class Series:
    """A sink that counts by the time at which requests are made. The histogram leaves out the warm-up."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        duration = plan.scenario.run.duration
        self.bucket_ns = plan.scenario.outputs.bucket or max(1, -(-duration // BUCKETS))
        count = -(-duration // self.bucket_ns)
        self.requests, self.lost, self.energy = (np.zeros(count, np.int64) for _ in range(3))
        self.answered = np.zeros((len(TIERS), count), np.int64)
        self.latency = np.zeros((len(TIERS), count), np.float64)
        """Summed, nanoseconds."""
        self.longest = np.zeros(count, np.int64)
        self.latencies = Histogram().of(plan)
        self._p99 = np.zeros(count, np.int64)
        self._open = -1
        self._latencies: list[NDArray[np.int64]] = []

    def take(self, rows: Rows) -> None:
        """See ``Sink``."""
        count = len(self.requests)
        bucket = rows[R_CREATED] // self.bucket_ns
        outcome = rows[R_OUTCOME]
        self.requests += np.bincount(bucket, minlength=count)
        self.lost += np.bincount(bucket[outcome > ANSWERED], minlength=count)
        np.add.at(self.energy, bucket, rows[R_ENERGY])
        good = outcome == ANSWERED
        created, bucket, tier = rows[R_CREATED][good], bucket[good], rows[R_TIER][good]
        latency = rows[R_ANSWERED][good] - created
        np.maximum.at(self.longest, bucket, latency)
        self._by_bucket(bucket, latency)
        self.latencies.take(rows)
        for code in range(len(TIERS)):
            own = tier == code
            self.answered[code] += np.bincount(bucket[own], minlength=count)
            self.latency[code] += np.bincount(bucket[own], weights=latency[own], minlength=count)

    def starts_s(self) -> NDArray[np.float64]:
        """When each bucket begins."""
        return np.asarray(np.arange(len(self.requests)) * self.bucket_ns * 1e-9)

    def mean_ms(self) -> NDArray[np.float64]:
        """Mean latency of each bucket; 0 where nothing was answered."""
        return np.asarray(self.latency.sum(axis=0) / np.maximum(1, self.answered.sum(axis=0)) * 1e-6)

    def p99_ms(self) -> NDArray[np.float64]:
        """What 99 % of each bucket's answers did not exceed, exactly; 0 where nothing was answered."""
        self._close()
        return np.asarray(self._p99 * 1e-6)

    def silent_at_s(self) -> NDArray[np.float64]:
        """When devices fell silent, in order, as far as they did in the run."""
        dead = self.plan.devices[:, D_DEAD]
        return np.asarray(np.sort(dead[dead < self.plan.scenario.run.duration]) * 1e-9)

    def write_csv(self, path: Path) -> None:
        """One line a bucket."""
        columns = (
            self.starts_s(), self.requests, self.answered.sum(axis=0), *self.answered, self.lost, self.mean_ms(),
            self.p99_ms(), self.longest * 1e-6, self.energy * 1e-9,
        )  # fmt: skip
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(COLUMNS)
            writer.writerows(zip(*(column.tolist() for column in columns), strict=True))

    def _by_bucket(self, bucket: NDArray[np.int64], latency: NDArray[np.int64]) -> None:
        """Requests come in the order of their making: a bucket is complete when a later one begins."""
        if not len(bucket):
            return
        cuts = np.flatnonzero(np.diff(bucket)) + 1
        for own, part in zip(bucket[np.concatenate([[0], cuts])].tolist(), np.split(latency, cuts), strict=True):
            if own != self._open:
                self._close()
                self._open = own
            self._latencies.append(part)

    def _close(self) -> None:
        if self._latencies:
            (self._p99[self._open],) = quantiles(np.concatenate(self._latencies), (0.99,))
            self._latencies = []
