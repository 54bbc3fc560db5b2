"""The one path from a decoded request to an answer, whatever transport brought it.

A request is admitted (or refused: queue full, draining), waits for the simulated network where there is one, runs the
model, and its reply is called exactly once, with an ``Answer`` or with the error. Nothing here blocks the event loop:
delays are timers, and a model slower than a thread hand-over is executed in a thread of its own.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

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

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    from tierwise.core.messages import Request
    from tierwise.serving.delay import Delay
    from tierwise.serving.metrics import Meter
    from tierwise.serving.model import ServedModel

    Outcome = Answer | TierwiseError
    Reply = Callable[[Outcome], None]


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
        self.pending = 0
        self._queue_size = queue_size
        self._delay = delay
        self._idle: asyncio.Event | None = None
        self._worker = None if inline else ThreadPoolExecutor(1, thread_name_prefix="inference")

    def submit(self, request: Request, meter: Meter, reply: Reply) -> None:
        """Answers ``request``: calls ``reply`` once, before returning or later on the event loop.

        With a fast model and no delay (``immediate``) it happens before it returns: no task, no future, no thread.
        """
        if self.immediate and self.accepting:
            reply(_noted(self._execute(request), meter))
            return
        if not self.accepting:
            reply(OverloadedError("the service is stopping", retry_after_s=5.0))
        elif self.pending >= self._queue_size:
            reply(OverloadedError(f"{self.pending} requests are under way, which is the limit (--queue-size)"))
        else:
            self._begin(request, meter, reply)

    def _begin(self, request: Request, meter: Meter, reply: Reply) -> None:
        self.pending += 1
        meter.in_progress += 1

        def finish(outcome: Outcome) -> None:
            self.pending -= 1
            meter.in_progress -= 1
            if self._idle is not None and not self.pending:
                self._idle.set()
            reply(outcome)

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
        if self._worker is None:
            reply(_noted(self._execute(request), meter))
            return
        loop = asyncio.get_running_loop()

        def done(future: Future[Outcome]) -> None:
            loop.call_soon_threadsafe(executed, future.result())

        def executed(outcome: Outcome) -> None:
            reply(_noted(outcome, meter))

        self._worker.submit(self._execute, request).add_done_callback(done)

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

    async def drain(self, timeout_s: float) -> int:
        """Refuses new requests and waits for those under way. Returns how many were still unfinished after the time."""
        self.accepting = False
        self._idle = asyncio.Event()
        if self.pending:
            try:
                await asyncio.wait_for(self._idle.wait(), timeout_s)
            except TimeoutError:
                return self.pending
        return 0

    def close(self) -> None:
        """Ends the thread and frees the model. Call it after ``drain``."""
        if self._worker is not None:
            self._worker.shutdown(cancel_futures=True)
        self.model.close()


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
