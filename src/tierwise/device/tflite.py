"""From the bytes of a .tflite file (TFL3 schema) to a ``Graph``, whatever the bytes are."""

from __future__ import annotations

import math
import zlib
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from tierwise.core.errors import ModelFileError
from tierwise.device.flatbuffer import Buffer, Table
from tierwise.device.graph import Graph, Operator, Quantization, Tensor

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

MAX_FILE_BYTES: Final = 64 << 20
"""A model for a microcontroller has kilobytes; this only keeps a wrong file from filling memory."""
MAX_TENSOR_VALUES: Final = 1 << 26

_DTYPES: Final = {
    0: "float32", 1: "float16", 2: "int32", 3: "uint8", 4: "int64", 6: "bool", 7: "int16", 9: "int8", 10: "float64",
}  # fmt: skip

OPERATORS: Final = {
    0: "ADD", 1: "AVERAGE_POOL_2D", 2: "CONCATENATION", 3: "CONV_2D", 4: "DEPTHWISE_CONV_2D", 6: "DEQUANTIZE",
    9: "FULLY_CONNECTED", 14: "LOGISTIC", 17: "MAX_POOL_2D", 18: "MUL", 19: "RELU", 20: "RELU_N1_TO_1", 21: "RELU6",
    22: "RESHAPE", 25: "SOFTMAX", 28: "TANH", 34: "PAD", 40: "MEAN", 43: "SQUEEZE", 45: "STRIDED_SLICE", 60: "PADV2",
    70: "EXPAND_DIMS", 77: "SHAPE", 83: "PACK", 114: "QUANTIZE",
}  # fmt: skip
"""Names of the builtin operators that the compiler has a use for. Others are called by their number."""

_INT8, _INT32, _BOOL = "b", "i", "B"
_OPTIONS: Final[Mapping[str, Sequence[tuple[str, int, str, float]]]] = {
    # operator: (option, slot in its options table, form, default of the schema)
    "CONV_2D": [("padding", 0, _INT8, 0), ("stride_w", 1, _INT32, 0), ("stride_h", 2, _INT32, 0),
                ("activation", 3, _INT8, 0), ("dilation_w", 4, _INT32, 1), ("dilation_h", 5, _INT32, 1)],
    "DEPTHWISE_CONV_2D": [("padding", 0, _INT8, 0), ("stride_w", 1, _INT32, 0), ("stride_h", 2, _INT32, 0),
                          ("depth_multiplier", 3, _INT32, 0), ("activation", 4, _INT8, 0),
                          ("dilation_w", 5, _INT32, 1), ("dilation_h", 6, _INT32, 1)],
    "AVERAGE_POOL_2D": [("padding", 0, _INT8, 0), ("stride_w", 1, _INT32, 0), ("stride_h", 2, _INT32, 0),
                        ("filter_w", 3, _INT32, 0), ("filter_h", 4, _INT32, 0), ("activation", 5, _INT8, 0)],
    "FULLY_CONNECTED": [("activation", 0, _INT8, 0), ("weights_format", 1, _INT8, 0)],
    "ADD": [("activation", 0, _INT8, 0)],
    "MUL": [("activation", 0, _INT8, 0)],
    "CONCATENATION": [("axis", 0, _INT32, 0), ("activation", 1, _INT8, 0)],
    "SOFTMAX": [("beta", 0, "f", 0.0)],
    "MEAN": [("keep_dims", 0, _BOOL, 0)],
}  # fmt: skip


def read_graph(path: Path) -> Graph:
    """Reads the .tflite file at ``path``.

    Raises ``ModelFileError`` where it is missing, too large, truncated or not a .tflite file.
    """
    try:
        size = path.stat().st_size
        if size > MAX_FILE_BYTES:
            raise ModelFileError(f"{path} has {size} bytes; the device tier takes models up to {MAX_FILE_BYTES}")
        data = path.read_bytes()
    except OSError as error:
        raise ModelFileError(f"cannot read the model {path}: {error.strerror}") from error
    return parse_graph(data, path.stem, str(path))


def parse_graph(data: bytes, name: str, source: str = "the model") -> Graph:
    """The graph of a .tflite file's bytes. ``source`` is what error messages call the file."""
    if len(data) < 16 or data[4:8] != b"TFL3":  # noqa: PLR2004 - offset, identifier and one table at least
        raise ModelFileError(f"{source} is not a .tflite file (the identifier TFL3 is missing at byte 4)")
    buffer = Buffer(data, source)
    model = buffer.root()
    if model.integer(0, "I") != 3:  # noqa: PLR2004 - the schema's version
        raise ModelFileError(f"{source} has schema version {model.integer(0, 'I')}; only version 3 is known")
    subgraphs = model.tables(2)
    if len(subgraphs) != 1:
        raise ModelFileError(f"{source} has {len(subgraphs)} subgraphs; the device tier runs models with one")
    names = [_operator_name(code) for code in model.tables(1)]
    buffers = model.tables(4)
    return _Subgraph(subgraphs[0], buffers, names, buffer).graph(name, data)


class _Subgraph:
    """The one subgraph of a file while it is read."""

    def __init__(self, table: Table, buffers: Sequence[Table], names: Sequence[str], buffer: Buffer) -> None:
        self._table = table
        self._names = names
        self._buffer = buffer
        self._tensors = [_tensor(index, item, buffers, buffer) for index, item in enumerate(table.tables(0))]

    def graph(self, name: str, data: bytes) -> Graph:
        return Graph(
            name=name,
            inputs=self._require(self._table.array(1, "i4")),
            outputs=self._require(self._table.array(2, "i4")),
            operators=tuple(self._operator(index, table) for index, table in enumerate(self._table.tables(3))),
            crc32=zlib.crc32(data),
            model_bytes=len(data),
        )

    def _operator(self, index: int, table: Table) -> Operator:
        opcode = table.integer(0, "I")
        if opcode >= len(self._names):
            raise self._buffer.fail(f"operator {index} has code {opcode} but only {len(self._names)} exist")
        return Operator(
            index=index,
            name=self._names[opcode],
            inputs=self._pick(table.array(1, "i4")),
            outputs=self._require(table.array(2, "i4")),
            options=_options(self._names[opcode], table.table(4)),
        )

    def _pick(self, indices: NDArray[Any]) -> tuple[Tensor | None, ...]:
        for index in indices:
            if not -1 <= index < len(self._tensors):
                raise self._buffer.fail(f"tensor {index} is used but only {len(self._tensors)} exist")
        return tuple(None if index == -1 else self._tensors[index] for index in indices)

    def _require(self, indices: NDArray[Any]) -> tuple[Tensor, ...]:
        picked = tuple(tensor for tensor in self._pick(indices) if tensor is not None)
        if len(picked) != len(indices):
            raise self._buffer.fail("an output, or an input of the whole model, is left out")
        return picked


def _operator_name(code: Table) -> str:
    # Codes above 126 live in the newer field; the older one then holds a placeholder.
    builtin = max(code.integer(3, "i"), code.integer(0, "b"))
    if builtin == 32:  # noqa: PLR2004 - CUSTOM
        return f"custom operator {code.text(1)!r}"
    return OPERATORS.get(builtin, f"builtin operator {builtin}")


def _options(name: str, table: Table | None) -> dict[str, float]:
    fields = _OPTIONS.get("AVERAGE_POOL_2D" if name == "MAX_POOL_2D" else name, ())
    options: dict[str, float] = {}
    for option, slot, form, default in fields:
        if table is None:
            options[option] = default
        elif form == "f":
            options[option] = table.real(slot, default)
        else:
            options[option] = table.integer(slot, form, int(default))
    return options


def _tensor(index: int, table: Table, buffers: Sequence[Table], buffer: Buffer) -> Tensor:
    shape = tuple(int(size) for size in table.array(0, "i4"))
    if any(size < 0 for size in shape) or math.prod(shape) > MAX_TENSOR_VALUES:
        raise buffer.fail(f"tensor {index} has shape {shape}")
    kind = table.integer(1, "b")
    dtype = _DTYPES.get(kind, f"type {kind}")
    return Tensor(
        index=index,
        name=table.text(3) or f"tensor {index}",
        shape=shape,
        dtype=dtype,
        quantization=_quantization(index, table.table(4), shape, buffer),
        data=_constant(f"tensor {index}", _bytes(index, table.integer(2, "I"), buffers, buffer), shape, dtype, buffer),
    )


def _bytes(index: int, number: int, buffers: Sequence[Table], buffer: Buffer) -> NDArray[Any]:
    """The bytes of buffer ``number``; none for tensors that are computed."""
    if number == 0:
        return np.empty(0, np.uint8)
    if number >= len(buffers):
        raise buffer.fail(f"tensor {index} names buffer {number} but only {len(buffers)} exist")
    data = buffers[number].array(0, "u1")
    if not len(data) and buffers[number].integer(1, "Q") > 1:
        raise ModelFileError(f"{buffer.name}: tensor {index} is stored outside the FlatBuffer, which is not supported")
    return data


def _constant(what: str, data: NDArray[Any], shape: tuple[int, ...], dtype: str, buffer: Buffer) -> NDArray[Any] | None:
    if not len(data):
        return None
    if dtype not in _DTYPES.values():
        raise ModelFileError(f"{buffer.name}: {what} is a constant of {dtype}, which is not supported")
    expected = math.prod(shape) * np.dtype(dtype).itemsize
    if len(data) != expected:
        raise buffer.fail(f"{what} holds {len(data)} bytes where its shape {shape} needs {expected}")
    return data.view(np.dtype(dtype).newbyteorder("<")).reshape(shape)


def _quantization(index: int, table: Table | None, shape: tuple[int, ...], buffer: Buffer) -> Quantization | None:
    if table is None:
        return None
    scales = tuple(float(scale) for scale in table.array(2, "f4"))
    if not scales:
        return None
    zero_points = tuple(int(zero) for zero in table.array(3, "i8")) or (0,) * len(scales)
    axis = table.integer(6, "i")
    if len(zero_points) != len(scales):
        raise buffer.fail(f"tensor {index} has {len(scales)} scales and {len(zero_points)} zero points")
    if not all(math.isfinite(scale) and scale > 0 for scale in scales):
        raise buffer.fail(f"tensor {index} has a scale that is not a positive number")
    if not all(-(1 << 31) <= zero < 1 << 31 for zero in zero_points):
        raise buffer.fail(f"tensor {index} has a zero point outside 32 bits")
    if len(scales) > 1 and not (0 <= axis < len(shape) and shape[axis] == len(scales)):
        raise buffer.fail(f"tensor {index} has {len(scales)} scales along axis {axis} of shape {shape}")
    return Quantization(scales, zero_points, axis)
