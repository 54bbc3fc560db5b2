"""What a service measures of itself, for Prometheus.

A request costs two appends here. They are counted many at a time, when someone looks or a thousand have gathered;
observing six prometheus_client histograms a request took as long as the model itself.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import Counter
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar

from tierwise import __version__
from tierwise.serving.cpu import CpuFrequency
from tierwise.serving.histogram import Histogram
from tierwise.serving.memory import MemoryLimit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray
    from prometheus_client.metrics_core import Metric

TEXT_CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS_CONTENT_TYPE = "application/openmetrics-text; version=1.0.0; charset=utf-8"
OK = "ok"
LABELS = ("model", "version", "tier", "transport")

_GATHERED = 1024
"""Observations that wait to be counted, at most."""

_SECONDS = (50e-6, 100e-6, 250e-6, 500e-6, 1e-3, 2.5e-3, 5e-3, 10e-3, 25e-3, 50e-3, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_BYTES = (64.0, 256.0, 1024.0, 4096.0, 16384.0, 65536.0, 262144.0, 1048576.0)


class Distribution(NamedTuple):
    """One histogram: its name without prefix, what it tells, its buckets, and its unit in the unit observed."""

    name: str
    help: str
    bounds: tuple[float, ...]
    scale: float


EXECUTION = (
    Distribution("queue_duration_seconds", "From a request's arrival to the start of the model.", _SECONDS, 1e-9),
    Distribution("inference_duration_seconds", "The model's execution alone.", (5e-6, 10e-6, 25e-6, *_SECONDS), 1e-9),
    Distribution(
        "batch_size",
        "Samples in one execution of the model.",
        (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0),
        1.0,
    ),
)
REQUEST_DURATION = Distribution(
    "request_duration_seconds", "From a request's arrival to its encoded answer.", _SECONDS, 1e-9
)
REQUEST = (
    REQUEST_DURATION,
    Distribution("request_size_bytes", "Payload of a request.", _BYTES, 1.0),
    Distribution("response_size_bytes", "Payload of an answer or error.", _BYTES, 1.0),
)


class Watched(NamedTuple):
    """A figure that is read when someone looks."""

    name: str
    help: str
    kind: Literal["gauge", "counter"] = "gauge"

    def family(self, value: float) -> Metric:
        """The figure as a metric."""
        kind = GaugeMetricFamily if self.kind == "gauge" else CounterMetricFamily
        return kind(self.name, self.help, value=value)


IN_PROGRESS_HELP = (
    "Requests under way. 0 for a model that runs on the event loop (--inline-below-ms): what waits for it shows in "
    "tierwise_queue_duration_seconds."
)
QUEUE_LIMIT = Watched("tierwise_queue_limit", "Requests that may be under way; one more is refused.")
HTTP_CONNECTIONS = Watched("tierwise_http_connections", "Open HTTP connections. Left out without HTTP.")
MQTT_CONNECTED = Watched("tierwise_mqtt_connected", "1 while the broker is reached, else 0. Left out without MQTT.")
INFLUX_WRITTEN = Watched("tierwise_influx_points_written", "Points that InfluxDB has taken.", "counter")
INFLUX_DROPPED = Watched(
    "tierwise_influx_points_dropped", "Points lost: refused by InfluxDB, or oldest in a full buffer.", "counter"
)
INFLUX_FAILURES = Watched("tierwise_influx_write_failures", "Writes to InfluxDB that failed.", "counter")
INFLUX_BUFFERED = Watched("tierwise_influx_points_buffered", "Points that wait for InfluxDB.")
INFLUX = (INFLUX_WRITTEN, INFLUX_DROPPED, INFLUX_FAILURES, INFLUX_BUFFERED)


class Figures(NamedTuple):
    """What one meter has counted since the last look.

    ``requests`` is float64[n, 3] with the columns of ``REQUEST``, ``executions`` float64[m, 3] with those of
    ``EXECUTION``; durations are nanoseconds.
    """

    labels: tuple[str, ...]
    codes: Counter[str]
    requests: NDArray[np.float64]
    executions: NDArray[np.float64]

    @property
    def request_ns(self) -> NDArray[np.float64]:
        """Durations of the requests, float64[n]."""
        return self.requests[:, 0]

    @property
    def queue_ns(self) -> NDArray[np.float64]:
        """From arrival to the start of the model, float64[m]."""
        return self.executions[:, 0]

    @property
    def inference_ns(self) -> NDArray[np.float64]:
        """Durations of the executions, float64[m]."""
        return self.executions[:, 1]


class Meter:
    """The metrics of one model, version, tier and transport. Used on the event loop only."""

    def __init__(self, labels: tuple[str, ...], on_figures: Callable[[Figures], None]) -> None:
        self.labels = labels
        self.named_labels = dict(zip(LABELS, labels, strict=True))
        self.in_progress = 0
        self.codes: Counter[str] = Counter()
        self.histograms = {distribution.name: Histogram(distribution.bounds) for distribution in (*EXECUTION, *REQUEST)}
        self.exemplars: dict[int, Exemplar] = {}
        """The latest traced request by bucket of ``request_duration_seconds``."""
        self._on_figures = on_figures
        self._executions: list[tuple[int, int, int]] = []
        self._requests: list[tuple[int, int, int]] = []
        self._new_codes: list[str] = []

    def executed(self, queue_ns: int, inference_ns: int, batch_size: int) -> None:
        """Notes one execution of the model."""
        self._executions.append((queue_ns, inference_ns, batch_size))

    def finished(self, code: str, duration_ns: int, request_bytes: int, response_bytes: int) -> None:
        """Notes one request as the transport saw it; ``code`` is ``OK`` or the error's."""
        self._new_codes.append(code)
        self._requests.append((duration_ns, request_bytes, response_bytes))
        if len(self._requests) >= _GATHERED:
            self.count()

    def refused(self, code: str) -> None:
        """Notes a request that was not read to its end: there is nothing to measure of it."""
        self._new_codes.append(code)
        if len(self._new_codes) >= _GATHERED:
            self.count()

    def traced(self, trace_id: str, span_id: str, duration_ns: int) -> None:
        """Notes that this trace is an example of a request that took so long. Costs nothing for others."""
        seconds = duration_ns * 1e-9
        labels = {"trace_id": trace_id, "span_id": span_id}
        self.exemplars[bisect_left(_SECONDS, seconds)] = Exemplar(labels, seconds, round(time.time(), 3))

    def count(self) -> None:
        """Counts what has gathered."""
        if not self._new_codes and not self._executions:
            return
        codes = Counter(self._new_codes)
        requests = np.array(self._requests, np.float64).reshape(-1, len(REQUEST))
        executions = np.array(self._executions, np.float64).reshape(-1, len(EXECUTION))
        self._new_codes.clear()
        self._requests.clear()
        self._executions.clear()
        self.codes += codes
        for distributions, rows in ((REQUEST, requests), (EXECUTION, executions)):
            for column, distribution in enumerate(distributions):
                self.histograms[distribution.name].extend(rows[:, column] * distribution.scale)
        self._on_figures(Figures(self.labels, codes, requests, executions))


class ServiceMetrics(Collector):
    """All metrics of one service, in a registry of their own. Each of ``on_figures`` hears of all that is counted."""

    def __init__(self, tier: str, *on_figures: Callable[[Figures], None]) -> None:
        self.tier = tier
        self.registry = CollectorRegistry()
        self._listeners = list(on_figures)
        self._watched: list[tuple[Watched, Callable[[], float]]] = []
        self._meters: dict[tuple[str, ...], Meter] = {}
        self.registry.register(self)
        self.registry.register(CpuFrequency())
        self.registry.register(MemoryLimit())
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)

    def meter(self, model: str, version: str, transport: str) -> Meter:
        """The meter for these labels; made at its first use."""
        labels = (model, version, self.tier, transport)
        if labels not in self._meters:
            self._meters[labels] = Meter(labels, self._tell)
        return self._meters[labels]

    def watch(self, watched: Watched, read: Callable[[], float]) -> None:
        """Adds a figure that ``read`` gives; it may be called in another thread."""
        self._watched.append((watched, read))

    def listen(self, on_figures: Callable[[Figures], None]) -> None:
        """From now on ``on_figures`` hears of all that is counted, too."""
        self._listeners.append(on_figures)

    def _tell(self, figures: Figures) -> None:
        for on_figures in self._listeners:
            on_figures(figures)

    def count(self) -> None:
        """Counts what all meters have gathered. Call it on the event loop, before ``text`` or ``json``."""
        for meter in self._meters.values():
            meter.count()

    def collect(self) -> Iterator[Metric]:
        """For the registry: one family each."""
        meters = list(self._meters.values())
        requests = CounterMetricFamily(
            "tierwise_requests", "Requests by outcome: ok, or the code of the error.", labels=(*LABELS, "code")
        )
        in_progress = GaugeMetricFamily("tierwise_requests_in_progress", IN_PROGRESS_HELP, labels=LABELS)
        for meter in meters:
            in_progress.add_metric(meter.labels, meter.in_progress)
            for code, count in sorted(meter.codes.items()):
                requests.add_metric((*meter.labels, code), count)
        yield requests
        yield in_progress
        for distribution in (*REQUEST, *EXECUTION):
            family = HistogramMetricFamily(f"tierwise_{distribution.name}", distribution.help, labels=LABELS)
            for meter in meters:
                histogram = meter.histograms[distribution.name]
                buckets: list[Any] = list(histogram.buckets())
                if distribution is REQUEST_DURATION:
                    for bucket, exemplar in list(meter.exemplars.items()):
                        buckets[bucket] = (*buckets[bucket], exemplar)
                family.add_metric(meter.labels, buckets=buckets, sum_value=histogram.sum)
            yield family
        for watched, read in self._watched:
            yield watched.family(read())
        build_info = GaugeMetricFamily(
            "tierwise_build_info", "Always 1; the labels tell version and tier.", labels=("version", "tier")
        )
        build_info.add_metric((__version__, self.tier), 1)
        yield build_info

    def text(self) -> bytes:
        """The registry in Prometheus' text form 0.0.4."""
        return generate_latest(self.registry)

    def openmetrics(self) -> bytes:
        """The registry as OpenMetrics 1.0, which alone can carry exemplars."""
        text: bytes = openmetrics.generate_latest(self.registry)  # type: ignore[no-untyped-call]  # the library has none
        return text

    def json(self) -> dict[str, Any]:
        """The registry as ``{name: {"type", "help", "samples": [{"name", "labels", "value"}]}}``."""
        return {
            family.name: {
                "type": family.type,
                "help": family.documentation,
                "samples": [{"name": s.name, "labels": s.labels, "value": s.value} for s in family.samples],
            }
            for family in self.registry.collect()
        }
