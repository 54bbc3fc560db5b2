"""Which model a run means: one that tierwise can create, a folder with a card, or somebody's bare file."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec

from tierwise.core.errors import ConfigurationError, ModelFileError
from tierwise.core.suggest import did_you_mean
from tierwise.core.tensors import Signature  # noqa: TC001 - msgspec resolves it when it decodes
from tierwise.live.processes import child_process
from tierwise.live.training import train_in_child
from tierwise.models.card import CARD_NAME, ModelCard, find_card, load_card
from tierwise.models.catalog import RECIPES
from tierwise.runtimes.loading import runtimes_for
from tierwise.serving.describe import bare_card

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundModel:
    """``path`` is what a service takes as its model; ``folder`` is where the files of ``card`` stand."""

    path: Path
    folder: Path
    card: ModelCard

    @property
    def has_int8(self) -> bool:
        """Whether there is something for a microcontroller."""
        return any(one.format == "tflite" and one.dtype == "int8" for one in self.card.artifacts)

    def runs_on(self, runtime: str) -> bool:
        """Whether there is a file for a runtime."""
        return any(runtime in artifact.runtimes for artifact in self.card.artifacts)


class _Inspected(msgspec.Struct):
    """What is needed of ``tierwise model inspect --json``."""

    signature: Signature


async def find_model(given: str, models: Path, *, on_step: Callable[[str], None]) -> FoundModel:
    """The model that ``given`` means. One that tierwise knows is created in ``models`` where it is not there yet.

    Raises ``ConfigurationError`` where it is none of the three, ``ModelError`` where it cannot be used.
    """
    path = Path(given)
    kind = _kind(path)
    if kind == "artifact":
        return await _of_file(path, on_step)
    if kind == "model":
        folder = path.parent if path.name == CARD_NAME else path
        return FoundModel(path=folder, folder=folder, card=load_card(folder))
    if given in RECIPES:
        return await _created(given, models, on_step)
    if kind == "artifacts":
        raise ConfigurationError(f"--model {given}: there is no {CARD_NAME}; `tierwise model card {given}` writes it")
    raise ConfigurationError(
        f"--model {given}: neither one of {', '.join(RECIPES)} nor a model file nor a folder with a {CARD_NAME}"
        f"{did_you_mean(given, RECIPES)}"
    )


def _kind(path: Path) -> Literal["artifact", "model", "artifacts"] | None:
    """What stands there: a file, a model with its card, or the files of one without; ``None`` for anything else."""
    try:
        if path.is_file():
            return "model" if path.name == CARD_NAME else "artifact"
        if (path / CARD_NAME).is_file():
            return "model"
        return "artifacts" if path.is_dir() and any(runtimes_for(file) for file in path.iterdir()) else None
    except (OSError, ValueError):  # a name that no file can have, or a folder that we may not look into
        return None


async def _created(name: str, models: Path, on_step: Callable[[str], None]) -> FoundModel:
    folder = models / name
    if not ((folder / CARD_NAME).is_file() and load_card(folder).version == RECIPES[name].version):
        on_step(f"creating the model {name}, once")
        await train_in_child(name, folder, on_step=on_step)
    return FoundModel(path=folder, folder=folder, card=load_card(folder))


async def _of_file(file: Path, on_step: Callable[[str], None]) -> FoundModel:
    """With the card beside the file where that lists it; then its other files count too."""
    if not runtimes_for(file):
        raise ModelFileError(f"{file}: not a model file: expected .onnx, .tflite, .pt2, .pt, .pth or .safetensors")
    card = find_card(file)
    if card is not None:
        return FoundModel(path=file.parent, folder=file.parent, card=card)
    on_step(f"reading {file.name}")
    return FoundModel(path=file, folder=file.parent, card=bare_card(file, await _signature(file)))


async def _signature(file: Path) -> Signature:
    """Read in a process of its own: a process that measures loads no runtime."""
    command: list[str | Path] = [sys.executable, "-m", "tierwise", "model", "inspect", file, "--json"]
    async with child_process(command, name=f"inspection of {file.name}") as child:
        if await child.wait() == 0:
            found = [line for line in child.lines if line.startswith("{")]
            return msgspec.json.decode(found[-1], type=_Inspected).signature
        said = [line.removeprefix("tierwise: ") for line in child.lines if line.startswith("tierwise: ")]
        raise ModelFileError(said[-1] if said else child.last_words())
