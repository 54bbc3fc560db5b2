"""The figures of one interval as points for InfluxDB.

``MEASUREMENTS`` is what is written and what `docs/metrics.md` tells. Every field is a float.
"""

from __future__ import annotations

from collections import Counter, deque
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from tierwise.serving.lineprotocol import Point
from tierwise.serving.memory import resident_bytes
from tierwise.serving.metrics import LABELS, OK

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from tierwise.serving.cpu import CpuFrequency
    from tierwise.serving.metrics import Figures

KEPT_LOOKS = 64
"""Arrays of durations that are kept for the percentiles of one interval: the latest, up to some 65,000 requests."""

_REQUEST_TAGS = ("service_id", *LABELS)
_DURATION_FIELDS = {
    "count": "how many in the interval",
    "mean_seconds": "their mean",
    "p50_seconds": "their median",
    "p95_seconds": "their 95th percentile",
    "p99_seconds": "their 99th percentile",
}


class Measurement(NamedTuple):
    """One measurement: its tags, and its fields with what they tell."""

    name: str
    help: str
    tags: tuple[str, ...]
    fields: dict[str, str]


CPU = Measurement(
    "tierwise_cpu",
    "Clock of each core; left out where the machine does not tell.",
    ("service_id", "tier", "cpu"),
    {"frequency_hertz": "current clock"},
)
MEMORY = Measurement(
    "tierwise_memory",
    "Memory of the service.",
    ("service_id", "tier"),
    {"resident_bytes": "memory in RAM"},
)
BANDWIDTH = Measurement(
    "tierwise_bandwidth",
    "Payload of requests and answers.",
    _REQUEST_TAGS,
    {
        "request_bytes_per_second": "received, mean of the interval",
        "response_bytes_per_second": "sent, mean of the interval",
        "request_bytes_total": "received since the service started",
        "response_bytes_total": "sent since the service started",
    },
)
INFERENCE = Measurement("tierwise_inference", "Executions of the model, alone.", _REQUEST_TAGS, _DURATION_FIELDS)
QUEUE = Measurement("tierwise_queue", "From arrival to the start of the model.", _REQUEST_TAGS, _DURATION_FIELDS)
REQUESTS = Measurement(
    "tierwise_requests",
    "Requests from arrival to encoded answer.",
    _REQUEST_TAGS,
    {
        "requests_per_second": "mean of the interval",
        "errors_per_second": "those that got an error, mean of the interval",
        "requests_total": "since the service started",
        "errors_total": "those that got an error, since the service started",
    }
    | _DURATION_FIELDS,
)
MEASUREMENTS = (CPU, MEMORY, BANDWIDTH, INFERENCE, QUEUE, REQUESTS)


class IntervalPoints:
    """Adds up what the meters count, interval by interval. Used on the event loop."""

    def __init__(self, *, service_id: str) -> None:
        self._service_id = service_id
        self._totals: dict[tuple[str, ...], Counter[str]] = {}
        self._intervals: dict[tuple[str, ...], _Interval] = {}

    def add(self, figures: Figures) -> None:
        """Takes what a meter has counted."""
        if figures.labels not in self._totals:
            self._totals[figures.labels] = Counter()
            self._intervals[figures.labels] = _Interval()
        count = figures.codes.total()
        news = {
            "requests": count,
            "errors": count - figures.codes[OK],
            "request_bytes": int(figures.requests[:, 1].sum()),
            "response_bytes": int(figures.requests[:, 2].sum()),
        }
        self._totals[figures.labels].update(news)
        self._intervals[figures.labels].add(news, figures)

    def end(self, *, interval_s: float, timestamp_ns: int) -> Callable[[], list[Point]]:
        """Ends the interval and begins the next. The meters must have been told to ``count`` before.

        What it returns gives the ended interval's points; after many requests the percentiles take milliseconds, so
        call that in a thread. A model that nobody asked has rates and counts of zero, and no percentiles.
        """
        ended = [(labels, self._totals[labels].copy(), interval) for labels, interval in self._intervals.items()]
        self._intervals = {labels: _Interval() for labels in self._intervals}

        def points() -> list[Point]:
            given: list[Point] = []
            for labels, totals, interval in ended:
                tags = dict(zip(_REQUEST_TAGS, (self._service_id, *labels), strict=True))
                fields = interval.fields(totals, interval_s)
                given += [Point(of.name, tags, values, timestamp_ns) for of, values in fields]
            return given

        return points


class _Durations:
    """Durations of one interval, gathered in nanoseconds and told in seconds."""

    def __init__(self) -> None:
        self._count = 0
        self._sum_ns = 0.0
        self.kept: deque[NDArray[np.float64]] = deque(maxlen=KEPT_LOOKS)

    def add(self, durations_ns: NDArray[np.float64]) -> None:
        self._count += len(durations_ns)
        self._sum_ns += float(durations_ns.sum())
        self.kept.append(durations_ns)

    def fields(self) -> dict[str, float]:
        """The fields of ``_DURATION_FIELDS``; only the count where there was nothing."""
        if not self._count:
            return {"count": 0.0}
        p50, p95, p99 = (np.percentile(np.concatenate(self.kept), (50, 95, 99)) * 1e-9).tolist()
        mean = self._sum_ns / self._count * 1e-9
        return dict(zip(_DURATION_FIELDS, (float(self._count), mean, p50, p95, p99), strict=True))


class _Interval:
    """What one model, version, tier and transport did in one interval."""

    def __init__(self) -> None:
        self._sums: Counter[str] = Counter()
        self.requests, self.queue, self.inference = _Durations(), _Durations(), _Durations()

    def add(self, news: dict[str, int], figures: Figures) -> None:
        self._sums.update(news)
        self.requests.add(figures.request_ns)
        self.queue.add(figures.queue_ns)
        self.inference.add(figures.inference_ns)

    def fields(self, totals: Counter[str], interval_s: float) -> list[tuple[Measurement, dict[str, float]]]:
        def rates_and_totals(*names: str) -> dict[str, float]:
            rates = {f"{name}_per_second": self._sums[name] / interval_s for name in names}
            return rates | {f"{name}_total": float(totals[name]) for name in names}

        return [
            (BANDWIDTH, rates_and_totals("request_bytes", "response_bytes")),
            (INFERENCE, self.inference.fields()),
            (QUEUE, self.queue.fields()),
            (REQUESTS, rates_and_totals("requests", "errors") | self.requests.fields()),
        ]


def machine_points(cpu: CpuFrequency, *, service_id: str, tier: str, timestamp_ns: int) -> list[Point]:
    """Clock and memory. Reading the clock of many cores can take milliseconds: call it in a thread."""
    tags = {"service_id": service_id, "tier": tier}
    points = [
        Point(CPU.name, {**tags, "cpu": core}, {"frequency_hertz": hertz}, timestamp_ns) for core, hertz in cpu.read()
    ]
    memory = resident_bytes()
    if memory is not None:
        points.append(Point(MEMORY.name, tags, {"resident_bytes": memory}, timestamp_ns))
    return points
