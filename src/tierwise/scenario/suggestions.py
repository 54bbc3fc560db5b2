"""What was meant by an unknown key: a field of that section whose name is nearly the same."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from tierwise.core.suggest import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pydantic import BaseModel

    from tierwise.scenario.document import Step

_FEW = 8


def suggestion(location: Sequence[Step], kind: type[BaseModel]) -> str:
    """`` (did you mean `period`?)`` or the section's few fields, for pydantic's location of an unknown key."""
    found = _sections(_schema(kind), location[:-1])
    fields = sorted({name for section in found for name in section.get("properties", {})})
    if meant := did_you_mean(str(location[-1]), fields):
        return meant
    return f" (known: {', '.join(fields)})" if 0 < len(fields) <= _FEW else ""


@functools.cache
def _schema(kind: type[BaseModel]) -> dict[str, Any]:
    return kind.model_json_schema()


def _sections(schema: dict[str, Any], location: Sequence[Step]) -> list[dict[str, Any]]:
    """Schemas of the sections that may stand at a location; steps that name an alternative choose among them."""
    here = [schema]
    for step in location:
        inner = [form for part in here for form in _inner(schema, part, step)]
        here = inner or [part for part in here if _is_called(part, step)] or here
    return here


def _inner(schema: dict[str, Any], part: dict[str, Any], step: Step) -> list[dict[str, Any]]:
    form = part.get("items") if isinstance(step, int) else part.get("properties", {}).get(step)
    if form is None and isinstance(step, str) and isinstance(part.get("additionalProperties"), dict):
        form = part["additionalProperties"]
    return [] if form is None else list(_alternatives(schema, form))


def _alternatives(schema: dict[str, Any], form: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if "$ref" in form:
        yield from _alternatives(schema, schema["$defs"][form["$ref"].rpartition("/")[2]])
    elif choices := form.get("anyOf", form.get("oneOf")):
        for choice in choices:
            yield from _alternatives(schema, choice)
    else:
        yield form


def _is_called(part: dict[str, Any], tag: Step) -> bool:
    """Whether a tag of pydantic's names this alternative: by the value of its first key, or by that key."""
    fields = part.get("properties", {})
    return tag in fields or any(form.get("const") == tag for form in fields.values())
