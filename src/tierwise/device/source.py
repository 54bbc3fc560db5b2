"""What a device is built from: an int8 file, and what its model card says of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from tierwise.core.errors import ModelError
from tierwise.models.card import CARD_NAME, find_card, load_card, verify

if TYPE_CHECKING:
    from pathlib import Path


class DeviceModel(NamedTuple):
    """An int8 ``.tflite``; without a card, it has no name but the file's."""

    file: Path
    name: str | None = None
    version: str = "1"
    labels: tuple[str, ...] = ()
    threshold: float | None = None


def find_device_model(path: Path) -> DeviceModel:
    """The int8 file of a model folder or its ``model.yaml``; or a file, with the card beside it where that lists it.

    Raises ``ModelError`` where the card has no such file, ``ModelIntegrityError`` where the file is another one.
    """
    if path.is_dir() or path.name == CARD_NAME:
        card = load_card(path)
        artifact = next((one for one in card.artifacts if one.format == "tflite" and one.dtype == "int8"), None)
        if artifact is None:
            raise ModelError(f"{path}: {card.name} has no int8 .tflite; docs/models.md shows how to make one")
        file = (path if path.is_dir() else path.parent) / artifact.file
    else:
        found = find_card(path)
        if found is None:
            return DeviceModel(path)
        file, card = path, found
    verify(card, file)
    return DeviceModel(file, card.name, card.version, card.labels, card.threshold)
