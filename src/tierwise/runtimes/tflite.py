"""Reads a ``.tflite`` file: its signature, and whether it is sound enough for an interpreter in C++.

An interpreter trusts what a file says of itself; a damaged one can end the process instead of raising. So every
table is read in Python first (which checks bounds) and every index, shape and size is compared with what it refers to.
The schema classes come from the library that will execute the file, as a parameter.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from tierwise.core.errors import ModelFileError
from tierwise.core.tensors import Signature, TensorSpec
from tierwise.runtimes.files import one_line, shortened

if TYPE_CHECKING:
    from pathlib import Path
    from types import ModuleType

_IDENTIFIER = b"TFL3"
_MAX_RANK = 8
# TensorType of the schema -> numpy name; what is missing cannot be an input or an output here.
_DTYPES = {
    0: "float32", 1: "float16", 2: "int32", 3: "uint8", 4: "int64", 6: "bool", 7: "int16", 9: "int8", 10: "float64",
    12: "uint64", 15: "uint32", 16: "uint16",
}  # fmt: skip
_QUANTIZED = {"int8", "uint8", "int16"}
_SCHEMA_TYPES = range(23)


def read_tflite(path: Path, schema: ModuleType) -> tuple[bytes, Signature]:
    """Contents and signature of a ``.tflite`` file.

    Names are those of the file's first SignatureDef, else of its tensors; ``None`` in a shape is a dimension that the
    file leaves free. Raises ``ModelFileError`` where the file is of another format, truncated or inconsistent.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ModelFileError(f"{path}: cannot read the model file: {error.strerror}") from error
    if content[4:8] != _IDENTIFIER:
        raise ModelFileError(f"{path}: not a .tflite file (it does not carry the identifier {_IDENTIFIER.decode()})")
    try:
        model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content, 0))
        problem = _problem(model)
        if problem is None:
            return content, _signature(path, model)
    except ModelFileError:
        raise
    except Exception as error:  # struct, index, value, type errors: whatever reading nonsense leads to
        raise ModelFileError(f"{path}: truncated or damaged .tflite file: {one_line(error)}") from error
    raise ModelFileError(f"{path}: truncated or damaged .tflite file: {problem}")


def _problem(model: Any) -> str | None:  # noqa: ANN401  # generated schema classes, one set a library
    """The first thing that contradicts another in the model, or ``None``."""
    if not model.subgraphs or not _list(model.subgraphs[0].inputs) or not _list(model.subgraphs[0].outputs):
        return "no graph with inputs and outputs"
    for graph in model.subgraphs:
        tensors = graph.tensors or []
        for tensor in tensors:
            if problem := _tensor_problem(tensor, model.buffers or []):
                return f"tensor {shortened(_text(tensor.name))}: {problem}"
        for number, operator in enumerate(graph.operators or []):
            if not 0 <= operator.opcodeIndex < len(model.operatorCodes or []):
                return f"operator {number} has no code"
            # -1 stands for an optional input that is left out.
            if _outside(operator.inputs, -1, tensors) or _outside(operator.outputs, 0, tensors):
                return f"operator {number} names a tensor that is not there"
        if _outside(graph.inputs, 0, tensors) or _outside(graph.outputs, 0, tensors):
            return "the graph names an input or output that is not there"
    return None


def _tensor_problem(tensor: Any, buffers: list[Any]) -> str | None:  # noqa: ANN401  # as above
    shape = _list(tensor.shape)
    if tensor.type not in _SCHEMA_TYPES or len(shape) > _MAX_RANK or any(size < 0 for size in shape):
        return f"impossible type {tensor.type} or shape {shape}"
    if not 0 <= tensor.buffer < len(buffers):
        return "its buffer is not there"
    data, dtype = buffers[tensor.buffer].data, _DTYPES.get(tensor.type)
    if data is not None and len(data) and dtype is not None and tensor.sparsity is None:
        expected = math.prod(shape) * np.dtype(dtype).itemsize
        if len(data) != expected:
            return f"{len(data)} bytes of data, expected {expected}"
    return _quantization_problem(tensor.quantization, shape)


def _quantization_problem(quantization: Any, shape: list[int]) -> str | None:  # noqa: ANN401  # as above
    scales = _list(quantization.scale) if quantization is not None else []
    if not scales:
        return None
    zero_points, axis = _list(quantization.zeroPoint), quantization.quantizedDimension
    if not all(math.isfinite(scale) and scale >= 0 for scale in scales):
        return "a scale that is not a positive number"
    if len(zero_points) not in {0, len(scales)}:
        return f"{len(scales)} scales, but {len(zero_points)} zero points"
    if len(scales) > 1 and not (0 <= axis < len(shape) and shape[axis] == len(scales)):
        return f"{len(scales)} scales do not fit the shape {shape}"
    return None


def _signature(path: Path, model: Any) -> Signature:  # noqa: ANN401  # as above
    graph = model.subgraphs[0]
    names = next((definition for definition in model.signatureDefs or [] if definition.subgraphIndex == 0), None)
    given = {
        kind: {entry.tensorIndex: _text(entry.name) for entry in getattr(names, kind, None) or []}
        for kind in ("inputs", "outputs")
    }
    return Signature(
        inputs=tuple(_spec(path, graph.tensors[at], given["inputs"].get(at)) for at in _list(graph.inputs)),
        outputs=tuple(_spec(path, graph.tensors[at], given["outputs"].get(at)) for at in _list(graph.outputs)),
    )


def _spec(path: Path, tensor: Any, name: str | None) -> TensorSpec:  # noqa: ANN401  # as above
    name = name or _text(tensor.name)
    dtype = _DTYPES.get(tensor.type)
    if dtype is None:
        raise ModelFileError(f"{path}: {name} is not a tensor of numbers that can be served (type {tensor.type})")
    shape = _list(tensor.shapeSignature) or _list(tensor.shape)
    sizes = tuple(None if size < 0 else size for size in shape)
    scales = _list(tensor.quantization.scale) if tensor.quantization is not None else []
    if dtype not in _QUANTIZED or not scales:
        return TensorSpec(name=name, shape=sizes, dtype=dtype)
    if len(scales) > 1 or scales[0] == 0:
        raise ModelFileError(f"{path}: {name} must have one positive scale, it has {scales}")
    zero_points = _list(tensor.quantization.zeroPoint) or [0]
    return TensorSpec(name=name, shape=sizes, dtype=dtype, scale=scales[0], zero_point=zero_points[0])


def _outside(indices: Any, lowest: int, tensors: list[Any]) -> bool:  # noqa: ANN401  # a numpy array, or None
    return any(not lowest <= index < len(tensors) for index in _list(indices))


def _list(values: Any) -> list[Any]:  # noqa: ANN401  # a numpy array, a list or 0 by schema compiler version, or None
    return np.asarray(values).tolist() if values is not None and np.ndim(values) else []


def _text(name: bytes | str | None) -> str:
    return name.decode("utf-8", "replace") if isinstance(name, bytes) else name or "(unnamed)"
