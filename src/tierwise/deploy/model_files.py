"""The files of a model that a tier needs, checked and copied."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import msgspec

from tierwise.core.errors import ModelFileError
from tierwise.models.agreement import check_agreement
from tierwise.models.card import CARD_NAME, ModelCard, load_card, sha256_of, verify
from tierwise.models.fetch import SUFFIXES
from tierwise.runtimes.loading import load_runtime, missing_package, runtimes_for, suffixes_of

if TYPE_CHECKING:
    from pathlib import Path

RUNTIMES = {"edge": ("onnx", "litert"), "cloud": ("torch",)}
"""What the image of a tier can execute, the runtime that it takes by itself first."""


class ModelFiles(msgspec.Struct, frozen=True):
    """A model as it is deployed: ``files`` are copied, the first is the one whose hash is ``sha256``."""

    name: str
    version: str
    files: tuple[Path, ...]
    sha256: str
    total_bytes: int

    tiers: tuple[str, ...]
    """Where it can be served."""

    @property
    def has_card(self) -> bool:
        """Whether the first file is a model card, which then names and checks the others."""
        return self.files[0].name == CARD_NAME

    @property
    def path_in_container(self) -> str:
        """``MODEL_PATH``."""
        return "/app/models" if self.has_card else f"/app/models/{self.files[0].name}"


def find_model_files(path: Path, tiers: tuple[str, ...]) -> ModelFiles:
    """What ``tiers`` need of the model at ``path`` (a folder with ``model.yaml``, that file, or one artifact).

    Raises ``ModelFileError`` where it is missing, has nothing for one of the tiers, or its card says something else
    than its files, ``ModelIntegrityError`` where a file is not the one that the card names.
    """
    if not path.exists():
        raise ModelFileError(f"no model at {path}")
    if path.is_dir() or path.name == CARD_NAME:
        folder = path if path.is_dir() else path.parent
        card = load_card(folder)
        return _of_card(card, folder, tiers)
    if path.suffix not in SUFFIXES:
        raise ModelFileError(f"{path}: expected a model folder or a file with one of {', '.join(sorted(SUFFIXES))}")
    for tier in tiers:
        if not set(runtimes_for(path)) & set(RUNTIMES[tier]):
            raise ModelFileError(
                f"{path}: the {tier} tier runs {_suffixes(tier)}; give it such a file, or a folder with one"
            )
    return _described(path.stem, "1", (path,), tiers)


def copy_files(model: ModelFiles, folder: Path) -> None:
    """Replaces ``folder`` by the files of the model, readable for the user of the container."""
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    folder.chmod(0o755)
    for file in model.files:
        shutil.copyfile(file, folder / file.name)
        (folder / file.name).chmod(0o644)


def _of_card(card: ModelCard, folder: Path, tiers: tuple[str, ...]) -> ModelFiles:
    wanted: list[str] = []
    for tier in tiers:
        runtimes = RUNTIMES[tier]
        card.artifact_for(runtimes[0])  # raises where the tier would find nothing to serve
        wanted += [a.file for a in card.artifacts if set(runtimes) & set(a.runtimes) and (folder / a.file).is_file()]
    files = [folder / name for name in dict.fromkeys(wanted)]
    for file in files:
        verify(card, file)
        _compare(card, file)
    return _described(card.name, card.version, (folder / CARD_NAME, *files), tiers)


def _compare(card: ModelCard, file: Path) -> None:
    """What the service would refuse is refused here, as far as what reads the file is installed.

    PyTorch takes seconds to import; its files are left to the service.
    """
    runtime = runtimes_for(file)[0]
    if runtime == "torch" or missing_package(runtime) is not None:
        return
    loaded = load_runtime(file)
    try:
        check_agreement(card, file, loaded.signature)
    finally:
        loaded.close()


def _suffixes(tier: str) -> str:
    return " or ".join(suffix for runtime in RUNTIMES[tier] for suffix in suffixes_of(runtime))


def _described(name: str, version: str, files: tuple[Path, ...], tiers: tuple[str, ...]) -> ModelFiles:
    size = sum(file.stat().st_size for file in files)
    return ModelFiles(name, version, files, sha256_of(files[0]), size, tiers)
