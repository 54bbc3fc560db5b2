"""What was meant by an unknown key: a field of that section whose name is nearly the same."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from tierwise.core.suggest import did_you_mean
from tierwise.scenario.schema import Scenario

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tierwise.scenario.document import Step

_FEW = 8


def suggestion(location: Sequence[Step]) -> str:
    """`` (did you mean `period`?)`` or the section's few fields, for pydantic's location of an unknown key."""
    fields = sorted({name for section in _sections(location[:-1]) for name in section.get("properties", {})})
    if meant := did_you_mean(str(location[-1]), fields):
        return meant
    return f" (known: {', '.join(fields)})" if 0 < len(fields) <= _FEW else ""


@functools.cache
def _schema() -> dict[str, Any]:
    return Scenario.model_json_schema()


def _sections(location: Sequence[Step]) -> list[dict[str, Any]]:
    """Schemas of the sections that may stand at a location; steps that name an alternative choose among them."""
    here = [_schema()]
    for step in location:
        inner = [form for part in here for form in _inner(part, step)]
        here = inner or [part for part in here if _is_called(part, step)] or here
    return here


def _inner(part: dict[str, Any], step: Step) -> list[dict[str, Any]]:
    form = part.get("items") if isinstance(step, int) else part.get("properties", {}).get(step)
    if form is None and isinstance(step, str) and isinstance(part.get("additionalProperties"), dict):
        form = part["additionalProperties"]
    return [] if form is None else list(_alternatives(form))


def _alternatives(form: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if "$ref" in form:
        yield from _alternatives(_schema()["$defs"][form["$ref"].rpartition("/")[2]])
    elif choices := form.get("anyOf", form.get("oneOf")):
        for choice in choices:
            yield from _alternatives(choice)
    else:
        yield form


def _is_called(part: dict[str, Any], tag: Step) -> bool:
    """Whether a tag of pydantic's names this alternative: by the value of its first key, or by that key."""
    fields = part.get("properties", {})
    return tag in fields or any(form.get("const") == tag for form in fields.values())
