"""Spans of followed requests to an OpenTelemetry receiver (OTLP over HTTP). Needs the extra ``otel``.

The service decides which requests are followed and which ids their spans have; OpenTelemetry's SDK batches and sends
them from a thread of its own, and drops them where the receiver cannot keep up.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from tierwise import __version__
from tierwise.core.clocks import monotonic_ns
from tierwise.core.errors import DependencyError
from tierwise.serving.metrics import OK

try:
    from opentelemetry import trace as otel
    from opentelemetry.context import Context
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import OTELResourceDetector, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.sdk.trace.id_generator import IdGenerator, RandomIdGenerator
    from opentelemetry.sdk.trace.sampling import ALWAYS_ON
except ImportError as missing:
    raise DependencyError("spans (--otlp) need OpenTelemetry: pip install 'tierwise[otel]'") from missing

if TYPE_CHECKING:
    from tierwise.serving.tracing import FollowedRequest

FLUSH_MS = 3000
"""How long a stopping service tries to deliver the last spans."""


class SpanExport:
    """Turns followed requests into spans: one for the request, with children for queue and inference."""

    def __init__(self, url: str, *, service_id: str, tier: str) -> None:
        self._ids = _GivenIds()
        own = {"service.name": f"tierwise-{tier}", "service.instance.id": service_id, "service.version": __version__}
        # OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES come before what we say.
        resource = Resource.create({**own, **OTELResourceDetector().detect().attributes})
        self._provider = TracerProvider(
            sampler=ALWAYS_ON, resource=resource, id_generator=self._ids, shutdown_on_exit=False
        )
        self._processor = BatchSpanProcessor(OTLPSpanExporter(endpoint=url, timeout=FLUSH_MS / 1e3))
        self._provider.add_span_processor(self._processor)
        self._tracer = self._provider.get_tracer("tierwise", __version__)

    def __call__(self, request: FollowedRequest) -> None:
        """Hands the spans of one request over. Used on the event loop; sends nothing itself."""
        offset_ns = time.time_ns() - monotonic_ns()
        self._ids.give(request.trace.trace_id, request.trace.span_id)
        span = self._tracer.start_span(
            f"predict {request.labels['model']}",
            context=_parent(request),
            kind=otel.SpanKind.SERVER,
            start_time=request.received_ns + offset_ns,
            attributes={f"tierwise.{name}": value for name, value in request.labels.items()}
            | {"tierwise.code": request.code},
        )
        if request.code != OK:
            span.set_status(otel.Status(otel.StatusCode.ERROR, request.code))
        if request.execution is not None:
            started_ns, finished_ns = request.execution
            inside = otel.set_span_in_context(span)
            for name, begin_ns, end_ns in (
                ("queue", request.arrived_ns, started_ns),
                ("inference", started_ns, finished_ns),
            ):
                child = self._tracer.start_span(name, context=inside, start_time=begin_ns + offset_ns)
                child.end(end_ns + offset_ns)
        span.end(request.finished_ns + offset_ns)

    def close(self) -> None:
        """Delivers what is left, for a few seconds at most. Blocks: call it in a thread."""
        self._provider.force_flush(FLUSH_MS)
        self._provider.shutdown()


class _GivenIds(IdGenerator):
    """Gives the first span the ids that the answer already carries, and its children ids of their own."""

    def __init__(self) -> None:
        self._random = RandomIdGenerator()
        self._trace_id = 0
        self._span_id = 0

    def give(self, trace_id: str, span_id: str) -> None:
        self._trace_id, self._span_id = int(trace_id, 16), int(span_id, 16)

    def generate_trace_id(self) -> int:
        return self._trace_id

    def generate_span_id(self) -> int:
        given, self._span_id = self._span_id, 0
        return given or self._random.generate_span_id()


def _parent(request: FollowedRequest) -> Context:
    trace = request.trace
    if trace.parent_id is None:
        return Context()
    caller = otel.SpanContext(
        int(trace.trace_id, 16), int(trace.parent_id, 16), is_remote=True, trace_flags=otel.TraceFlags(trace.flags)
    )
    return otel.set_span_in_context(otel.NonRecordingSpan(caller), Context())
