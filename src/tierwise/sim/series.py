"""How a run went over time, and how its latencies are distributed."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING

import numpy as np

from tierwise.sim.kernel.tables import ANSWERED, R_ANSWERED, R_CREATED, R_ENERGY, R_OUTCOME, R_TIER

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from tierwise.sim.plan import Plan
    from tierwise.sim.rows import Rows

BUCKETS = 120
TIERS = ("device", "edge", "cloud")
_BINS_A_DECADE = 20
_FIRST_DECADE, _DECADES = 3, 9  # from a microsecond to a quarter of an hour
COLUMNS = ("start_s", "requests", "answered", *TIERS, "lost", "mean_ms", "max_ms", "energy_device_j")


class Series:
    """A sink that counts by the time at which requests are made."""

    def __init__(self, plan: Plan) -> None:
        duration = plan.scenario.run.duration
        self.bucket_ns = plan.scenario.outputs.bucket or max(1, -(-duration // BUCKETS))
        count = -(-duration // self.bucket_ns)
        self.requests, self.lost, self.energy = (np.zeros(count, np.int64) for _ in range(3))
        self.answered = np.zeros((len(TIERS), count), np.int64)
        self.latency = np.zeros(count, np.float64)
        self.longest = np.zeros(count, np.int64)
        self.histogram = np.zeros((len(TIERS), _BINS_A_DECADE * _DECADES), np.int64)

    def take(self, rows: Rows) -> None:
        """See ``Sink``."""
        count = len(self.requests)
        bucket = rows[R_CREATED] // self.bucket_ns
        outcome, tier = rows[R_OUTCOME], rows[R_TIER]
        self.requests += np.bincount(bucket, minlength=count)
        self.lost += np.bincount(bucket[outcome > ANSWERED], minlength=count)
        np.add.at(self.energy, bucket, rows[R_ENERGY])
        good = outcome == ANSWERED
        latency = (rows[R_ANSWERED] - rows[R_CREATED])[good]
        self.latency += np.bincount(bucket[good], weights=latency, minlength=count)
        np.maximum.at(self.longest, bucket[good], latency)
        bins = (np.log10(np.maximum(latency, 1)) - _FIRST_DECADE) * _BINS_A_DECADE
        bins = np.clip(bins.astype(np.int64), 0, self.histogram.shape[1] - 1)
        for code in range(len(TIERS)):
            own = tier[good] == code
            self.answered[code] += np.bincount(bucket[good][own], minlength=count)
            self.histogram[code] += np.bincount(bins[own], minlength=self.histogram.shape[1])

    def starts_s(self) -> NDArray[np.float64]:
        """When each bucket begins."""
        return np.asarray(np.arange(len(self.requests)) * self.bucket_ns * 1e-9)

    def mean_ms(self) -> NDArray[np.float64]:
        """Mean latency of each bucket; 0 where nothing was answered."""
        return np.asarray(self.latency / np.maximum(1, self.answered.sum(axis=0)) * 1e-6)

    def bins_ms(self) -> NDArray[np.float64]:
        """Lower edges of the histogram's bins."""
        return np.asarray(10.0 ** (np.arange(self.histogram.shape[1]) / _BINS_A_DECADE + _FIRST_DECADE - 6))

    def write_csv(self, path: Path) -> None:
        """One line a bucket."""
        columns = (
            self.starts_s(), self.requests, self.answered.sum(axis=0), *self.answered, self.lost, self.mean_ms(),
            self.longest * 1e-6, self.energy * 1e-9,
        )  # fmt: skip
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(COLUMNS)
            writer.writerows(zip(*(column.tolist() for column in columns), strict=True))
