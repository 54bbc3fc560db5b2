"""Following single requests: the same trace id in the answer, the log, the exemplar of a histogram, and the spans.

A request is followed where its ``traceparent`` has the sampled flag, or where it has none and chance
(``--trace-ratio``) picks it. All others cost one comparison.
"""

from __future__ import annotations

import logging
import random
import time
from typing import TYPE_CHECKING, NamedTuple

from tierwise.core.clocks import monotonic_ns
from tierwise.core.messages import Answer
from tierwise.serving import traceparent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tierwise.core.errors import TierwiseError
    from tierwise.serving.metrics import Meter
    from tierwise.serving.traceparent import TraceContext

LOG_LINES_PER_S = 100
"""More lines than this are left out: callers set the sampled flag, and must not be able to flood the log."""

log = logging.getLogger("tierwise.request")


class FollowedRequest(NamedTuple):
    """One request that is over. Instants are monotonic nanoseconds; ``execution`` is that of the model, if any."""

    trace: TraceContext
    labels: dict[str, str]
    code: str
    received_ns: int
    finished_ns: int
    arrived_ns: int
    execution: tuple[int, int] | None


class Tracer:
    """Decides which requests are followed, and tells of those that were."""

    def __init__(self, ratio: float = 0.0, export: Callable[[FollowedRequest], None] | None = None) -> None:
        self._ratio = ratio
        self._export = export
        self._limit = _Limit(LOG_LINES_PER_S)

    def begin(self, header: str | None) -> TraceContext | None:
        """The request's place in its trace; ``None`` for a request that belongs to no trace."""
        if header is not None:
            trace = traceparent.child_of(header)
            if trace is not None:
                return trace
        if self._ratio and random.random() < self._ratio:  # noqa: S311 -- sampling is no secret
            return traceparent.new_trace()
        return None

    def finish(
        self, trace: TraceContext, meter: Meter, code: str, received_ns: int, outcome: Answer | TierwiseError | None
    ) -> None:
        """Tells of a request that was answered with ``code``, if it is sampled. Call it after the answer was sent."""
        if not trace.sampled:
            return
        finished_ns = monotonic_ns()
        meter.traced(trace.trace_id, trace.span_id, finished_ns - received_ns)
        answered = outcome if isinstance(outcome, Answer) else None
        request = FollowedRequest(
            trace,
            meter.named_labels,
            code,
            received_ns,
            finished_ns,
            answered.received_ns if answered else received_ns,
            (answered.started_ns, answered.finished_ns) if answered else None,
        )
        if self._limit.admits():
            _log(request, answered.request_id if answered else None, self._limit.take_left_out())
        if self._export is not None:
            self._export(request)


def traceparent_of(headers: Iterable[tuple[bytes, bytes]]) -> str | None:
    """The one ``traceparent`` among lower-case HTTP headers; several count as none, as the specification asks."""
    found = None
    for name, value in headers:
        if name == b"traceparent":
            if found is not None:
                return None
            found = value
    return None if found is None else found.decode("latin-1")


def _log(request: FollowedRequest, request_id: str | None, left_out: int) -> None:
    trace, execution = request.trace, request.execution
    facts = {
        "trace_id": trace.trace_id,
        "span_id": trace.span_id,
        "parent_id": trace.parent_id,
        "request_id": request_id,
        **request.labels,
        "code": request.code,
        "duration_ms": (request.finished_ns - request.received_ns) / 1e6,
        "queue_ms": (execution[0] - request.arrived_ns) / 1e6 if execution else None,
        "inference_ms": (execution[1] - execution[0]) / 1e6 if execution else None,
        "lines_left_out": left_out or None,
    }
    log.info("request", extra=facts)


class _Limit:
    """Admits so many a second, counted in whole seconds."""

    def __init__(self, per_s: int) -> None:
        self._per_s = per_s
        self._second = 0
        self._admitted = 0
        self._left_out = 0

    def admits(self) -> bool:
        second = int(time.monotonic())
        if second != self._second:
            self._second, self._admitted = second, 0
        if self._admitted >= self._per_s:
            self._left_out += 1
            return False
        self._admitted += 1
        return True

    def take_left_out(self) -> int:
        """How many were not admitted since the last call."""
        left_out, self._left_out = self._left_out, 0
        return left_out
