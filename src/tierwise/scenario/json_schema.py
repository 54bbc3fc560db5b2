"""The scenario language as a JSON Schema, for editors."""

from __future__ import annotations

from typing import Any

from tierwise.scenario.schema import Scenario


def scenario_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of a scenario file. Short forms (a rule as text, one place in `from`) are admitted."""
    schema = Scenario.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "tierwise scenario"
    properties = schema["properties"]
    rule = properties["placement"]["additionalProperties"]
    short: dict[str, Any] = {"type": "string", "description": "a tier, or an expression that gives one"}
    by_group = {**properties["placement"], "additionalProperties": {"anyOf": [short, rule]}}
    properties["placement"] = {
        "description": "one rule, or one for each group",
        "anyOf": [short, rule, by_group],
    }
    start = schema["$defs"]["Link"]["properties"]["from"]
    schema["$defs"]["Link"]["properties"]["from"] = {"anyOf": [{"type": "string"}, start]}
    return schema
