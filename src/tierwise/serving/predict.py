"""``POST /predict`` between body and body, whichever way HTTP brought it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from tierwise.core.clocks import monotonic_ns
from tierwise.core.errors import (
    DeadlineExceededError,
    InferenceError,
    InvalidInputError,
    InvalidRequestError,
    OverloadedError,
    PayloadTooLargeError,
    TierwiseError,
    UnknownModelError,
)
from tierwise.messaging.predict_body import decode_predict, encode_predict
from tierwise.serving import traceparent
from tierwise.serving.http_response import UNEXPECTED, Response, error_response
from tierwise.serving.metrics import OK
from tierwise.serving.tracing import traceparent_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tierwise.core.messages import Answer
    from tierwise.serving.dataplane import DataPlane
    from tierwise.serving.http_response import Headers
    from tierwise.serving.metrics import Meter
    from tierwise.serving.traceparent import TraceContext
    from tierwise.serving.tracing import Tracer

log = logging.getLogger("tierwise.http")

PATH = "/predict"

STATUS: dict[type[TierwiseError], int] = {
    InvalidRequestError: 400,
    InvalidInputError: 400,
    UnknownModelError: 404,
    PayloadTooLargeError: 413,
    OverloadedError: 503,
    DeadlineExceededError: 504,
}
"""The one table from errors to HTTP; everything else is 500."""

_TRACEPARENT = traceparent.HEADER.encode()


class PredictEndpoint:
    """Answers bodies of ``POST /predict`` from the data plane and notes each in the metrics."""

    def __init__(self, plane: DataPlane, meter: Meter, tracer: Tracer) -> None:
        self.plane = plane
        self._meter = meter
        self._tracer = tracer

    def submit(self, body: bytes, headers: Iterable[tuple[bytes, bytes]], respond: Callable[[Response], None]) -> None:
        """Answers one body: calls ``respond`` once, before returning where the data plane answers at once.

        ``headers`` are those of the request, with lower-case names.
        """
        received_ns = monotonic_ns()
        trace = self._tracer.begin(traceparent_of(headers))

        def reply(outcome: Answer | TierwiseError) -> None:
            code, response = _respond(outcome)
            self._meter.finished(code, monotonic_ns() - received_ns, len(body), len(response.body))
            if trace is None:
                respond(response)
            else:
                respond(_traced(response, trace))
                self._tracer.finish(trace, self._meter, code, received_ns, outcome)

        try:
            request = decode_predict(body, received_ns=received_ns)
        except TierwiseError as error:
            reply(error)
            return
        except Exception:
            log.exception("a request failed unexpectedly")
            reply(InferenceError(UNEXPECTED))
            return
        self.plane.submit(request, self._meter, reply)

    def refuse(self, error: TierwiseError, headers: Iterable[tuple[bytes, bytes]]) -> Response:
        """The response to a request whose body was not read to its end."""
        code, response = _respond(error)
        self._meter.refused(code)
        trace = self._tracer.begin(traceparent_of(headers))
        if trace is None:
            return response
        self._tracer.finish(trace, self._meter, code, monotonic_ns(), error)
        return _traced(response, trace)


def _traced(response: Response, trace: TraceContext) -> Response:
    return response._replace(headers=(*response.headers, (_TRACEPARENT, trace.traceparent.encode())))


def _respond(outcome: Answer | TierwiseError) -> tuple[str, Response]:
    """Outcome code and response. An answer that JSON cannot carry is an error."""
    if not isinstance(outcome, TierwiseError):
        try:
            return OK, Response(200, encode_predict(outcome))
        except TierwiseError as unfit:
            outcome = unfit
        except Exception:
            # Raised from a late answer it would reach the event loop, and the client would wait for ever.
            log.exception("a request failed unexpectedly")
            outcome = InferenceError(UNEXPECTED)
    more: Headers = ()
    if isinstance(outcome, OverloadedError):
        more = ((b"retry-after", b"%d" % max(1, round(outcome.retry_after_s))),)
    return outcome.code, error_response(STATUS.get(type(outcome), 500), str(outcome), *more)
