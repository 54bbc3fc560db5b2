"""The reference of the scenario language and of profiles, made from their JSON Schemas."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from tierwise.scenario.json_schema import scenario_schema
from tierwise.scenario.profile import Profile
from tierwise.scenario.units import DIMENSIONS

if TYPE_CHECKING:
    from collections.abc import Iterator

_PAGE = """\
# The scenario language

Every section and field of a scenario file. How to write one, and what becomes of it: [simulator.md](simulator.md).

`scenario.schema.json` beside this page is the JSON Schema (also `tierwise simulate --schema`). Editors that speak the
YAML language server complete and check a scenario that begins with

```yaml
# yaml-language-server: $schema=scenario.schema.json
```

A quantity is a number with its unit; a bare number is refused, except 0 and fractions:

{quantities}

A distribution is a quantity or one of `{{uniform: [LOW, HIGH]}}`, `{{exponential: MEAN}}`, `{{normal: {{mean, sd}}}}`,
`{{lognormal: {{median, sigma}}}}`, `{{pareto: {{minimum, shape}}}}`, `{{empirical: [VALUE, …]}}`.
"""
# A discriminator says which of several sections is meant.
_KINDS = ("pattern", "fault")


def scenario_page() -> str:
    """Markdown of every section: its fields, what they hold, their defaults."""
    schema = scenario_schema()
    sections = {"Scenario": schema} | {name: schema["$defs"][name] for name in _in_order(schema)}
    titles = {name: _title(name, definition) for name, definition in sections.items()}
    words = {name: f"[{name}](#{_anchor(title)})" for name, title in titles.items()}
    words |= {name: form["x-quantity"] for name, form in schema["$defs"].items() if "x-quantity" in form}
    page = _PAGE.format(quantities="\n".join(_quantities()))
    return "\n".join([page, *(_section(titles[name], form, words) for name, form in sections.items())])


def profile_table() -> str:
    """Markdown of the keys of a profile: whether each is needed, and what it says."""
    schema = Profile.model_json_schema()
    rows = ["| key | | |", "| --- | --- | --- |", *_keys(schema, schema, "")]
    return "\n".join(rows) + "\n"


def _keys(schema: dict[str, Any], part: dict[str, Any], prefix: str) -> Iterator[str]:
    for name, form in part["properties"].items():
        needed = "needed" if name in part.get("required", []) else ""
        yield f"| `{prefix}{name}` | {needed} | {form['description']} |"
        several = "items" in form
        choices = [form["items"]] if several else form.get("anyOf", [form])
        for target in (_target(choice["$ref"]) for choice in choices if "$ref" in choice):
            yield from _keys(schema, schema["$defs"][target], f"{prefix}{name}{'[]' if several else ''}.")


def _quantities() -> list[str]:
    rows = []
    for dimension in DIMENSIONS:
        units = ", ".join(f"`{unit}`" for unit in dimension.units)
        rows.append(f"| {dimension.name} | {units} | `{dimension.example}` |")
    return ["| quantity | units | e.g. |", "| --- | --- | --- |", *rows]


def _in_order(schema: dict[str, Any]) -> list[str]:
    """Sections as a reader meets them: those of the file first, each followed by its own."""
    found: list[str] = []

    def visit(node: object) -> None:
        match node:
            case {"$ref": str(reference)}:
                name = _target(reference)
                if name not in found and "x-quantity" not in schema["$defs"][name]:
                    found.append(name)
                    visit({key: value for key, value in schema["$defs"][name].items() if key != "discriminator"})
            case dict():
                for value in node.values():
                    visit(value)
            case list():
                for value in node:
                    visit(value)

    visit(schema["properties"])
    return found


def _target(reference: str) -> str:
    return reference.rpartition("/")[2]


def _title(name: str, definition: dict[str, Any]) -> str:
    fields = definition.get("properties", {})
    fixed = (f" (`{kind}: {fields[kind]['const']}`)" for kind in _KINDS if kind in fields)
    return name + next(fixed, "") if name != "Scenario" else "The file"


def _anchor(title: str) -> str:
    """As GitHub makes it of a heading."""
    return re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")


def _section(title: str, definition: dict[str, Any], words: dict[str, str]) -> str:
    lines = [f"## {title}", "", definition["description"].replace("``", "`"), ""]
    if "properties" not in definition:
        return "\n".join([*lines, f"{_holds(definition, words)}.", ""])
    needed = definition.get("required", [])
    lines += ["| field | holds | default | |", "| --- | --- | --- | --- |"]
    for name, form in definition["properties"].items():
        if name not in _KINDS:
            default = "needed" if name in needed else _default(form)
            lines.append(f"| `{name}` | {_holds(form, words)} | {default} | {form['description']} |")
    return "\n".join([*lines, ""])


def _default(form: dict[str, Any]) -> str:
    value = form.get("default")
    if value is None or value == "":
        return ""
    return f"`{value}`" if isinstance(value, str) else f"`{json.dumps(value)}`"


def _holds(form: dict[str, Any], words: dict[str, str]) -> str:
    """What may stand there, in words."""
    match form:
        case {"$ref": str(reference)}:
            return words[_target(reference)]
        case {"oneOf": list(several)} | {"anyOf": list(several)}:
            found = [_holds(one, words) for one in several if one.get("type") != "null"]
            return ", or ".join(dict.fromkeys(found))
        case {"type": "array", "items": items}:
            return f"list of {_holds(items, words)}"
        case {"type": "object", "additionalProperties": dict(values)}:
            return f"by name: {_holds(values, words)}"
    return _plain(form)


def _plain(form: dict[str, Any]) -> str:
    if "const" in form:
        return f"`{json.dumps(form['const'])}`"
    if "enum" in form:
        return " or ".join(f"`{value}`" for value in form["enum"])
    low, high = form.get("minimum"), form.get("maximum")
    bounds = "" if low is None else f" ≥ {low}" if high is None else f", {low} to {high:,}"
    kind = "path" if form.get("format") == "path" else {"string": "text"}.get(form["type"], form["type"])
    return kind + bounds
