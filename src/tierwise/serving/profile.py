"""Measures what a model costs on this machine: how long batches of each size take, memory, accuracy."""

from __future__ import annotations

import time
from array import array
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np

from tierwise import __version__
from tierwise.core.clocks import monotonic_ns
from tierwise.models.samples import Samples, class_indices, load_samples
from tierwise.models.scores import accuracy
from tierwise.report.environment import available_cpus, cpu_name
from tierwise.runtimes.example import random_samples
from tierwise.scenario.measured import SLICES, service_time
from tierwise.scenario.profile import Machine, Profile, ProfiledArtifact, ServiceTime
from tierwise.serving.describe import artifact_of
from tierwise.serving.memory import peak_bytes
from tierwise.serving.model import ServedModel, find_artifact, load_model

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from tierwise.serving.settings import ModelSettings

    Inputs = Mapping[str, NDArray[Any]]

BATCHES = (1, 2, 4, 8, 16, 32)
_WARM_UP_NS = 100_000_000
_MOST_IN_SLICE = 20_000
"""Executions: more would say no more, and take memory."""
_LIBRARIES = {"onnx": "onnxruntime", "litert": "ai-edge-litert", "torch": "torch", "tflm": "tflite-micro"}


@dataclass(frozen=True, kw_only=True)
class Effort:
    """How a model is measured."""

    batches: Sequence[int] = BATCHES
    """Sizes, ascending from 1."""
    seconds: float = 2.0
    """Of each size, in ``SLICES`` slices."""
    rate_hz: float | None = None
    """Executions a second, with pauses between them as in a service that waits for requests; else none waits."""


def measure_profile(
    settings: ModelSettings,
    samples: Samples | None,
    effort: Effort,
    on_progress: Callable[[float], None] = lambda _: None,
) -> Profile:
    """The profile of a model as a service on this machine runs it. Blocks; ``on_progress`` takes the share done.

    Samples are those given, else the card's, else random ones, which tell no accuracy. All sizes are measured in turn,
    slice by slice, so that a busy neighbour meets them alike. Raises like ``load_model`` and ``Runtime.run``, and
    ``ModelError`` for samples that do not fit.
    """
    file, card = find_artifact(settings, tier="edge")
    model = load_model(settings, tier="edge")
    try:
        chosen = _samples(model, file.parent) if samples is None else samples
        inputs, _ = model.adapt(chosen.features)
        right = _accuracy(model, chosen, inputs, max(effort.batches))
        batches = {size: _batch(inputs, size) for size in effort.batches}
        _warm_up(model, batches)
        memory = peak_bytes()
        service = _measured(model, batches, effort, on_progress)
    finally:
        model.close()
    artifact = artifact_of(file, model.runtime.signature, previous=card)
    machine = _machine(model.runtime.name, settings.threads)
    return Profile(
        tierwise_profile=1,
        model=model.name,
        version=model.version,
        artifact=ProfiledArtifact(
            file=artifact.file, sha256=artifact.sha256, size_bytes=artifact.size_bytes, dtype=artifact.dtype
        ),
        runtime=model.runtime.name,
        machine=machine,
        rate_hz=effort.rate_hz,
        peak_memory_bytes=memory,
        accuracy=right,
        samples=None if right is None else len(chosen),
        service=service,
        source=_source(model.runtime.name, machine, effort),
    )


def _samples(model: ServedModel, folder: Path) -> Samples:
    if model.card is not None and model.card.samples is not None:
        return load_samples(folder / model.card.samples)
    return Samples(random_samples(model.runtime.signature, 1))


def _accuracy(model: ServedModel, samples: Samples, inputs: Inputs, size: int) -> float | None:
    """The share of right answers; ``None`` where nothing says what the samples are, or the model names no labels."""
    card = model.card
    truth = class_indices(samples, card.labels) if card is not None and card.labels else None
    if card is None or truth is None:
        return None
    parts = [{name: values[at : at + size] for name, values in inputs.items()} for at in range(0, len(truth), size)]
    outputs = np.concatenate([np.asarray(model.run(part)[0]) for part in parts])
    return accuracy(outputs.reshape(len(outputs), -1), truth, card.threshold)


def _warm_up(model: ServedModel, batches: Mapping[int, Inputs]) -> None:
    for batch in batches.values():
        until_ns = monotonic_ns() + _WARM_UP_NS
        model.run(batch)
        while monotonic_ns() < until_ns:
            model.run(batch)


@dataclass
class _Pace:
    """Holds executions apart."""

    rate_hz: float | None
    due_ns: int = 0

    def wait(self) -> None:
        """Until the next may start."""
        if self.rate_hz is None:
            return
        now_ns = monotonic_ns()
        if self.due_ns > now_ns:
            time.sleep((self.due_ns - now_ns) * 1e-9)
        self.due_ns = max(now_ns, self.due_ns) + round(1e9 / self.rate_hz)


@dataclass
class _Times:
    """Of one size: nanoseconds slice by slice, and the processor time of all."""

    slices: list[array[int]] = field(default_factory=list)
    cpu_ns: int = 0


def _measured(
    model: ServedModel, batches: Mapping[int, Inputs], effort: Effort, on_progress: Callable[[float], None]
) -> list[ServiceTime]:
    pace = _Pace(effort.rate_hz)
    found = {size: _Times() for size in batches}
    slice_ns = round(effort.seconds * 1e9 / SLICES)
    for number in range(SLICES):
        for at, (size, batch) in enumerate(batches.items()):
            on_progress((number + at / len(batches)) / SLICES)
            _run_slice(model, batch, pace, slice_ns, found[size])
    return [service_time(size, times.slices, cpu_ns=times.cpu_ns) for size, times in found.items()]


def _batch(inputs: Inputs, size: int) -> dict[str, NDArray[Any]]:
    """So many samples; where there are fewer, they come around again."""
    return {name: np.ascontiguousarray(np.resize(values, (size, *values.shape[1:]))) for name, values in inputs.items()}


def _run_slice(model: ServedModel, batch: Inputs, pace: _Pace, slice_ns: int, found: _Times) -> None:
    times = array("q")
    model.run(batch)  # not counted: runtimes get ready for another size
    until_ns = monotonic_ns() + slice_ns
    while True:
        pace.wait()
        found.cpu_ns += _execute(model, batch, times, until_ns if pace.rate_hz is None else 0)
        if monotonic_ns() >= until_ns or len(times) >= _MOST_IN_SLICE:
            break
    found.slices.append(times)


def _execute(model: ServedModel, batch: Inputs, times: array[int], until_ns: int) -> int:
    """Once, and again until then. Appends each execution's time; returns the processor time of all."""
    run = model.run
    cpu_ns = time.process_time_ns()
    while True:
        started_ns = monotonic_ns()
        run(batch)
        finished_ns = monotonic_ns()
        times.append(finished_ns - started_ns)
        if finished_ns >= until_ns or len(times) >= _MOST_IN_SLICE:
            return time.process_time_ns() - cpu_ns


def _machine(runtime: str, threads: int) -> Machine:
    libraries = {name: version(name) for name in (_LIBRARIES[runtime], "numpy")}
    return Machine(
        processor=cpu_name(),
        cores=available_cpus(),
        threads=threads,
        libraries={**libraries, "tierwise": __version__},
    )


def _source(runtime: str, machine: Machine, effort: Effort) -> str:
    library = _LIBRARIES[runtime]
    how = "one after the other" if effort.rate_hz is None else f"{effort.rate_hz:g} a second"
    threads = f"{machine.threads} thread{'' if machine.threads == 1 else 's'}"
    where = f"{library} {machine.libraries[library]}, {threads}, {machine.processor}"
    return f"measured by tierwise profile on {datetime.now(UTC):%Y-%m-%d}: {where}, executions {how}"
