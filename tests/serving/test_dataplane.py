"""The data plane: one reply for each request, whatever happens, and nothing that blocks the event loop."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tests.serving.fakes import FunctionRuntime, row_sums, served
from tests.waiting import until
from tierwise.core.clocks import monotonic_ns
from tierwise.core.errors import (
    DeadlineExceededError,
    InferenceError,
    InvalidInputError,
    OverloadedError,
    TierwiseError,
    UnknownModelError,
)
from tierwise.core.messages import Answer, Request
from tierwise.serving.dataplane import DataPlane
from tierwise.serving.delay import Delay
from tierwise.serving.metrics import Meter
from tierwise.serving.settings import DelaySettings

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tierwise.serving.model import ServedModel


def meter() -> Meter:
    return Meter(("sum", "1", "edge", "test"), lambda _: None)


def plane(
    model: ServedModel | None = None, *, inline: bool = True, queue_size: int = 8, latency_ms: float = 0
) -> DataPlane:
    delay = Delay(DelaySettings(latency_ms=latency_ms)) if latency_ms else None
    return DataPlane(model or served(), tier="edge", queue_size=queue_size, inline=inline, delay=delay)


def request(values: list[float] | None = None, **fields: Any) -> Request:
    return Request(np.array([1.0, 2.0, 3.0, 4.0] if values is None else values), monotonic_ns(), **fields)


def outcome_of(data_plane: DataPlane, asked: Request) -> Answer | TierwiseError:
    outcomes: list[Answer | TierwiseError] = []
    data_plane.submit(asked, meter(), outcomes.append)
    assert len(outcomes) == 1, "a fast model answers before submit returns, and once"
    return outcomes[0]


async def ask(data_plane: DataPlane, asked: Request) -> Answer:
    """The answer, when it comes; raises the error."""
    future: asyncio.Future[Answer | TierwiseError] = asyncio.get_running_loop().create_future()

    def reply(outcome: Answer | TierwiseError) -> None:
        if not future.done():
            future.set_result(outcome)

    data_plane.submit(asked, meter(), reply)
    outcome = await future
    if isinstance(outcome, TierwiseError):
        raise outcome
    return outcome


def test_answer_carries_what_the_contract_needs() -> None:
    asked = request(request_id="r1")
    answer = outcome_of(plane(), asked)
    assert isinstance(answer, Answer)
    assert answer.prediction == 10.0
    assert (answer.model, answer.model_version, answer.tier, answer.request_id) == ("sum", "1", "edge", "r1")
    assert asked.received_ns <= answer.started_ns <= answer.finished_ns <= monotonic_ns()
    assert answer.delay_ns is None


def test_a_batch_gives_one_prediction_a_sample() -> None:
    answer = outcome_of(plane(), Request(np.arange(8.0).reshape(2, 4), monotonic_ns()))
    assert isinstance(answer, Answer)
    assert answer.prediction == [6.0, 22.0]
    assert answer.batch_size == 2


@pytest.mark.parametrize(
    ("asked", "error", "said"),
    [
        (request([1.0, 2.0]), InvalidInputError, "expected 4 values"),
        (request([1.0, float("nan"), 0.0, 0.0]), InvalidInputError, "features[1] is nan"),
        (request(model="other"), UnknownModelError, "no model other here; this service has sum version 1"),
        (request(model="sum", model_version="2"), UnknownModelError, "no model sum version 2"),
        (request(deadline_ns=monotonic_ns() - 1), DeadlineExceededError, "the deadline passed"),
    ],
)
def test_each_fault_of_a_request_is_an_outcome(asked: Request, error: type[TierwiseError], said: str) -> None:
    outcome = outcome_of(plane(), asked)
    assert type(outcome) is error
    assert said in str(outcome)


def test_a_failing_model_is_an_outcome_and_the_next_request_is_answered() -> None:
    def fail_on_negative(features: NDArray[Any]) -> NDArray[Any]:
        if features[0, 0] < 0:
            raise ZeroDivisionError("broken kernel")
        return row_sums(features)

    data_plane = plane(served(fail_on_negative))
    outcome = outcome_of(data_plane, request([-1.0, 0.0, 0.0, 0.0]))
    assert isinstance(outcome, InferenceError)
    assert "sum failed: ZeroDivisionError: broken kernel" in str(outcome)
    assert isinstance(outcome_of(data_plane, request()), Answer)


async def test_a_slow_model_runs_in_a_thread_and_the_loop_goes_on() -> None:
    may_finish = threading.Event()
    threads: list[str] = []

    def wait(features: NDArray[Any]) -> NDArray[Any]:
        threads.append(threading.current_thread().name)
        assert may_finish.wait(10)
        return row_sums(features)

    data_plane = plane(served(wait), inline=False)
    answering = asyncio.create_task(ask(data_plane, request()))
    await until(lambda: bool(threads))  # the loop turns while the model is stuck
    assert data_plane.pending == 1
    may_finish.set()
    answer = await answering
    assert answer.prediction == 10.0
    assert threads[0].startswith("inference")
    assert data_plane.pending == 0
    data_plane.close()


async def test_one_request_more_than_the_queue_holds_is_refused_and_told_when_to_come_back() -> None:
    may_finish = threading.Event()

    def wait(features: NDArray[Any]) -> NDArray[Any]:
        assert may_finish.wait(10)
        return row_sums(features)

    data_plane = plane(served(wait), inline=False, queue_size=3)
    answering = [asyncio.create_task(ask(data_plane, request())) for _ in range(3)]
    await asyncio.sleep(0)
    with pytest.raises(OverloadedError, match="3 requests are under way") as refused:
        await ask(data_plane, request())
    assert refused.value.retry_after_s > 0
    may_finish.set()
    assert [answer.prediction for answer in await asyncio.gather(*answering)] == [10.0] * 3
    data_plane.close()


async def test_delays_of_a_hundred_requests_pass_side_by_side() -> None:
    data_plane = plane(queue_size=100, latency_ms=50)
    started_ns = monotonic_ns()
    answers = await asyncio.gather(*(ask(data_plane, request()) for _ in range(100)))
    took_ms = (monotonic_ns() - started_ns) / 1e6
    assert all(answer.delay_ns == 100_000_000 for answer in answers)
    assert took_ms >= 99, "both ways are waited for (timers count in whole milliseconds)"
    assert took_ms < 1000, "one after the other they would take 10 s"


async def test_the_delay_is_not_in_queue_time() -> None:
    answer = await ask(plane(latency_ms=50), request())
    assert answer.started_ns - answer.received_ns < 40_000_000


async def test_draining_finishes_what_is_under_way_and_refuses_the_rest() -> None:
    data_plane = plane(latency_ms=20)
    answering = asyncio.create_task(ask(data_plane, request()))
    await asyncio.sleep(0)
    draining = asyncio.create_task(data_plane.drain(5.0))
    await asyncio.sleep(0)
    with pytest.raises(OverloadedError, match="stopping"):
        await ask(data_plane, request())
    assert await draining == 0
    assert answering.done()
    assert (await answering).prediction == 10.0


async def test_draining_gives_up_after_its_time_and_everyone_is_told() -> None:
    may_finish = threading.Event()

    def hang(features: NDArray[Any]) -> NDArray[Any]:
        assert may_finish.wait(60)
        return row_sums(features)

    data_plane = plane(served(hang), inline=False)
    answering = [asyncio.create_task(ask(data_plane, request())) for _ in range(3)]
    await asyncio.sleep(0)
    assert await data_plane.drain(0.01) == 3
    before_ns = monotonic_ns()
    data_plane.close()
    assert monotonic_ns() - before_ns < 1_000_000_000, "a model that hangs does not hold up the end"
    for outcome in await asyncio.gather(*answering, return_exceptions=True):
        assert isinstance(outcome, OverloadedError)
    runtime = data_plane.model.runtime
    assert isinstance(runtime, FunctionRuntime)
    assert not runtime.closed, "the thread still runs it"
    may_finish.set()
    await until(lambda: runtime.closed)


async def test_a_large_batch_does_not_hold_up_the_loop_and_calls_never_overlap() -> None:
    may_finish = threading.Event()
    running: list[int] = []

    def watch(features: NDArray[Any]) -> NDArray[Any]:
        running.append(len(features))
        assert len(running) == 1, "a model executes one call at a time"
        if len(features) > 1:
            assert may_finish.wait(20)
        running.pop()
        return row_sums(features)

    data_plane = plane(served(watch))
    large = Request(np.ones((5000, 4)), monotonic_ns())
    answering = asyncio.create_task(ask(data_plane, large))
    await until(lambda: running == [5000])
    small = asyncio.create_task(ask(data_plane, request()))
    await asyncio.sleep(0)
    assert not small.done()
    may_finish.set()
    assert (await answering).batch_size == 5000
    assert (await small).prediction == 10.0
    assert isinstance(outcome_of(data_plane, request()), Answer), "and then at once again"
    data_plane.close()


async def test_a_client_that_went_away_disturbs_nobody() -> None:
    data_plane = plane(latency_ms=5)
    gone = asyncio.create_task(ask(data_plane, request()))
    await asyncio.sleep(0)
    gone.cancel()
    assert (await ask(data_plane, request())).prediction == 10.0
    assert await data_plane.drain(5.0) == 0


def test_closing_frees_the_model() -> None:
    model = served()
    assert isinstance(model.runtime, FunctionRuntime)
    plane(model).close()
    assert model.runtime.closed


def test_every_execution_is_noted() -> None:
    noted = meter()
    data_plane = plane()
    for _ in range(3):
        data_plane.submit(request(), noted, lambda _: None)
    data_plane.submit(request([1.0]), noted, lambda _: None)
    noted.count()
    assert dict(noted.histograms["batch_size"].buckets())["+Inf"] == 3
