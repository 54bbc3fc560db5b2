"""From a file to a checked scenario: every mistake at once, each with its line and column."""

from __future__ import annotations

import difflib
import functools
import reprlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from tierwise.core.errors import ConfigurationError
from tierwise.scenario.checks import reference_problems
from tierwise.scenario.document import Document, Problem, ScenarioError, Step, read_document
from tierwise.scenario.legacy import is_earlier_form, translate
from tierwise.scenario.schema import Replay, Scenario, Traffic

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pydantic_core import ErrorDetails


_REPR = reprlib.Repr()
_REPR.maxstring = _REPR.maxother = 60


def load_scenario(path: Path | str, overrides: Mapping[str, str] | None = None) -> Scenario:
    """Reads and checks a scenario file, in the present form or the earlier three-section form.

    ``overrides`` maps dotted paths (``run.duration``, ``links.up.latency``, ``faults.0.at``) to YAML text that replaces
    or adds the value. Paths of files in the scenario become relative to the scenario's folder. Raises ``ScenarioError``
    (a ``ConfigurationError``) that tells every problem.
    """
    path = Path(path)
    document = read_document(path)
    for where, text in (overrides or {}).items():
        set_value(document, where, text)
    return build_scenario(document, path.parent, path.stem)


def build_scenario(document: Document, folder: Path, name: str) -> Scenario:
    """Checks a document. ``folder`` is where its relative paths start, ``name`` its name where it states none."""
    data = document.data
    if not isinstance(data, dict):
        raise ScenarioError([document.problem((), "a scenario is a mapping with the key `tierwise: 1`")])
    if is_earlier_form(data):
        data = translate(document)
    try:
        scenario = Scenario.model_validate(data)
    except ValidationError as error:
        raise ScenarioError([_told(document, detail) for detail in error.errors(include_url=False)]) from error
    scenario = _resolved(scenario, folder, name)
    problems = [document.problem(location, what) for location, what in reference_problems(scenario)]
    if problems:
        raise ScenarioError(problems)
    return scenario


def set_value(document: Document, where: str, text: str) -> None:
    """Replaces or adds the value at a dotted path by YAML text. Raises ``ConfigurationError``."""
    try:
        value = YAML(typ="safe", pure=True).load(text)
    except (YAMLError, ValueError) as error:
        raise ConfigurationError(f"--set {where}: {text!r} is not YAML") from error
    steps: list[Step] = [int(step) if step.isdigit() else step for step in where.split(".")]
    here = document.data
    for depth, step in enumerate(steps):
        last = depth == len(steps) - 1
        if isinstance(here, dict) and isinstance(step, str | int):
            key = str(step)
            if last:
                here[key] = value
            here = here.setdefault(key, {})
        elif isinstance(here, list) and isinstance(step, int) and step < len(here):
            if last:
                here[step] = value
            here = here[step]
        else:
            raise ConfigurationError(f"--set {where}: there is no {'.'.join(map(str, steps[: depth + 1]))}")


def _told(document: Document, detail: ErrorDetails) -> Problem:
    location: Sequence[Step] = detail["loc"]
    kind = detail["type"]
    if kind == "extra_forbidden":
        return document.problem(location, f"unknown key{_suggestion(location)}", at_key=True)
    if kind == "missing":
        problem = document.problem(location[:-1], "")
        path = f"{problem.path}.{location[-1]}" if problem.path else str(location[-1])
        return Problem(problem.file, problem.line, problem.column, path, "is missing")
    if kind in {"union_tag_not_found", "union_tag_invalid"}:
        context = detail.get("ctx", {})
        key = str(context.get("discriminator", "")).strip("'")
        expected = context.get("expected_tags")
        what = f"needs `{key}`" + (f", one of {expected}" if expected else "")
        return document.problem(location, f"{what} (got {_shown(detail['input'])})")
    what = detail["msg"].removeprefix("Value error, ")
    return document.problem(location, f"{what[:1].lower()}{what[1:]} (got {_shown(detail['input'])})")


def _suggestion(location: Sequence[Step]) -> str:
    """`` (did you mean `period`?)`` where a field of any section has nearly that name."""
    close = difflib.get_close_matches(str(location[-1]), _known_fields(), n=1, cutoff=0.75)
    return f" (did you mean `{close[0]}`?)" if close else ""


@functools.cache
def _known_fields() -> list[str]:
    definitions = Scenario.model_json_schema()["$defs"].values()
    names = {name for definition in definitions for name in definition.get("properties", {})}
    return sorted(names | set(Scenario.model_fields))


def _shown(value: object) -> str:
    return _REPR.repr(value)


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
                tiers[tier] = artifact.model_copy(update={"artifact": located(artifact.artifact)})
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
