"""The signature of a PyTorch module: stated in its file or by the module, else found by trying it out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import torch
from torch import nn

from tierwise.core.errors import ModelFileError
from tierwise.core.tensors import Signature, TensorSpec
from tierwise.runtimes.files import one_line

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    Shape = tuple[int | None, ...]

# Side lengths tried for images and sequences. A model that takes two of them takes any.
_SIDES = (8, 16, 28, 32, 64, 96, 128, 160, 192, 224, 256, 299, 384, 512)
_BATCH = 2
_WEIGHT_RANK_AND_INPUT = {2: 0, 3: 1, 4: 2, 5: 3}  # rank of a layer's weight -> free dimensions of its input


def parse_signature(path: Path, found: object) -> Signature:
    """A signature from a file, JSON or plain dictionaries. Raises ``ModelFileError``."""
    try:
        if isinstance(found, bytes):
            return msgspec.json.decode(found, type=Signature)
        return found if isinstance(found, Signature) else msgspec.convert(found, Signature)
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise ModelFileError(f"{path}: its signature is not one: {one_line(error)}") from error


def derive_signature(path: Path, module: nn.Module) -> Signature:
    """The module's own ``signature``, else one with the names ``input`` and ``output`` that a trial run confirms.

    Candidates are the inputs that the module's linear, convolution and embedding layers take. Raises
    ``ModelFileError`` where none of them runs.
    """
    own = getattr(module, "signature", None)
    if isinstance(own, Signature):
        return own
    for dtype, shape in _candidates(module):
        tried = list(_tried_shapes(shape))
        runs = ((trial, _outputs(module, trial, dtype)) for trial in tried)
        working = [(trial, outputs) for trial, outputs in runs if outputs is not None][:2]
        if not working:
            continue
        free = len(working) > 1 and len(tried) > 1
        fixed = shape if free or len(tried) == 1 else working[0][0]
        name = str(dtype).removeprefix("torch.")
        return Signature(
            inputs=(TensorSpec("input", (None, *fixed), name),),
            outputs=tuple(_output_specs([outputs for _, outputs in working])),
        )
    raise ModelFileError(
        f"{path}: cannot tell which input the module takes; give it an attribute `signature` "
        "(tierwise.core.tensors.Signature) or export it to .pt2 or .onnx"
    )


def _candidates(module: nn.Module) -> Iterator[tuple[torch.dtype, Shape]]:
    """Sample shapes (``None`` = free) by layer, outermost first; told by weights, so scripted layers count too."""
    for layer in module.modules():
        weight = getattr(layer, "weight", None)
        kind = getattr(layer, "original_name", type(layer).__name__)
        if not isinstance(weight, torch.Tensor):
            continue
        if kind.startswith("Embedding"):
            yield torch.int64, (None,)
        elif weight.ndim in _WEIGHT_RANK_AND_INPUT:
            channels = int(weight.shape[1]) * int(getattr(layer, "groups", 1))
            yield weight.dtype, (channels, *[None] * _WEIGHT_RANK_AND_INPUT[weight.ndim])


def _tried_shapes(shape: Shape) -> Iterator[tuple[int, ...]]:
    for side in _SIDES if None in shape else _SIDES[:1]:
        yield tuple(side if size is None else size for size in shape)


def _outputs(module: nn.Module, sample_shape: tuple[int, ...], dtype: torch.dtype) -> list[torch.Tensor] | None:
    """What the module gives for a batch of zeros, or ``None`` where it takes no such input or gives no batch."""
    try:
        with torch.inference_mode():
            answer: Any = module(torch.zeros((_BATCH, *sample_shape), dtype=dtype))
    except Exception:  # noqa: BLE001  # a trial: any failure only means that this is not the shape
        return None
    found = list(answer) if isinstance(answer, (tuple, list)) else [answer]
    fits = all(isinstance(value, torch.Tensor) and value.shape[:1] == (_BATCH,) for value in found)
    return found if found and fits else None


def _output_specs(runs: list[list[torch.Tensor]]) -> Iterator[TensorSpec]:
    """Dimensions that differ between two runs are free."""
    for at, tensor in enumerate(runs[0]):
        same = [len({tuple(run[at].shape)[axis] for run in runs}) == 1 for axis in range(1, tensor.ndim)]
        sizes = [size if fixed else None for size, fixed in zip(tensor.shape[1:], same, strict=True)]
        name = "output" if len(runs[0]) == 1 else f"output_{at}"
        yield TensorSpec(name, (None, *sizes), str(tensor.dtype).removeprefix("torch."))
