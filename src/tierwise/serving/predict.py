"""``POST /predict`` between body and body, whichever way HTTP brought it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec

from tierwise.core.clocks import monotonic_ns
from tierwise.core.errors import (
    DeadlineExceededError,
    InvalidInputError,
    InvalidRequestError,
    OverloadedError,
    PayloadTooLargeError,
    TierwiseError,
    UnknownModelError,
)
from tierwise.messaging.predict_body import decode_predict, encode_predict
from tierwise.serving import traceparent
from tierwise.serving.metrics import OK
from tierwise.serving.tracing import traceparent_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tierwise.core.messages import Answer
    from tierwise.serving.dataplane import DataPlane
    from tierwise.serving.metrics import Meter
    from tierwise.serving.traceparent import TraceContext
    from tierwise.serving.tracing import Tracer

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

UNEXPECTED = "internal error, the log of the service tells more"
"""The error of a request that failed in a way nobody thought of."""

_TRACEPARENT = traceparent.HEADER.encode()

Headers = tuple[tuple[bytes, bytes], ...]


class Response(NamedTuple):
    """Status, JSON body, and the headers beside content type and length."""

    status: int
    body: bytes
    headers: Headers = ()


class PredictEndpoint:
    """Answers bodies of ``POST /predict`` from the data plane and notes each in the metrics."""

    def __init__(self, plane: DataPlane, meter: Meter, tracer: Tracer, *, max_payload_bytes: int) -> None:
        self.plane = plane
        self.max_payload_bytes = max_payload_bytes
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
            if len(body) > self.max_payload_bytes:
                raise self.too_large()
            request = decode_predict(body, received_ns=received_ns)
        except TierwiseError as error:
            reply(error)
            return
        self.plane.submit(request, self._meter, reply)

    def too_large(self) -> PayloadTooLargeError:
        """The error of a body beyond the limit."""
        return PayloadTooLargeError(f"the request has more than {self.max_payload_bytes} bytes (--max-payload-bytes)")

    def refuse(self, error: TierwiseError, headers: Iterable[tuple[bytes, bytes]]) -> Response:
        """The response to a request whose body was not read to its end."""
        code, response = _respond(error)
        self._meter.refused(code)
        trace = self._tracer.begin(traceparent_of(headers))
        if trace is None:
            return response
        self._tracer.finish(trace, self._meter, code, monotonic_ns(), error)
        return _traced(response, trace)


def error_body(message: str) -> bytes:
    """The body of every HTTP error."""
    return msgspec.json.encode({"error": message})


def _traced(response: Response, trace: TraceContext) -> Response:
    return response._replace(headers=(*response.headers, (_TRACEPARENT, trace.traceparent.encode())))


def _respond(outcome: Answer | TierwiseError) -> tuple[str, Response]:
    """Outcome code and response. An answer that JSON cannot carry is an error."""
    if not isinstance(outcome, TierwiseError):
        try:
            return OK, Response(200, encode_predict(outcome))
        except TierwiseError as unfit:
            outcome = unfit
    headers: Headers = ()
    if isinstance(outcome, OverloadedError):
        headers = ((b"retry-after", b"%d" % max(1, round(outcome.retry_after_s))),)
    return outcome.code, Response(STATUS.get(type(outcome), 500), error_body(str(outcome)), headers)
