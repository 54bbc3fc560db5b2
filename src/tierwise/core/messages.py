"""A request decoded from any transport, and the answer before any transport encodes it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

Prediction = float | int | bool | str | list[Any]
"""A number when the model yields one value, a list when it yields several, one entry a sample for a batch."""


class Request(msgspec.Struct, gc=False):
    """One request for inference, as the data plane takes it.

    ``features`` is an array of numbers of any numeric dtype and in any form that the model's signature admits (one
    sample flat or in the model's shape, or a batch of them), or one such array for each named input.
    ``deadline_ns`` and ``received_ns`` are instants on ``core.clocks.monotonic_ns``.
    """

    features: NDArray[Any] | Mapping[str, NDArray[Any]]
    received_ns: int
    model: str | None = None
    model_version: str | None = None
    request_id: str | None = None
    deadline_ns: int | None = None
    traceparent: str | None = None


class Answer(msgspec.Struct, gc=False):
    """What the data plane gives for one request. Instants are monotonic nanoseconds, durations nanoseconds.

    ``outputs`` is set only where the model has several. ``delay_ns`` is the configured network delay (both ways) of a
    simulated cloud, ``None`` on tiers that have none.
    """

    prediction: Prediction
    model: str
    model_version: str
    tier: str
    received_ns: int
    started_ns: int
    finished_ns: int
    batch_size: int = 1
    label: str | list[str] | None = None
    outputs: dict[str, Prediction] | None = None
    request_id: str | None = None
    delay_ns: int | None = None

    @property
    def inference_ns(self) -> int:
        """The model's execution alone."""
        return self.finished_ns - self.started_ns

    @property
    def total_ns(self) -> int:
        """Time in queue and model, and the configured delay where there is one."""
        return self.finished_ns - self.received_ns + (self.delay_ns or 0)
