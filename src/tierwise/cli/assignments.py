"""``PATH=VALUE`` as the command line takes it."""

from __future__ import annotations

import click


def split_values(text: str) -> list[str]:
    """``a,b,c`` at the commas that stand outside brackets."""
    parts, depth = [""], 0
    for character in text:
        depth += (character in "{[") - (character in "}]")
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts]


def parse_assignments(texts: tuple[str, ...], option: str, form: str = "PATH=VALUE") -> dict[str, str]:
    """``path=value`` as pairs; ``form`` is what was expected. Raises ``click.BadParameter``."""
    pairs = {}
    for text in texts:
        path, equals, value = text.partition("=")
        if not equals or not path:
            raise click.BadParameter(f"{text!r} is not {form}", param_hint=option)
        pairs[path] = value
    return pairs
