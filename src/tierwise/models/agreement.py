"""Whether a model card says of a file what the file says of itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tierwise.core.errors import ModelFileError
from tierwise.models.card import CARD_NAME
from tierwise.models.misfits import Misfit

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tierwise.core.tensors import Signature, TensorSpec
    from tierwise.models.card import Artifact, ModelCard


def check_agreement(card: ModelCard, file: Path, signature: Signature) -> None:
    """Compares the card beside ``file``, which lists it, with the ``signature`` that its runtime has read from it.

    Raises ``ModelFileError`` with a line for everything that is otherwise in the file.
    """
    from tierwise.models.yaml import located  # noqa: PLC0415  only a card that is wrong needs it

    artifact = next(listed for listed in card.artifacts if listed.file == file.name)
    if problems := list(disagreements(card, artifact, signature)):
        told = located(file.with_name(CARD_NAME), problems)
        raise ModelFileError(f"{told}\n`tierwise model card {file.parent}` brings the card up to date")


def disagreements(card: ModelCard, artifact: Artifact, signature: Signature) -> Iterator[Misfit]:
    """What the card says of ``artifact`` that its ``signature`` does not.

    Names and batch size may differ from file to file, and a sample may come flat, so shapes are compared by the number
    of values in a sample. The dtypes of the signature are those of the first float artifact.
    """
    place = card.artifacts.index(artifact)
    suffix, dtype = artifact.file.rpartition(".")[2].lower(), dtype_of(signature)
    if suffix != artifact.format:
        yield Misfit(("artifacts", place, "format"), f"{artifact.file} is {suffix}, the card says {artifact.format}")
    if dtype != artifact.dtype:
        yield Misfit(("artifacts", place, "dtype"), f"{artifact.file} is {dtype}, the card says {artifact.dtype}")
    is_first = artifact == next((one for one in card.artifacts if one.dtype != "int8"), None)
    for kind in ("inputs", "outputs"):
        said: tuple[TensorSpec, ...] = getattr(card.signature, kind)
        found: tuple[TensorSpec, ...] = getattr(signature, kind)
        if len(said) != len(found):
            names = ", ".join(spec.name for spec in found)
            yield Misfit(("signature", kind), f"{artifact.file} has {len(found)} ({names}), the card says {len(said)}")
            continue
        for index, (ours, theirs) in enumerate(zip(said, found, strict=True)):
            where = ("signature", kind, index)
            if theirs.sample_size is not None and ours.sample_size != theirs.sample_size:
                told = f"{artifact.file} has {_shape(theirs)}, the card says {_shape(ours)}"
                yield Misfit((*where, "shape"), told)
            if is_first and theirs.scale is None and ours.dtype != theirs.dtype:
                told = f"{artifact.file} has {theirs.dtype}, the card says {ours.dtype}"
                yield Misfit((*where, "dtype"), told)


def is_int8(signature: Signature) -> bool:
    """Whether all that goes in and comes out is int8: what a microcontroller takes."""
    return all(spec.dtype == "int8" for spec in (*signature.inputs, *signature.outputs))


def dtype_of(signature: Signature) -> str:
    """The dtype that a card gives the artifact with this signature."""
    return "int8" if is_int8(signature) else (*signature.inputs, *signature.outputs)[0].dtype


def _shape(spec: TensorSpec) -> str:
    return f"[{', '.join('null' if size is None else str(size) for size in spec.shape)}]"
