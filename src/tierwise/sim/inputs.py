"""What a scenario reads from outside itself: files, programs, policies. Tried beforehand, each told at its place."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from tierwise.core.errors import ConfigurationError
from tierwise.models.card import sha256_of
from tierwise.scenario.profile import load_profile
from tierwise.scenario.schema import Custom, External, Replay
from tierwise.sim.answers import read_samples
from tierwise.sim.decide import load_policy
from tierwise.sim.traffic import read_times

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tierwise.scenario.checks import Finding
    from tierwise.scenario.document import Location
    from tierwise.scenario.parts import Artifact, Model
    from tierwise.scenario.schema import Scenario


def input_problems(scenario: Scenario) -> Iterator[Finding]:
    """Every file that cannot be read, program that is not there and policy that cannot be made; (location, what)."""
    for name, group in scenario.devices.items():
        traffic = scenario.traffic_of(name)
        named = isinstance(group.traffic, str)
        here: Location = ("traffic", group.traffic) if isinstance(group.traffic, str) else ("devices", name, "traffic")
        if isinstance(traffic, Replay):
            yield from _tried(
                ("devices", name, "traffic") if named else (*here, "file"), read_times, traffic.file, group.count
            )
        if isinstance(traffic, External) and traffic.command and shutil.which(traffic.command[0]) is None:
            yield (*here, "command"), f"there is no program {traffic.command[0]!r}"
    for name, model in scenario.models.items():
        yield from _of_model(name, model)
    for group_name, rule in scenario.placement.items():
        if isinstance(rule, Custom):
            yield from _tried(("placement", group_name), load_policy, rule)


def _of_model(name: str, model: Model) -> Iterator[Finding]:
    if model.data is not None:
        yield from _tried(("models", name, "data"), read_samples, model.data)
    for tier in ("device", "edge", "cloud"):
        artifact: Artifact | None = getattr(model, tier)
        if artifact is None or artifact.artifact is None:
            continue
        file = artifact.artifact
        if not file.exists():
            if model.data is not None:
                yield ("models", name, tier, "artifact"), f"there is no file {file}"
        elif artifact.profile is not None and load_profile(artifact.profile).artifact.sha256 != sha256_of(file):
            yield ("models", name, tier, "profile"), f"{file} is not the file that was measured: make the profile anew"


def _tried(where: Location, read: Callable[..., object], *arguments: object) -> Iterator[Finding]:
    try:
        read(*arguments)
    except ConfigurationError as error:
        yield where, str(error)
