"""From a file to a checked scenario: every mistake at once, each with its line and column."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from tierwise.core.errors import ConfigurationError
from tierwise.core.suggest import did_you_mean
from tierwise.scenario.checks import reference_problems
from tierwise.scenario.document import Document, Problem, ScenarioError, Step, parse_document, read_document
from tierwise.scenario.legacy import is_earlier_form, translate
from tierwise.scenario.profile import with_profiles
from tierwise.scenario.schema import Replay, Scenario, Traffic
from tierwise.scenario.validation import validated

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from tierwise.scenario.checks import Finding


_LONGEST_OPTION = 60


def load_scenario(
    path: Path | str,
    overrides: Mapping[str, str] | None = None,
    further: Callable[[Scenario], Iterable[Finding]] | None = None,
) -> Scenario:
    """Reads and checks a scenario file, in the present form or the earlier three-section form.

    ``overrides`` maps dotted paths (``run.duration``, ``links.up.latency``, ``faults.0.at``) to YAML text that replaces
    or adds the value. Paths of files in the scenario become relative to the scenario's folder. ``further`` gives more
    problems of a scenario that is right in itself. Raises ``ScenarioError`` (a ``ConfigurationError``) that tells every
    problem.
    """
    path = Path(path)
    return build_scenario(_changed(path, overrides or {}), path.parent, path.stem, further)


def value_problems(path: Path, overrides: Mapping[str, str], where: str) -> list[Problem]:
    """What is wrong with the override at ``where`` by itself: its form and its bounds.

    Whether it goes with the other values only a whole scenario tells. Raises ``ConfigurationError`` for an override at
    a path that the scenario does not have.
    """
    try:
        _of_schema(_changed(path, overrides))
    except ScenarioError as error:
        return [problem for problem in error.problems if problem.file.partition("=")[0] == f"--set {where}"]
    return []


def _changed(path: Path, overrides: Mapping[str, str]) -> Document:
    document = read_document(path)
    for where, text in overrides.items():
        set_value(document, where, text)
    return document


def build_scenario(
    document: Document,
    folder: Path,
    name: str,
    further: Callable[[Scenario], Iterable[Finding]] | None = None,
) -> Scenario:
    """Checks a document. ``folder`` is where its relative paths start, ``name`` its name where it states none."""
    scenario = with_profiles(_resolved(_of_schema(document), folder, name), document)
    found = list(reference_problems(scenario)) or list(further(scenario) if further else ())
    problems = [document.problem(location, what) for location, what in dict.fromkeys(found)]
    if problems:
        raise ScenarioError(problems)
    return scenario


def _of_schema(document: Document) -> Scenario:
    data = document.data
    if not isinstance(data, dict):
        raise ScenarioError([document.problem((), "a scenario is a mapping with the key `tierwise: 1`")])
    return validated(Scenario, translate(document) if is_earlier_form(data) else data, document)


def set_value(document: Document, where: str, text: str) -> None:
    """Replaces or adds the value at a dotted path by YAML text. Raises ``ConfigurationError``."""
    option = f"--set {where}={_shown_plainly(text)}"
    value = parse_document(text, option).data
    steps: list[Step] = [int(step) if step.isdigit() else step for step in where.split(".")]
    here = document.data
    added: int | None = None  # from which step on the document had nothing
    for depth, step in enumerate(steps):
        last = depth == len(steps) - 1
        if depth == 1 and not last and isinstance(here, dict) and here and str(step) not in here:
            _refuse_unknown(where, str(steps[0]), str(step), here)
        if isinstance(here, dict):
            key = steps[depth] = str(step)
            added = depth if added is None and key not in here else added
            if last:
                here[key] = value
            here = here.setdefault(key, {})
        elif isinstance(here, list) and isinstance(step, int) and step < len(here):
            if last:
                here[step] = value
            here = here[step]
        else:
            raise ConfigurationError(f"--set {where}: there is no {'.'.join(map(str, steps[: depth + 1]))}")
    top = tuple(steps if added is None else steps[: added + 1])
    for step in reversed(steps[len(top) :]):
        value = {str(step): value}
    document.note_option(top, value, option)


_NAMED = {"devices", "links", "nodes", "models", "boards", "traffic"}
"""Sections whose keys are names that the scenario's author has given."""


def _refuse_unknown(where: str, section: str, name: str, known: Mapping[str, object]) -> None:
    """A slip in a name must not begin an entry of its own, of which nearly all is missing."""
    if section in _NAMED:
        meant = did_you_mean(name, known) or f" (known: {', '.join(known)})"
        what = f"there is no {section}.{name}{meant}; a further one is set as a whole: {section}.{name}={{…}}"
        raise ScenarioError([Problem(f"--set {where}", 0, 0, "", what)])


def _shown_plainly(text: str) -> str:
    return text if len(text) <= _LONGEST_OPTION else f"{text[:_LONGEST_OPTION]}…"


def _resolved(scenario: Scenario, folder: Path, name: str) -> Scenario:
    """The scenario with a name, and with file paths made relative to its folder."""

    def located(path: Path | None) -> Path | None:
        return None if path is None else folder / path

    def located_traffic(traffic: Traffic | str) -> Traffic | str:
        return traffic.model_copy(update={"file": located(traffic.file)}) if isinstance(traffic, Replay) else traffic

    models = {}
    for key, model in scenario.models.items():
        tiers: dict[str, Any] = {}
        for tier in ("device", "edge", "cloud"):
            artifact = getattr(model, tier)
            if artifact is not None:
                files = {"artifact": located(artifact.artifact), "profile": located(artifact.profile)}
                tiers[tier] = artifact.model_copy(update=files)
        if model.data is not None:
            tiers["data"] = model.data.model_copy(update={"file": located(model.data.file)})
        models[key] = model.model_copy(update=tiers)
    devices = {
        key: group.model_copy(update={"traffic": located_traffic(group.traffic)})
        for key, group in scenario.devices.items()
    }
    traffic = {key: located_traffic(pattern) for key, pattern in scenario.traffic.items()}
    return scenario.model_copy(
        update={"name": scenario.name or name, "models": models, "devices": devices, "traffic": traffic}
    )
