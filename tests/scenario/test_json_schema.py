"""The published JSON Schema says of a file what the loader says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jsonschema
import pytest
from ruamel.yaml import YAML

from tests.scenario.examples import MINIMAL
from tierwise.scenario import scenario_schema

EXAMPLES = sorted(Path(__file__).parents[2].glob("examples/scenarios/*.yaml"))
SCHEMA = scenario_schema()


def mistakes(text: str) -> list[str]:
    """Paths at which the schema refuses the file."""
    validator = jsonschema.Draft202012Validator(SCHEMA)
    return [error.json_path for error in validator.iter_errors(YAML(typ="safe", pure=True).load(text))]


def fields(part: dict[str, Any]) -> dict[str, Any]:
    """The fields of a section."""
    found: dict[str, Any] = part.get("properties", {})
    return found


def test_it_is_a_json_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("path", [path for path in EXAMPLES if path.stem != "earlier-form"], ids=lambda path: path.stem)
def test_it_admits_the_examples(path: Path) -> None:
    assert mistakes(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("right", "wrong", "where"),
    [
        ("duration: 10s", "duration: 60", "$.run.duration"),
        ("duration: 10s", "duration: 60 parsec", "$.run.duration"),
        ("duration: 10s", "duration: 60s, speed: 1", "$.run"),
        ("tierwise: 1", "tierwise: 2", "$.tierwise"),
        ("latency: 5ms", "latency: {uniform: [1ms]}", "$.links.up.latency"),
        ("latency: 5ms", "latency: {gamma: 1ms}", "$.links.up.latency"),
    ],
)
def test_it_refuses_what_the_loader_refuses(right: str, wrong: str, where: str) -> None:
    assert right in MINIMAL
    assert mistakes(MINIMAL) == []
    assert mistakes(MINIMAL.replace(right, wrong)) == [where]


def test_every_field_is_described() -> None:
    for name, part in {"Scenario": SCHEMA, **SCHEMA["$defs"]}.items():
        for field, form in fields(part).items():
            if "const" not in form and "constant" not in fields(part):
                assert form.get("description"), f"{name}.{field}"


def test_defaults_are_written_as_a_scenario_writes_them() -> None:
    for part in SCHEMA["$defs"].values():
        for field, form in fields(part).items():
            if form.get("default") is not None:
                own = {"$defs": SCHEMA["$defs"], **form}
                assert not list(jsonschema.Draft202012Validator(own).iter_errors(form["default"])), (field, form)
