"""Many variants of a scenario, on any executor, resumable: finished points are kept in one file of JSON lines."""

from __future__ import annotations

import concurrent.futures
import hashlib
import itertools
from typing import TYPE_CHECKING, Any

import msgspec

from tierwise.core.errors import ConfigurationError, TierwiseError
from tierwise.scenario import load_scenario

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

_AT_ONCE = 256


class Point(msgspec.Struct, frozen=True):
    """One variant: the values that were set, and what came of it."""

    values: dict[str, str]
    key: str
    summary: dict[str, Any] | None = None
    error: str | None = None


def grid(sweeps: Mapping[str, Sequence[str]]) -> list[dict[str, str]]:
    """Every combination of the values of each path, the last path running fastest."""
    return [dict(zip(sweeps, values, strict=True)) for values in itertools.product(*sweeps.values())]


def point_key(scenario: Path, overrides: Mapping[str, str], seed: int | None) -> str:
    """Names a point by the scenario's text, the values set and the seed: a changed file makes new points."""
    try:
        text = scenario.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"cannot read the scenario {scenario}: {error.strerror}") from error
    identity = msgspec.json.encode([sorted(overrides.items()), seed])
    return hashlib.sha256(text + b"\0" + identity).hexdigest()[:20]


def run_point(scenario: str, overrides: dict[str, str], values: dict[str, str], seed: int | None, key: str) -> bytes:
    """Simulates one variant; the point as JSON. A variant that is no valid scenario is a point with an error."""
    from tierwise.sim.answers import compute_answers  # noqa: PLC0415 -- in the worker
    from tierwise.sim.run import simulate  # noqa: PLC0415

    try:
        loaded = load_scenario(scenario, {**overrides, **values})
        summary = msgspec.to_builtins(simulate(loaded, seed=seed, answers=compute_answers(loaded)))
        del summary["constants"]
        return msgspec.json.encode(Point(values, key, summary))
    except TierwiseError as error:
        return msgspec.json.encode(Point(values, key, error=str(error)))


def sweep(
    scenario: Path,
    sweeps: Mapping[str, Sequence[str]],
    results: Path,
    executor: concurrent.futures.Executor,
    *,
    overrides: Mapping[str, str] | None = None,
    seed: int | None = None,
    on_point: Callable[[int, int], None] | None = None,
) -> list[Point]:
    """Runs every combination that ``results`` does not hold yet, and appends each as it is finished.

    Returns all points in the order of the grid. ``on_point`` is told (finished, all). A file that a killed sweep left
    with half a line is repaired: that point is run again.
    """
    fixed = dict(overrides or {})
    wanted = {point_key(scenario, fixed | values, seed): values for values in grid(sweeps)}
    known = {key: point for key, point in read_points(results).items() if key in wanted}
    missing = [(key, values) for key, values in wanted.items() if key not in known]
    results.parent.mkdir(parents=True, exist_ok=True)
    with results.open("ab") as file:
        waiting: set[concurrent.futures.Future[bytes]] = set()
        queue = iter(missing)
        while True:
            # Not all at once: a sweep of a million points must not fill the executor's queue.
            for key, values in itertools.islice(queue, _AT_ONCE - len(waiting)):
                waiting.add(executor.submit(run_point, str(scenario), fixed, values, seed, key))
            if not waiting:
                break
            finished = next(concurrent.futures.as_completed(waiting))
            waiting.discard(finished)
            line = finished.result()
            file.write(line + b"\n")
            file.flush()
            point = msgspec.json.decode(line, type=Point)
            known[point.key] = point
            if on_point is not None:
                on_point(len(known), len(wanted))
    return [known[key] for key in wanted]


def read_points(results: Path) -> dict[str, Point]:
    """Points of earlier runs, by key. Cuts off a half-written last line."""
    if not results.exists():
        return {}
    raw = results.read_bytes()
    whole = raw[: raw.rfind(b"\n") + 1]
    if len(whole) < len(raw):
        results.write_bytes(whole)
    points = {}
    for number, line in enumerate(whole.splitlines(), 1):
        try:
            point = msgspec.json.decode(line, type=Point)
        except msgspec.DecodeError as error:
            raise ConfigurationError(f"{results}:{number}: not a result of a sweep: {error}") from error
        points[point.key] = point
    return points
