"""From plain values to a typed section: every mistake at once, each with its line and column."""

from __future__ import annotations

import reprlib
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ValidationError

from tierwise.core.suggest import did_you_mean
from tierwise.scenario.document import Document, Problem, ScenarioError, Step
from tierwise.scenario.suggestions import suggestion

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pydantic_core import ErrorDetails

Section = TypeVar("Section", bound=BaseModel)

_MAPPING, _WHOLE, _NUMBER = "expected a mapping", "expected a whole number", "expected a number"
_WORDS = {
    **dict.fromkeys(("model_type", "model_attributes_type", "dict_type", "mapping_type"), _MAPPING),
    **dict.fromkeys(("int_type", "int_parsing", "int_from_float", "int_parsing_size"), _WHOLE),
    **dict.fromkeys(("float_type", "float_parsing", "finite_number"), _NUMBER),
    **dict.fromkeys(("bool_type", "bool_parsing"), "expected true or false"),
    **dict.fromkeys(("string_type", "path_type", "string_unicode"), "expected text"),
    "list_type": "expected a list",
    "string_too_short": "must not be empty",
    "literal_error": "expected {expected}",
    "greater_than": "must be above {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be below {lt}",
    "less_than_equal": "must be at most {le}",
    "too_short": "needs at least {min_length} entries",
    "too_long": "takes at most {max_length} entries",
}
"""What pydantic's kinds of errors are called here."""

_REPR = reprlib.Repr()
_REPR.maxstring = _REPR.maxother = 60


def validated(kind: type[Section], data: object, document: Document) -> Section:
    """The values as a section of this kind. ``document`` knows where they stood. Raises ``ScenarioError``."""
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        raise ScenarioError([_told(kind, document, detail) for detail in error.errors(include_url=False)]) from error


def _told(kind: type[BaseModel], document: Document, detail: ErrorDetails) -> Problem:
    location: Sequence[Step] = detail["loc"]
    fault, context = detail["type"], detail.get("ctx", {})
    if fault == "extra_forbidden":
        return document.problem(location, f"unknown key{suggestion(location, kind)}", at_key=True)
    if fault == "missing":
        problem = document.problem(location[:-1], "")
        path = f"{problem.path}.{location[-1]}" if problem.path else str(location[-1])
        return Problem(problem.file, problem.line, problem.column, path, "is missing")
    if fault in {"union_tag_not_found", "union_tag_invalid"}:
        key = str(context.get("discriminator", "")).strip("'")
        expected = context.get("expected_tags")
        what = f"needs `{key}`" + (f", one of {expected}" if expected else "")
        what += did_you_mean(str(context.get("tag", "")), (name.strip("'") for name in str(expected or "").split(", ")))
    else:
        own = _WORDS.get(fault)
        what = detail["msg"].removeprefix("Value error, ") if own is None else own.format_map(context)
    return document.problem(location, f"{what} (got {_shown(detail['input'])})")


def _shown(value: Any) -> str:  # noqa: ANN401 -- whatever stood there
    return _REPR.repr(value)
