"""Writes the artifacts of one trained model, all from the same weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import safetensors.torch
import torch

from tierwise.models.from_torch import from_torch
from tierwise.models.onnx import to_onnx
from tierwise.models.tflite import to_int8, to_tflite

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray
    from torch import nn

    from tierwise.core.tensors import Signature


def write_artifacts(
    module: nn.Sequential,
    signature: Signature,
    *,
    name: str,
    version: str,
    calibration: NDArray[np.float32],
    folder: Path,
) -> Iterator[str]:
    """Writes one artifact after the other into ``folder`` and yields its file name.

    ``module`` has one input and one output; ``calibration`` [n, ...] is the training data that int8 ranges come from.
    """
    network = from_torch(name, module, signature.inputs[0], signature.outputs[0])
    (folder / f"{name}.onnx").write_bytes(to_onnx(network, version))
    yield f"{name}.onnx"

    float_model = to_tflite(network)
    (folder / f"{name}.tflite").write_bytes(float_model)
    yield f"{name}.tflite"
    (folder / f"{name}-int8.tflite").write_bytes(to_int8(float_model, calibration))
    yield f"{name}-int8.tflite"

    torch.save(
        {"architecture": name, "state_dict": module.state_dict(), "version": version},
        folder / f"{name}.pt",
    )
    yield f"{name}.pt"
    # Not save_file: that makes files which only their owner may read, and a container runs as somebody else.
    weights = safetensors.torch.save(module.state_dict(), {"architecture": name, "version": version})
    (folder / f"{name}.safetensors").write_bytes(_ordered(weights))
    yield f"{name}.safetensors"
    _write_exported(module, signature, calibration, folder / f"{name}.pt2")
    yield f"{name}.pt2"


def _ordered(safetensors_file: bytes) -> bytes:
    """The same file with the keys of its header in order: the library writes its metadata in random order.

    A file is the header's size (8 bytes, little-endian), the header as JSON padded with spaces, and the tensors.
    """
    size = int.from_bytes(safetensors_file[:8], "little")
    header = msgspec.json.encode(msgspec.json.decode(safetensors_file[8 : 8 + size]), order="sorted")
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + safetensors_file[8 + size :]


def _write_exported(module: nn.Module, signature: Signature, samples: NDArray[np.float32], path: Path) -> None:
    """``torch.export`` with a free batch dimension; the signature rides along as ``signature.json``."""
    program = torch.export.export(
        module, (torch.from_numpy(samples[:2].copy()),), dynamic_shapes=({0: torch.export.Dim("batch", min=1)},)
    )
    for node in program.graph.nodes:
        # Stack traces hold paths of this machine: nobody's business, and two machines would write different files.
        node.meta.pop("stack_trace", None)
    torch.export.save(program, path, extra_files={"signature.json": msgspec.json.encode(signature).decode()})
