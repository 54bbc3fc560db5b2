"""The one path from a decoded request to an answer, whatever transport brought it.

A request is admitted (or refused: queue full, draining), waits for the simulated network where there is one, runs the
model, and its reply is called exactly once, with an ``Answer`` or with the error. Nothing here blocks the event loop:
delays are timers, and what takes longer than a thread hand-over is executed in a thread of its own.
"""

from __future__ import annotations

import asyncio
import functools
from typing import TYPE_CHECKING

import numpy as np

from tierwise.core.clocks import monotonic_ns
from tierwise.core.errors import (
    DeadlineExceededError,
    InferenceError,
    OverloadedError,
    RequestError,
    TierwiseError,
    UnknownModelError,
)
from tierwise.core.messages import Answer
from tierwise.serving.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from numpy.typing import NDArray

    from tierwise.core.messages import Request
    from tierwise.serving.delay import Delay
    from tierwise.serving.metrics import Meter
    from tierwise.serving.model import ServedModel

    Outcome = Answer | TierwiseError
    Reply = Callable[[Outcome], None]
    Features = NDArray[Any] | Mapping[str, NDArray[Any]]

INLINE_VALUES = 8192
"""A larger request is executed in the thread also where the model is fast: a batch of thousands takes its time."""


class DataPlane:
    """Answers requests with one model.

    Used from one event loop. ``submit`` may be called while it is running; everything else is told in its docstring.
    """

    def __init__(
        self, model: ServedModel, *, tier: str, queue_size: int, inline: bool, delay: Delay | None = None
    ) -> None:
        self.model = model
        self.tier = tier
        self.inline = inline
        self.immediate = inline and delay is None
        self.accepting = True
        self._count = 0
        self._queue_size = queue_size
        self._delay = delay
        self._idle: asyncio.Event | None = None
        self._worker: Worker[Outcome] = Worker("inference")
        self._open: dict[int, Reply] = {}

    def submit(self, request: Request, meter: Meter, reply: Reply) -> None:
        """Answers ``request``: calls ``reply`` once, before returning or later on the event loop.

        With a fast model and no delay (``immediate``) it nearly always happens before it returns: no task, no future,
        no thread. Only large batches, and what comes while one is executed, are answered later.
        """
        if self.immediate and self.accepting and self._may_run_here(request):
            reply(_noted(self._execute(request), meter))
            return
        if not self.accepting:
            reply(OverloadedError("the service is stopping", retry_after_s=5.0))
        elif self.pending >= self._queue_size:
            reply(OverloadedError(f"{self.pending} requests are under way, which is the limit (--queue-size)"))
        else:
            self._begin(request, meter, reply)

    def _begin(self, request: Request, meter: Meter, reply: Reply) -> None:
        self._count += 1
        number = self._count
        self._open[number] = reply
        meter.in_progress += 1

        def finish(outcome: Outcome) -> None:
            waiting = self._open.pop(number, None)
            if waiting is None:
                return  # the service has stopped and said so
            meter.in_progress -= 1
            if self._idle is not None and not self._open:
                self._idle.set()
            waiting(outcome)

        if self._delay is None:
            self._run(request, meter, finish)
            return
        loop = asyncio.get_running_loop()
        up_ns, down_ns = self._delay.draw_ns(), self._delay.draw_ns()

        def arrived() -> None:
            request.received_ns = monotonic_ns()
            self._run(request, meter, answered)

        def answered(outcome: Outcome) -> None:
            if isinstance(outcome, Answer):
                outcome.delay_ns = up_ns + down_ns
            loop.call_later(down_ns * 1e-9, finish, outcome)

        loop.call_later(up_ns * 1e-9, arrived)

    def _run(self, request: Request, meter: Meter, reply: Reply) -> None:
        if self.inline and self._may_run_here(request):
            reply(_noted(self._execute(request), meter))
            return

        def executed(outcome: Outcome) -> None:
            reply(_noted(outcome, meter))

        self._worker.submit(functools.partial(self._execute, request), executed, asyncio.get_running_loop())

    def _may_run_here(self, request: Request) -> bool:
        """Whether the event loop can spare the time; a model executes one call at a time, wherever that is."""
        features = request.features
        size = features.size if isinstance(features, np.ndarray) else sum(array.size for array in features.values())
        return size <= INLINE_VALUES and not self._worker.unfinished

    def _execute(self, request: Request) -> Outcome:
        """Runs the model. Never raises: an error is an outcome, also one that nobody thought of."""
        model = self.model
        try:
            if (request.model is not None and request.model != model.name) or (
                request.model_version is not None and request.model_version != model.version
            ):
                return _unknown(request, model)
            inputs, is_batch = model.adapt(request.features)
            started_ns = monotonic_ns()
            if request.deadline_ns is not None and started_ns > request.deadline_ns:
                late_ms = (started_ns - request.deadline_ns) / 1e6
                return DeadlineExceededError(f"the deadline passed {late_ms:.1f} ms before the model could start")
            outputs = model.run(inputs)
            finished_ns = monotonic_ns()
            prediction, named = model.predictions(outputs, is_batch=is_batch)
            return Answer(
                prediction,
                model.name,
                model.version,
                self.tier,
                request.received_ns,
                started_ns,
                finished_ns,
                len(outputs[0]) if is_batch else 1,
                model.label_of(prediction),
                named,
                request.request_id,
            )
        except TierwiseError as error:
            return error
        except Exception as error:  # noqa: BLE001 -- one bad request must not end the service; it is told to the client
            return InferenceError(f"{model.name} failed: {type(error).__name__}: {error}")

    @property
    def pending(self) -> int:
        """Requests under way."""
        return len(self._open)

    async def drain(self, timeout_s: float) -> int:
        """Refuses new requests and waits for those under way. Returns how many were given up after the time.

        Those are told that the service has stopped.
        """
        self.accepting = False
        self._idle = asyncio.Event()
        if self._open:
            try:
                await asyncio.wait_for(self._idle.wait(), timeout_s)
            except TimeoutError:
                given_up, self._open = list(self._open.values()), {}
                for reply in given_up:
                    reply(OverloadedError("the service stopped before the model had answered", retry_after_s=5.0))
                return len(given_up)
        return 0

    def close(self) -> None:
        """Frees the model and ends the thread, once that has finished. Call it after ``drain``."""
        self._worker.close(self.model.close)


def _noted(outcome: Outcome, meter: Meter) -> Outcome:
    if isinstance(outcome, Answer):
        started_ns = outcome.started_ns
        meter.executed(started_ns - outcome.received_ns, outcome.finished_ns - started_ns, outcome.batch_size)
    return outcome


def _unknown(request: Request, model: ServedModel) -> RequestError:
    wanted = request.model or model.name
    if request.model_version is not None:
        wanted += f" version {request.model_version}"
    return UnknownModelError(f"no model {wanted} here; this service has {model.name} version {model.version}")
