"""The scenario language as a JSON Schema, for editors."""

from __future__ import annotations

from typing import Any

from tierwise.scenario.schema import Scenario
from tierwise.scenario.units import format_ns


def scenario_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of a scenario file. Short forms (a rule as text, one place in `from`, a
    profile in place of a source) are admitted.

    ``x-quantity`` marks the definitions of values with a unit and names what they measure.
    """
    schema = Scenario.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "tierwise scenario"
    _admit_short_forms(schema)
    quantities: dict[str, Any] = {}
    named: dict[str, Any] = _name_quantities(schema, quantities)
    named["$defs"] |= quantities
    return named


def _admit_short_forms(schema: dict[str, Any]) -> None:
    by_group = schema["properties"]["placement"]
    schema["$defs"]["Rule"] = {
        "description": "Which tier answers: a tier, an expression that gives one, or a section.",
        "anyOf": [{"type": "string"}, by_group["additionalProperties"]],
    }
    rule = {"$ref": "#/$defs/Rule"}
    schema["properties"]["placement"] = {
        "description": by_group.pop("description"),
        "anyOf": [rule, {**by_group, "additionalProperties": rule}],
    }
    artifact = schema["$defs"]["Artifact"]
    artifact["anyOf"] = [{"required": [name]} for name in (*artifact.pop("required"), "profile")]
    places = schema["$defs"]["Link"]["properties"]["from"]
    schema["$defs"]["Link"]["properties"]["from"] = {
        "description": places.pop("description"),
        "anyOf": [{"type": "string"}, places],
    }


def _name_quantities(node: Any, found: dict[str, Any]) -> Any:  # noqa: ANN401 -- any JSON
    """The same schema with each quantity defined once, in ``found``, and defaults written as a scenario does."""
    if isinstance(node, list):
        return [_name_quantities(item, found) for item in node]
    if not isinstance(node, dict):
        return node
    if "x-quantity" not in node:
        return {key: _name_quantities(value, found) for key, value in node.items()}
    quantity = node["x-quantity"]
    name = quantity.replace(" ", "-")
    form = {key: node[key] for key in ("x-quantity", "examples", "anyOf") if key in node}
    found.setdefault(name, {**form, "anyOf": _name_quantities(form["anyOf"], found)})
    own = {key: node[key] for key in ("title", "description") if key in node}
    if "default" in node:
        own["default"] = _written(quantity, node["default"])
    return {"$ref": f"#/$defs/{name}", **own}


def _written(quantity: str, value: float) -> object:
    if quantity == "duration" and value:
        return format_ns(int(value))
    if quantity == "size" and value:
        return f"{value:g}B"
    return value
