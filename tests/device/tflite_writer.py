"""Small .tflite files for tests, written with the schema that LiteRT ships."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

_TYPES = {"float32": 0, "int32": 2, "uint8": 3, "int16": 7, "int8": 9}


class ModelBuilder:
    """Collects tensors and operators; tensors are named by the numbers that ``tensor`` returns."""

    def __init__(self) -> None:
        self._tensors: list[Any] = []
        self._operators: list[Any] = []
        self._buffers: list[Any] = [schema.BufferT()]
        self._codes: list[int] = []

    def tensor(
        self,
        shape: Sequence[int],
        dtype: str = "int8",
        *,
        scale: float | Sequence[float] | None = 0.1,
        zero_point: int = 0,
        data: NDArray[Any] | None = None,
        axis: int = 0,
    ) -> int:
        tensor = schema.TensorT()
        tensor.name = f"t{len(self._tensors)}".encode()
        tensor.shape = list(shape)
        tensor.type = _TYPES[dtype]
        if scale is not None:
            quantization = schema.QuantizationParametersT()
            quantization.scale = [float(s) for s in np.atleast_1d(np.asarray(scale, np.float32))]
            quantization.zeroPoint = [zero_point] * len(quantization.scale)
            quantization.quantizedDimension = axis
            tensor.quantization = quantization
        if data is not None:
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(np.ascontiguousarray(data, dtype).tobytes(), np.uint8)
            self._buffers.append(buffer)
            tensor.buffer = len(self._buffers) - 1
        else:
            tensor.buffer = 0
        self._tensors.append(tensor)
        return len(self._tensors) - 1

    def operator(
        self, name: str, inputs: Sequence[int], outputs: Sequence[int], kind: str = "", **options: Any
    ) -> None:
        """``kind`` is the options table (``Conv2D``), ``options`` its fields as the schema spells them."""
        code = getattr(schema.BuiltinOperator, name)
        if code not in self._codes:
            self._codes.append(code)
        operator = schema.OperatorT()
        operator.opcodeIndex = self._codes.index(code)
        operator.inputs, operator.outputs = list(inputs), list(outputs)
        if kind:
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, f"{kind}Options")
            operator.builtinOptions = getattr(schema, f"{kind}OptionsT")()
            for field, value in options.items():
                setattr(operator.builtinOptions, field, value)
        self._operators.append(operator)

    def finish(self, inputs: Sequence[int], outputs: Sequence[int]) -> bytes:
        graph = schema.SubGraphT()
        graph.tensors, graph.operators = self._tensors, self._operators
        graph.inputs, graph.outputs = list(inputs), list(outputs)
        model = schema.ModelT()
        model.version = 3
        model.subgraphs = [graph]
        model.buffers = self._buffers
        for code in self._codes:
            operator_code = schema.OperatorCodeT()
            operator_code.builtinCode = code
            operator_code.deprecatedBuiltinCode = min(code, 127)
            operator_code.version = 1
            model.operatorCodes = [*(model.operatorCodes or []), operator_code]
        builder = flatbuffers.Builder(1024)
        builder.Finish(model.Pack(builder), b"TFL3")
        return bytes(builder.Output())
