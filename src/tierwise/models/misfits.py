"""Everything in plain data that does not fit a struct, not just the first thing, in the words of the data's author."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

import msgspec

from tierwise.core.suggest import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

Step = str | int
_DEEPER = re.compile(r"\.([^.\[\]]+)|\[(\d+)\]")
"""A step of the path at the end of msgspec's messages: ``- at `$.shape[1]```."""
_NEEDS_QUOTES = re.compile(r"Expected `str( \| null)?`, got `(int|float|bool)`")


class Misfit(NamedTuple):
    """Where something does not fit (keys and indices from the root), and what about it."""

    where: tuple[Step, ...]
    what: str


def misfits(content: object, kind: Any) -> Iterator[Misfit]:  # noqa: ANN401 - a type, of which typing knows no type
    """All that keeps ``content`` from becoming a ``kind``: unknown and missing keys, and values of another type.

    Nothing where it fits. What a struct checks as a whole is told once its parts fit.
    """
    found = list(_inside(content, kind, ()))
    yield from found
    if not found:
        yield from _converted(content, kind, ())


def _inside(content: object, kind: Any, where: tuple[Step, ...]) -> Iterator[Misfit]:  # noqa: ANN401 - a type
    struct = _struct(kind)
    if struct is not None and isinstance(content, dict):
        yield from _of_struct(content, struct, where)
    elif (item := _item(kind)) is not None and isinstance(content, list):
        found = [one for index, value in enumerate(content) for one in _inside(value, item, (*where, index))]
        yield from found or _converted(content, kind, where)
    elif (words := _words(kind)) and isinstance(content, str) and content not in words:
        meant = did_you_mean(content, words)
        yield Misfit(where, f"expected one of {', '.join(words)}, got {content!r}{meant}")
    else:
        yield from _converted(content, kind, where)


def _of_struct(content: Mapping[Any, Any], struct: type[msgspec.Struct], where: tuple[Step, ...]) -> Iterator[Misfit]:
    hints = get_type_hints(struct, include_extras=True)
    fields = {field.encode_name: field for field in msgspec.structs.fields(struct)}
    for key in content:
        if key not in fields and struct.__struct_config__.forbid_unknown_fields:
            yield Misfit((*where, key), f"unknown key{did_you_mean(str(key), fields)}")
    for name, field in fields.items():
        if name in content:
            yield from _inside(content[name], hints[field.name], (*where, name))
        elif field.required:
            yield Misfit((*where, name), "is missing")


def _converted(content: object, kind: Any, where: tuple[Step, ...]) -> Iterator[Misfit]:  # noqa: ANN401 - a type
    try:
        msgspec.convert(content, kind)
    except msgspec.ValidationError as error:
        what, _, deeper = str(error).partition(" - at `")
        steps = (name or int(index) for name, index in _DEEPER.findall(deeper))
        yield Misfit((*where, *steps), f"{what[:1].lower()}{what[1:]}{_cure(what)}")


def _cure(what: str) -> str:
    """YAML reads ``1.0`` as a number and ``true`` as a boolean."""
    return "; put it in quotes" if _NEEDS_QUOTES.fullmatch(what) else ""


def _struct(kind: Any) -> type[msgspec.Struct] | None:  # noqa: ANN401 - a type
    """The struct that ``kind`` is, also where it may be ``None`` or is annotated."""
    choices = () if get_origin(kind) is tuple else (kind, *get_args(kind))
    return next((one for one in choices if isinstance(one, type) and issubclass(one, msgspec.Struct)), None)


def _item(kind: Any) -> Any:  # noqa: ANN401 - a type
    """The type of the items of a ``tuple[Struct, ...]`` or of one of words; ``None`` for everything else."""
    if get_origin(kind) is Annotated:
        kind = get_args(kind)[0]
    arguments = get_args(kind)
    is_ours = get_origin(kind) is tuple and (_struct(arguments[0]) is not None or _words(arguments[0]))
    return arguments[0] if is_ours else None


def _words(kind: Any) -> tuple[str, ...]:  # noqa: ANN401 - a type
    """What ``kind`` may be where that is a choice: a ``Literal``, or text with ``words`` in its ``Meta``."""
    if get_origin(kind) is Literal:
        return get_args(kind)
    if get_origin(kind) is not Annotated:
        return ()
    inner, *metas = get_args(kind)
    extras = (meta.extra for meta in metas if isinstance(meta, msgspec.Meta) and meta.extra)
    return next((extra["words"] for extra in extras if "words" in extra), None) or _words(inner)
