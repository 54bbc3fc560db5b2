"""HTML and SVG from calls. Text is escaped unless it came out of this module, so data can never become markup."""

from __future__ import annotations

import html
import re

_NAME = re.compile(r"[a-zA-Z][a-zA-Z0-9-]*")
_VOID = frozenset({"br", "hr", "img", "meta"})


class Markup(str):
    """A string that is markup already."""

    __slots__ = ()


def element(tag: str, *children: str, **attributes: str | float | None) -> Markup:
    """``<tag attributes>children</tag>``.

    Children that are not ``Markup`` are escaped, attribute values always. ``class_`` gives ``class`` and
    ``aria_label`` gives ``aria-label``; an attribute that is ``None`` is left out.
    """
    pairs = [(name.rstrip("_").replace("_", "-"), value) for name, value in attributes.items() if value is not None]
    for name in (tag, *(name for name, _ in pairs)):
        if not _NAME.fullmatch(name):
            raise ValueError(f"not a name of an element or attribute: {name!r}")
    opened = "".join(f' {name}="{html.escape(str(value))}"' for name, value in pairs)
    if tag in _VOID:
        return Markup(f"<{tag}{opened}>")
    return Markup(f"<{tag}{opened}>{join(*children)}</{tag}>")


def join(*children: str) -> Markup:
    """Children one after another."""
    return Markup("".join(child if isinstance(child, Markup) else html.escape(child) for child in children))
