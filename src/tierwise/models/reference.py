"""The table of a card's keys in ``docs/models.md``, made from the card itself."""

from __future__ import annotations

from typing import Any, get_args, get_type_hints

import msgspec

from tierwise.models.card import Artifact, DataSource, ModelCard

_SECTIONS: dict[str, type[msgspec.Struct]] = {"": ModelCard, "artifacts[].": Artifact, "data.": DataSource}


def card_table() -> str:
    """Markdown: key, whether it is needed, what it says."""
    lines = ["| key | | |", "| --- | --- | --- |"]
    for prefix, struct in _SECTIONS.items():
        hints = get_type_hints(struct, include_extras=True)
        lines += [
            f"| `{prefix}{field.name}` | {'needed' if field.required else ''} | {_description(hints[field.name])} |"
            for field in msgspec.structs.fields(struct)
        ]
    return "\n".join(lines) + "\n"


def _description(hint: Any) -> str:  # noqa: ANN401 - a type
    """What the key's own annotation says, outside or inside of ``… | None``."""
    found = [one.description for one in _parts(hint) if isinstance(one, msgspec.Meta) and one.description]
    return found[0].replace("|", "\\|")


def _parts(hint: Any) -> list[Any]:  # noqa: ANN401 - a type
    """What annotates a type, the outermost first."""
    here = list(getattr(hint, "__metadata__", ()))
    return [*here, *(part for argument in get_args(hint) for part in _parts(argument))]
