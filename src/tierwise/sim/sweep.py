"""Many variants of a scenario, on any executor, resumable: finished points are kept in one file of JSON lines."""

from __future__ import annotations

import concurrent.futures
import contextlib
import fcntl
import functools
import hashlib
import itertools
import os
from typing import TYPE_CHECKING, Any, BinaryIO

import msgspec

from tierwise import __version__
from tierwise.core.errors import ConfigurationError, TierwiseError, TransportError
from tierwise.scenario import load_scenario
from tierwise.scenario.document import Problem, ScenarioError, parse_document, read_document
from tierwise.scenario.loader import value_problems

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

_AT_ONCE = 256
_LONGEST_PATH = 4096


class Point(msgspec.Struct, frozen=True):
    """One variant: the values that were set, and what came of it."""

    values: dict[str, str]
    key: str
    summary: dict[str, Any] | None = None
    error: str | None = None


def grid(sweeps: Mapping[str, Sequence[str]]) -> list[dict[str, str]]:
    """Every combination of the values of each path, the last path running fastest."""
    return [dict(zip(sweeps, values, strict=True)) for values in itertools.product(*sweeps.values())]


def check_values(scenario: Path, sweeps: Mapping[str, Sequence[str]], overrides: Mapping[str, str]) -> None:
    """Raises ``ScenarioError`` with every swept value that is wrong by itself, before any point is run.

    What is wrong only together with another value is told by its point.
    """
    first = {path: values[0] for path, values in sweeps.items()}
    problems: dict[Problem, None] = {}
    for path, values in sweeps.items():
        for value in values:
            problems |= dict.fromkeys(value_problems(scenario, {**overrides, **first, path: value}, path))
    if problems:
        raise ScenarioError(list(problems))


def point_keys(scenario: Path, seed: int | None) -> Callable[[Mapping[str, str]], str]:
    """Names points, given the values set, by all that their results depend on: what changes makes new points.

    That is the scenario's text, the values and the seed, the bytes of the files that these name, tierwise's version.
    """
    document = read_document(scenario)
    folder = scenario.parent
    same = hashlib.sha256(__version__.encode() + _digest(scenario))
    for path in _files(document.data, folder):
        same.update(_digest(path))

    def key(values: Mapping[str, str]) -> str:
        digest = same.copy()
        digest.update(msgspec.json.encode([sorted(values.items()), seed]))
        for text in values.values():
            for path in _files(_parsed(text), folder):
                digest.update(_digest(path))
        return digest.hexdigest()[:20]

    return key


@functools.lru_cache(maxsize=1024)
def _parsed(text: str) -> object:
    """The value, or nothing where it is no YAML: its point will tell."""
    try:
        return parse_document(text, "").data
    except ConfigurationError:
        return None


def _files(value: object, folder: Path) -> Iterator[Path]:
    """Files that a document names, under whatever key."""
    if isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _files(item, folder)
    elif isinstance(value, str) and 0 < len(value) < _LONGEST_PATH and "\0" not in value and "\n" not in value:
        path = folder / value
        with contextlib.suppress(OSError):  # prose, too long for the name of a file
            if path.is_file():
                yield path


def _digest(path: Path) -> bytes:
    """Of a file as it is now."""
    status = path.stat()
    return _digest_of(path, status.st_mtime_ns, status.st_size)


@functools.lru_cache(maxsize=1024)
def _digest_of(path: Path, _modified_ns: int, _size: int) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


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
    except Exception as error:  # noqa: BLE001 -- a mistake of ours: the other points go on, and this one tells
        return msgspec.json.encode(Point(values, key, error=f"{type(error).__name__}: {error}"))


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
    with half a line is repaired: that point is run again, and so are those that failed. Raises ``TransportError`` where
    the executor breaks down, ``ConfigurationError`` where another sweep is writing the file.
    """
    fixed = dict(overrides or {})
    key_of = point_keys(scenario, seed)
    wanted = {key_of(fixed | values): values for values in grid(sweeps)}
    results.parent.mkdir(parents=True, exist_ok=True)
    with _own(results) as file:
        earlier = read_points(results)
        known = {key: point for key, point in earlier.items() if key in wanted and point.error is None}
        missing = [(key, values) for key, values in wanted.items() if key not in known]
        waiting: set[concurrent.futures.Future[bytes]] = set()
        queue = iter(missing)
        while True:
            # Not all at once: a sweep of a million points must not fill the executor's queue.
            try:
                for key, values in itertools.islice(queue, _AT_ONCE - len(waiting)):
                    waiting.add(executor.submit(run_point, str(scenario), fixed, values, seed, key))
                if not waiting:
                    break
                finished = next(concurrent.futures.as_completed(waiting))
                waiting.discard(finished)
                line = finished.result()
            except Exception as error:  # points tell their own errors: this is the executor's
                told = f"a worker of the sweep has died ({type(error).__name__}: {error})"
                what = f"{told}; {len(known)} of {len(wanted)} points are finished and kept in {results}"
                raise TransportError(f"{what}: start the same sweep again, and it runs the others") from error
            file.write(line + b"\n")
            file.flush()
            point = msgspec.json.decode(line, type=Point)
            known[point.key] = point
            if on_point is not None:
                on_point(len(known), len(wanted))
    return [known[key] for key in wanted]


@contextlib.contextmanager
def _own(results: Path) -> Iterator[BinaryIO]:
    """The file to append to; nobody else's as long as the block lasts or its process lives."""
    with results.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            what = f"{results}: another sweep is writing its results to this file"
            raise ConfigurationError(f"{what}: wait for its end, or name another file") from error
        yield file


def read_points(results: Path) -> dict[str, Point]:
    """Points of earlier runs, by key. Cuts off a half-written last line."""
    if not results.exists():
        return {}
    raw = results.read_bytes()
    whole = raw[: raw.rfind(b"\n") + 1]
    if len(whole) < len(raw):
        os.truncate(results, len(whole))  # writing anew could lose all of them to a kill
    points = {}
    for number, line in enumerate(whole.splitlines(), 1):
        try:
            point = msgspec.json.decode(line, type=Point)
        except msgspec.DecodeError as error:
            raise ConfigurationError(f"{results}:{number}: not a result of a sweep: {error}") from error
        points[point.key] = point
    return points
