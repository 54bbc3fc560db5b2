"""How the latencies of a run are distributed, by tier."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import numpy as np

from tierwise.sim.kernel.tables import ANSWERED, R_ANSWERED, R_CREATED, R_OUTCOME, R_TIER, TIERS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tierwise.sim.plan import Plan
    from tierwise.sim.rows import Rows

BINS_A_DECADE = 48
_FIRST_DECADE, _DECADES = 3, 9  # from a microsecond to a quarter of an hour


class Cumulative(msgspec.Struct, frozen=True):
    """``percent`` of a tier's answers took no longer than ``ms``; from the shortest answer's bin to the longest's."""

    answered: int
    ms: list[float]
    percent: list[float]


class Histogram:
    """A sink that counts answers by tier and latency, in logarithmic bins. Several runs may add to one."""

    def __init__(self) -> None:
        self.counts = np.zeros((len(TIERS), BINS_A_DECADE * _DECADES), np.int64)
        self._warm_up = 0

    def of(self, plan: Plan) -> Histogram:
        """Itself, for the rows of a further run: those of its warm-up are left out."""
        self._warm_up = plan.scenario.run.warm_up
        return self

    def take(self, rows: Rows) -> None:
        """See ``Sink``."""
        counted = (rows[R_OUTCOME] == ANSWERED) & (rows[R_CREATED] >= self._warm_up)
        tier, latency = rows[R_TIER][counted], (rows[R_ANSWERED] - rows[R_CREATED])[counted]
        bins = (np.log10(np.maximum(latency, 1)) - _FIRST_DECADE) * BINS_A_DECADE
        bins = np.clip(bins.astype(np.int64), 0, self.counts.shape[1] - 1)
        for code in range(len(TIERS)):
            self.counts[code] += np.bincount(bins[tier == code], minlength=self.counts.shape[1])

    def bins_ms(self) -> NDArray[np.float64]:
        """Lower edges of the bins."""
        return np.asarray(10.0 ** (np.arange(self.counts.shape[1]) / BINS_A_DECADE + _FIRST_DECADE - 6))

    def cumulative(self) -> dict[str, Cumulative]:
        """By tier, for those that answered anything. A bin's answers are counted at its upper edge."""
        result = {}
        for tier, own in zip(TIERS, self.counts, strict=True):
            used = np.flatnonzero(own)
            if not len(used):
                continue
            kept = own[used[0] : used[-1] + 1]
            edges = self.bins_ms()[0] * 10.0 ** (np.arange(used[0], used[-1] + 2) / BINS_A_DECADE)
            percent = 100 * np.cumsum(kept) / kept.sum()
            result[tier] = Cumulative(
                int(kept.sum()),
                [float(f"{edge:.6g}") for edge in edges.tolist()],
                [0.0, *(float(f"{share:.6g}") for share in percent.tolist())],
            )
        return result
