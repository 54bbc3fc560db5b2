"""From trace rows to the figures of each tier. Pure: the same rows, in any order, give the same figures.

Percentiles are numpy's ``linear`` method (Hyndman and Fan's type 7): between two samples the value is interpolated.
Latencies are those of answered requests only; requests that were lost or refused are counted, never averaged in.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any, Literal

import msgspec
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from tierwise.core.trace import TraceRow

ANSWERED = "answered"
TIER_ORDER = ("device", "edge", "cloud")
Basis = Literal["measured", "modelled"]


class TierFacts(msgspec.Struct, frozen=True):
    """What is known of a tier and no trace row tells.

    ``basis`` is ``modelled`` where times and energy come from a model of the hardware instead of a clock and a meter.
    """

    runtime: str | None = None
    artifact: str | None = None
    basis: Basis = "measured"
    board: str | None = None
    """Name of the hardware that times and energy are modelled for."""
    instructions: float | None = None
    """Mean instructions of an inference, counted."""


class Percentiles(msgspec.Struct, frozen=True):
    """Milliseconds; ``None`` where nothing was measured."""

    p50: float | None = None
    p95: float | None = None
    p99: float | None = None


class Breakdown(msgspec.Struct, frozen=True):
    """Where the time of a mean answered request went, in milliseconds; the four add up to the mean end-to-end time.

    ``network`` is all that is neither queue nor inference nor configured: sensor, sockets, broker, codec. A tier that
    does not tell when a request arrived leaves its queue in there.
    """

    queue: float
    inference: float
    network: float
    configured: float

    @property
    def total(self) -> float:
        """Mean end-to-end time in milliseconds."""
        return self.queue + self.inference + self.network + self.configured


class TierSummary(msgspec.Struct, frozen=True):
    """The figures of one tier. Shares are 0…1 of the summed end-to-end time of all answered requests."""

    requests: int
    answered: int
    errors: int
    accuracy: float | None
    inference_ms: Percentiles
    end_to_end_ms: Percentiles
    bytes_per_request: float
    network_share: float | None
    network_share_measured: float | None
    network_share_configured: float | None
    configured_delay_ms: float
    """Mean of the delay (both ways) that was configured and not measured."""
    errors_by_outcome: dict[str, int]
    breakdown_ms: Breakdown | None
    queue_measured: bool
    """Whether the tier told when requests arrived; else its queue is counted as network."""
    basis: Basis
    runtime: str | None
    artifact: str | None
    energy_mj: float | None
    """Mean millijoules of an answered request at the device, of the same ``basis`` as the times."""
    instructions: float | None
    """Mean instructions of an inference, counted; ``None`` where nothing counts them."""
    board: str | None
    """What a modelled tier is modelled for."""


class Difference(msgspec.Struct, frozen=True):
    """How far the output values of all tiers lie apart on the same samples, in the model's own unit."""

    mean: float
    largest: float


class Summary(msgspec.Struct, frozen=True):
    """The figures of one model on every tier that it ran on.

    ``agreement`` is the share of samples, answered by every tier, that all tiers gave the same label;
    ``None`` with a single tier or where no sample was labelled everywhere. Where nothing was labelled, ``difference``
    compares the values themselves.
    """

    model: str
    agreement: float | None
    compared: int
    """How many samples ``agreement`` or ``difference`` rests on."""
    tiers: dict[str, TierSummary]
    difference: Difference | None = None
    left_out: dict[str, str] = {}
    """Tier that did not run → why, and what would bring it in."""
    caveat: str | None = None
    """What the samples keep the figures from saying, in a sentence."""


def summarise(rows: Iterable[TraceRow], *, facts: Mapping[str, TierFacts] | None = None) -> Summary:
    """The figures of a trace. Rows of one sample carry the same ``request_id`` on every tier.

    Raises ``ValueError`` where the trace is empty or mixes models: those are figures of different things.
    """
    by_tier: dict[str, list[TraceRow]] = defaultdict(list)
    models = set()
    for row in rows:
        by_tier[row.tier].append(row)
        models.add(row.model)
    if len(models) != 1:
        raise ValueError(f"a summary needs rows of exactly one model (got {sorted(models) or 'no rows'})")
    tiers = sorted(by_tier, key=tier_rank)
    agreement, compared = _agreement([by_tier[tier] for tier in tiers])
    difference = None
    if agreement is None:
        difference, compared = _difference([by_tier[tier] for tier in tiers])
    known = facts or {}
    return Summary(
        model=models.pop(),
        agreement=agreement,
        compared=compared,
        tiers={tier: _summarise_tier(by_tier[tier], known.get(tier, TierFacts())) for tier in tiers},
        difference=difference,
    )


def tier_rank(tier: str) -> tuple[int, str]:
    """Sort key: from the sensor outwards, unknown tiers last by name."""
    return (TIER_ORDER.index(tier) if tier in TIER_ORDER else len(TIER_ORDER), tier)


def as_json(summary: Summary) -> dict[str, Any]:
    """The summary as plain JSON values: milliseconds to 1 ns, shares to 1e-6, millijoules to 1 pJ."""
    plain: dict[str, Any] = _rounded(msgspec.to_builtins(summary))
    return plain


def end_to_end_us(row: TraceRow) -> float | None:
    """From the sample's creation to the answer at the device; ``None`` where no answer came or no time is known.

    Where nothing comes before the inference and nothing after it, as on the sensor's own board, it is the inference:
    that may be known more finely than in whole microseconds.
    """
    if row.answered_us is None:
        return None
    if row.inference_us is not None and (row.created_us, row.answered_us) == (row.started_us, row.finished_us):
        return row.inference_us
    return row.answered_us - row.created_us


def inference_us(row: TraceRow) -> float | None:
    """The model's execution as the tier measured it, else the difference of its instants."""
    if row.inference_us is not None:
        return row.inference_us
    if row.started_us is None or row.finished_us is None:
        return None
    return row.finished_us - row.started_us


def percentiles_ms(values_us: Sequence[float]) -> Percentiles:
    """p50, p95 and p99 in milliseconds of values in microseconds."""
    if not values_us:
        return Percentiles()
    p50, p95, p99 = np.percentile(np.asarray(values_us, dtype=np.float64), (50, 95, 99), method="linear") / 1000
    return Percentiles(float(p50), float(p95), float(p99))


def _summarise_tier(rows: Sequence[TraceRow], facts: TierFacts) -> TierSummary:
    answered = [row for row in rows if row.outcome == ANSWERED]
    failures = Counter(row.outcome for row in rows if row.outcome != ANSWERED)
    judged = [row for row in answered if row.truth is not None and row.label is not None]
    inference = [time for row in answered if (time := inference_us(row)) is not None]
    end_to_end = [time for row in answered if (time := end_to_end_us(row)) is not None]
    energy = [row.energy_device_j for row in answered if row.energy_device_j is not None]
    breakdown = _breakdown(answered)
    network = configured = None
    if breakdown is not None and breakdown.total > 0:
        network, configured = breakdown.network / breakdown.total, breakdown.configured / breakdown.total
    return TierSummary(
        requests=len(rows),
        answered=len(answered),
        errors=failures.total(),
        accuracy=sum(row.label == row.truth for row in judged) / len(judged) if judged else None,
        inference_ms=percentiles_ms(inference),
        end_to_end_ms=percentiles_ms(end_to_end),
        bytes_per_request=sum(row.bytes_up + row.bytes_down for row in rows) / len(rows),
        network_share=None if network is None or configured is None else network + configured,
        network_share_measured=network,
        network_share_configured=configured,
        configured_delay_ms=breakdown.configured if breakdown else 0.0,
        errors_by_outcome=dict(sorted(failures.items())),
        breakdown_ms=breakdown,
        queue_measured=any(row.arrived_us is not None for row in answered),
        basis=facts.basis,
        runtime=facts.runtime,
        artifact=facts.artifact,
        energy_mj=math.fsum(energy) / len(energy) * 1e3 if energy else None,
        instructions=facts.instructions,
        board=facts.board,
    )


def _breakdown(answered: Sequence[TraceRow]) -> Breakdown | None:
    """Mean parts of the requests whose whole way is known."""
    parts = []
    for row in answered:
        total, inference = end_to_end_us(row), inference_us(row)
        if total is None or inference is None:
            continue
        in_tier: float = inference
        if row.arrived_us is not None and row.finished_us is not None:
            # Instants are whole microseconds: a short execution may seem longer than the stay that contains it.
            in_tier = min(row.finished_us - row.arrived_us, total)
            inference = min(inference, in_tier)
        configured = row.configured_delay_us or 0
        parts.append((in_tier - inference, inference, total - in_tier - configured, configured))
    if not parts:
        return None
    # fsum is exact, so the order of the rows cannot change the last digit.
    return Breakdown(*(math.fsum(part) / len(parts) / 1000 for part in zip(*parts, strict=True)))


def _agreement(tiers: Sequence[Sequence[TraceRow]]) -> tuple[float | None, int]:
    """Share of samples with one label on all tiers, and how many samples could be compared."""
    if len(tiers) < 2:  # noqa: PLR2004 - it takes two to agree
        return None, 0
    labels = [{row.request_id: row.label for row in rows if row.outcome == ANSWERED and row.label} for rows in tiers]
    common = set(labels[0]).intersection(*labels[1:])
    if not common:
        return None, 0
    agreed = sum(len({tier[sample] for tier in labels}) == 1 for sample in common)
    return agreed / len(common), len(common)


def _difference(tiers: Sequence[Sequence[TraceRow]]) -> tuple[Difference | None, int]:
    """How far the values lie apart, and on how many samples; only where every tier gives as many values."""
    values = [{row.request_id: _values(row) for row in rows if row.outcome == ANSWERED} for rows in tiers]
    common = sorted(set(values[0]).intersection(*values[1:]))
    if len(tiers) < 2 or not common:  # noqa: PLR2004 - it takes two to differ
        return None, 0
    by_tier = [[row for sample in common if (row := of_tier[sample]) is not None] for of_tier in values]
    if {len(rows) for rows in by_tier} != {len(common)} or len({row.shape for rows in by_tier for row in rows}) > 1:
        return None, 0
    apart = np.ptp(np.array(by_tier), axis=0)
    return Difference(float(apart.mean()), float(apart.max())), len(common)


def _values(row: TraceRow) -> NDArray[np.float64] | None:
    """The prediction as a flat array; ``None`` where it is no array of numbers."""
    try:
        return np.asarray(msgspec.json.decode(row.prediction or ""), dtype=np.float64).ravel()
    except (msgspec.DecodeError, ValueError, TypeError):
        return None


def _rounded(value: Any, digits: int = 6) -> Any:  # noqa: ANN401 - JSON is any of its types
    if isinstance(value, dict):
        return {
            key: item if key == "difference" else _rounded(item, 9 if key.endswith("_mj") else 6)
            for key, item in value.items()
        }
    if isinstance(value, float):
        return round(value, digits) + 0.0  # + 0.0 makes a negative zero a zero
    return value
