"""The reference page of all metrics, made from the code that serves them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from tierwise.core import errors
from tierwise.serving.cpu import frequency_family
from tierwise.serving.influx_points import MEASUREMENTS
from tierwise.serving.memory import limit_family
from tierwise.serving.metrics import (
    EXECUTION,
    HTTP_CONNECTIONS,
    INFLUX,
    MQTT_CONNECTED,
    OK,
    QUEUE_LIMIT,
    REQUEST,
    ServiceMetrics,
)
from tierwise.serving.settings import fields
from tierwise.serving.tracing import LOG_LINES_PER_S

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from prometheus_client.metrics_core import Metric

_PAGE = """\
# Metrics

A service tells its figures in four ways: on `GET /metrics`, in InfluxDB, in a line of its log every
`TIERWISE_STATS_INTERVAL_S` seconds, and, for requests that are followed one by one, as traces. The four that matter
first, clock speed, memory, bandwidth and inference time, are on the dashboards
`monitoring/grafana/dashboards/tierwise.json` (Prometheus) and `tierwise-influxdb.json` (InfluxDB).

## GET /metrics

Text for Prometheus; OpenMetrics, with exemplars, on `Accept: application/openmetrics-text`; JSON on
`Accept: application/json`.

{families}

`code` is `{ok}` or the code of the error: {codes}.

Upper bounds of the histograms' buckets:

{buckets}

Of the process itself, as every Prometheus client library names them:

{process}

## InfluxDB

`--influx http://HOST:8086` (`TIERWISE_INFLUX`) writes these measurements every `TIERWISE_INFLUX_INTERVAL_S` seconds in
line protocol to `POST /write?db=…`, which InfluxDB 1, 2 and 3 understand, or with `--influx-bucket` to
`/api/v2/write` of InfluxDB 2, which also wants `--influx-org`; InfluxDB 1.8 (bucket `DATABASE/POLICY`) and 3 ignore it.
All fields are floats, timestamps are nanoseconds. Backslashes and control characters in names are written as `_`. The
database must exist (InfluxDB 3 creates it).

{measurements}

While InfluxDB is down, points wait in a buffer (the oldest go when it is full) and are delivered in order later. No
request waits for any of it. What it or a proxy finds too large (413) is sent in parts, which grow again as they are
taken; points that InfluxDB refuses (400, 422, a single one with 413) are dropped; both kinds of loss are counted.

{influx_settings}

## One request

A request with a `traceparent` (HTTP header or MQTT 5 user property, [W3C Trace Context][w3c]) keeps its trace id: the
answer carries a `traceparent` with the same trace id and the service's own span id. A header that is not valid is
ignored. Where its sampled flag is set, the same trace id is also in

- one line of the log: `{{"event": "request", "trace_id": …, "span_id": …, "parent_id": …, "code": …, "duration_ms": …,
  "queue_ms": …, "inference_ms": …}}` (at most {log_lines} a second; `lines_left_out` tells of more);
- the exemplar of its bucket of `tierwise_request_duration_seconds`, where Grafana shows it as a dot;
- three spans (the request, and in it queue and inference), sent by OTLP where `--otlp` names a receiver.

{tracing_settings}

[w3c]: https://www.w3.org/TR/trace-context/
"""


def metrics_page() -> str:
    """`docs/metrics.md` up to the rules, as Markdown."""
    return _PAGE.format(
        families=_table(("Name", "Type", "Labels", "What it tells"), _rows(own_families())),
        ok=OK,
        codes=", ".join(f"`{code}`" for code in sorted(_error_codes())),
        buckets=_table(
            ("Histogram", "Buckets"),
            [
                (f"`tierwise_{distribution.name}`", ", ".join(f"{bound:.10g}" for bound in distribution.bounds))
                for distribution in (*REQUEST, *EXECUTION)
            ],
        ),
        process=_table(
            ("Name", "Type", "Labels", "What it tells"),
            _rows([*ProcessCollector(registry=None).collect(), *PlatformCollector(registry=None).collect()]),
        ),
        measurements=_table(
            ("Measurement", "Tags", "Fields", "What it tells"),
            [
                (
                    f"`{measurement.name}`",
                    _names(measurement.tags),
                    "<br>".join(f"`{name}`: {told}" for name, told in measurement.fields.items()),
                    measurement.help,
                )
                for measurement in MEASUREMENTS
            ],
        ),
        influx_settings=_settings("influx"),
        log_lines=LOG_LINES_PER_S,
        tracing_settings=_settings("tracing"),
    )


def own_families() -> Iterator[Metric]:
    """Every family that a service can have on ``/metrics``, those of the process aside."""
    metrics = ServiceMetrics("edge")
    metrics.meter("model", "1", "mqtt").codes[OK] = 1
    for watched in (QUEUE_LIMIT, HTTP_CONNECTIONS, MQTT_CONNECTED, *INFLUX):
        metrics.watch(watched, lambda: 0.0)
    yield from metrics.collect()
    yield frequency_family([("0", 0.0)])
    yield limit_family(0.0)


def _rows(families: Iterable[Metric]) -> list[tuple[str, ...]]:
    return [
        (
            f"`{family.name}_total`" if family.type == "counter" else f"`{family.name}`",
            family.type,
            _names(label for label in (family.samples[0].labels if family.samples else ()) if label != "le"),
            family.documentation,
        )
        for family in families
    ]


def _error_codes() -> set[str]:
    kinds = {kind for kind in vars(errors).values() if isinstance(kind, type)}
    answered = errors.RequestError | errors.TransportError
    return {kind.code for kind in kinds if issubclass(kind, answered) and kind is not errors.RequestError}


def _settings(group: str) -> str:
    rows = [
        (
            f"`{field.setting.option}`",
            f"`{field.setting.env}`",
            "" if field.default is None else f"`{field.default}`",
            field.setting.help,
        )
        for field in fields()
        if field.path[0] == group
    ]
    return _table(("Option", "Environment", "Default", "What it is for"), rows)


def _names(names: Iterable[str]) -> str:
    return " ".join(f"`{name}`" for name in names)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
