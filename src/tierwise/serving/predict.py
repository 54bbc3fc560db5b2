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
from tierwise.serving.metrics import OK

if TYPE_CHECKING:
    from collections.abc import Callable

    from tierwise.core.messages import Answer
    from tierwise.serving.dataplane import DataPlane
    from tierwise.serving.metrics import Meter

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

Headers = tuple[tuple[bytes, bytes], ...]


class Response(NamedTuple):
    """Status, JSON body, and the headers beside content type and length."""

    status: int
    body: bytes
    headers: Headers = ()


class PredictEndpoint:
    """Answers bodies of ``POST /predict`` from the data plane and notes each in the metrics."""

    def __init__(self, plane: DataPlane, meter: Meter, *, max_payload_bytes: int) -> None:
        self.plane = plane
        self.max_payload_bytes = max_payload_bytes
        self._meter = meter

    def submit(self, body: bytes, respond: Callable[[Response], None]) -> None:
        """Answers one body: calls ``respond`` once, before returning where the data plane answers at once."""
        received_ns = monotonic_ns()

        def reply(outcome: Answer | TierwiseError) -> None:
            code, response = _respond(outcome)
            self._meter.finished(code, monotonic_ns() - received_ns, len(body), len(response.body))
            respond(response)

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

    def refuse(self, error: TierwiseError) -> Response:
        """The response to a request whose body was not read to its end."""
        code, response = _respond(error)
        self._meter.finished(code, 0, 0, len(response.body))
        return response


def error_body(message: str) -> bytes:
    """The body of every HTTP error."""
    return msgspec.json.encode({"error": message})


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
