"""Profiles: what one artifact costs on one runtime and machine, measured once and read by any scenario.

The form is as strict as the scenario's. A profile is written by a program, so its keys name the units and its values
are plain numbers.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from tierwise.scenario.batches import ByBatch, by_batch
from tierwise.scenario.document import ScenarioError, read_document
from tierwise.scenario.parts import FROM_PROFILE, Artifact, Count, Part, Source
from tierwise.scenario.validation import validated

if TYPE_CHECKING:
    from pathlib import Path

    from tierwise.scenario.document import Document, Problem
    from tierwise.scenario.schema import Scenario

MOST_TIMES = 1000
_A_DAY_US = 86.4e9
_ROUNDING = 2e-3
"""Of a mean and of times with four digits each: at most a thousandth, and as much again for rounding by hand."""
_US_TO_NS = 1e3
_UJ_TO_J = 1e-6


def _in_order(times: list[float]) -> list[float]:
    if times != sorted(times):
        raise ValueError("must be in ascending order")
    return times


def _sizes(service: list[ServiceTime]) -> list[ServiceTime]:
    sizes = [one.batch for one in service]
    if sizes[:1] != [1] or sizes != sorted(set(sizes)):
        raise ValueError(f"the batch sizes must be 1 and then larger and larger, not {', '.join(map(str, sizes))}")
    return service


def _digest(text: str) -> str:
    if re.fullmatch("[0-9a-f]{64}", text) is None:
        raise ValueError("expected 64 hexadecimal digits")
    return text


Text = Annotated[str, Field(min_length=1)]
Number = Annotated[float, Field(ge=0, strict=True, allow_inf_nan=False)]
Time = Annotated[float, Field(gt=0, le=_A_DAY_US, strict=True, allow_inf_nan=False)]
Bytes = Annotated[int, Field(ge=0, strict=True)]
Share = Annotated[float, Field(ge=0, le=1, strict=True)]


class ServiceTime(Part):
    """How long batches of one size take, microseconds a batch."""

    batch: Count = Field(description="samples executed together")
    count: Count = Field(description="batches measured")
    mean_us: Time = Field(description="mean time")
    half_width_us: Number = Field(default=0, description="half of the 95 % interval of the mean")
    cpu_us: Number | None = Field(default=None, description="mean processor time, of all threads")
    p50_us: Time = Field(description="median")
    p95_us: Time = Field(description="95th percentile")
    p99_us: Time = Field(description="99th percentile")
    times_us: Annotated[list[Time], Field(min_length=1, max_length=MOST_TIMES), AfterValidator(_in_order)] = Field(
        description="equally likely times: the means of equal parts of all times in ascending order"
    )

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        mean_us = math.fsum(self.times_us) / len(self.times_us)
        if not math.isclose(mean_us, self.mean_us, rel_tol=_ROUNDING):
            raise ValueError(f"mean_us is {self.mean_us:g}, but the mean of times_us is {mean_us:.4g}")
        return self


class ProfiledArtifact(Part):
    """The file that was executed."""

    file: Text = Field(description="its name, without its folder")
    sha256: Annotated[str, AfterValidator(_digest)] = Field(description="of the file")
    size_bytes: Bytes = Field(description="of the file")
    dtype: Text = Field(description="`float32`, or `int8` where inputs, outputs and weights are 8-bit integers")


class Machine(Part):
    """What executed it."""

    processor: Text = Field(description="as the system calls it")
    cores: Count = Field(description="that the process could use")
    threads: Count = Field(description="that one execution could use")
    libraries: dict[str, Text] = Field(default_factory=dict, description="versions, by name")


class Emulated(Part):
    """The microcontroller that time and energy are modelled for, and what the emulator counted."""

    name: Text = Field(description="of the board profile")
    core: Text = Field(description="of the microcontroller")
    instructions: Number = Field(description="of one inference, mean over the samples")
    flash_bytes: Bytes = Field(description="code, weights and constants of the firmware")
    ram_bytes: Bytes = Field(description="variables, arena and reserved stack")


class Profile(Part):
    """Measured cost of one artifact on one runtime and machine."""

    tierwise_profile: Literal[1] = Field(description="version of this form")
    model: Text = Field(description="name of the model")
    version: Text = Field(description="of the model")
    artifact: ProfiledArtifact = Field(description="the file that was executed")
    runtime: Text = Field(description="`onnx`, `litert`, `torch`, `tflm`, or `firmware` for a board")
    machine: Machine | None = Field(default=None, description="what executed it")
    board: Emulated | None = Field(default=None, description="what it is modelled for")
    rate_hz: Number | None = Field(default=None, description="executions a second; else one after the other")
    peak_memory_bytes: Bytes | None = Field(
        default=None, description="most memory that the whole process had: Python, runtime, model, all batch sizes"
    )
    accuracy: Share | None = Field(default=None, description="share of right answers")
    samples: Count | None = Field(default=None, description="labelled samples that the accuracy is of")
    energy_uj: Number | None = Field(default=None, description="of one inference on the board, modelled")
    service: Annotated[list[ServiceTime], Field(min_length=1), AfterValidator(_sizes)] = Field(
        description="by size of the batch, from 1 upwards"
    )
    source: Source = Field(description="how it was measured, and when")


def load_profile(path: Path) -> Profile:
    """Reads and checks a profile. Raises ``ScenarioError`` that tells every problem with its line and column."""
    document = read_document(path, "profile")
    if not isinstance(document.data, dict) or "tierwise_profile" not in document.data:
        raise ScenarioError([document.problem((), "a profile is a mapping with the key `tierwise_profile: 1`")])
    return validated(Profile, document.data, document)


def service_of(profile: Profile) -> ByBatch:
    """Its service times, nanoseconds."""
    return by_batch([(one.batch, tuple(_US_TO_NS * time for time in one.times_us)) for one in profile.service])


def with_profiles(scenario: Scenario, document: Document) -> Scenario:
    """The scenario in which its profiles give what it does not state itself.

    ``document`` knows where they are named. Raises ``ScenarioError`` that tells the problems of all profiles.
    """
    problems: list[Problem] = []
    models = {}
    for name, model in scenario.models.items():
        tiers = {}
        for tier in ("device", "edge", "cloud"):
            artifact = getattr(model, tier)
            if artifact is None or artifact.profile is None:
                continue
            if why := _why_unreadable(artifact.profile):
                what = f"cannot read the profile {artifact.profile}: {why}"
                problems.append(document.problem(("models", name, tier, "profile"), what))
                continue
            try:
                profile = load_profile(artifact.profile)
            except ScenarioError as error:
                problems += error.problems
                continue
            if profile.board is not None and tier != "device":
                what = f"{artifact.profile} is modelled for the board {profile.board.name}: it belongs to `device`"
                problems.append(document.problem(("models", name, tier, "profile"), what))
                continue
            tiers[tier] = _completed(artifact, profile)
        models[name] = model.model_copy(update=tiers)
    if problems:
        raise ScenarioError(list(dict.fromkeys(problems)))
    return scenario.model_copy(update={"models": models})


def _why_unreadable(path: Path) -> str | None:
    try:
        if path.exists() and not path.is_file():  # to open a pipe would wait for its writer
            return "not a regular file"
        with path.open("rb"):
            return None
    except (OSError, ValueError) as error:  # ValueError: a name with a NUL byte
        return getattr(error, "strerror", None) or str(error)


def _completed(artifact: Artifact, profile: Profile) -> Artifact:
    energy = None if profile.energy_uj is None else profile.energy_uj * _UJ_TO_J
    known: dict[str, Any] = {
        "service": service_of(profile),
        "energy": energy,
        "size": profile.artifact.size_bytes,
        "accuracy": profile.accuracy,
    }
    given = {name: value for name, value in known.items() if value is not None and getattr(artifact, name) is None}
    stated = ", ".join(name for name in (*known, "confidence") if name in artifact.model_fields_set)
    own = "stated in the scenario" if artifact.source == FROM_PROFILE else artifact.source
    if given:
        own = f"{stated}: {own}; else {profile.source}" if stated else profile.source
    return artifact.model_copy(update=given | {"source": own})
