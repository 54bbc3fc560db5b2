"""Small model files made for one test each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path


def onnx_model(
    path: Path, nodes: Sequence[Any], inputs: Sequence[Any], outputs: Sequence[Any], **constants: Any
) -> Path:
    """Writes a checked ONNX model of the given nodes and value infos; ``constants`` become initialisers."""
    import onnx  # noqa: PLC0415  tests name it when it is missing
    from onnx import helper, numpy_helper  # noqa: PLC0415  tests name it when it is missing

    initialisers = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "tiny", inputs, outputs, initialisers)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())
    return path


def node(operator: str, inputs: list[str], outputs: list[str], **attributes: Any) -> Any:
    """One node of an ONNX graph."""
    from onnx import helper  # noqa: PLC0415  tests name it when it is missing

    return helper.make_node(operator, inputs, outputs, **attributes)


def tensor(name: str, dtype: str, shape: list[int | str]) -> Any:
    """An input or output of an ONNX graph; ``dtype`` is ONNX's word (``FLOAT``)."""
    from onnx import TensorProto, helper  # noqa: PLC0415  tests name it when it is missing

    return helper.make_tensor_value_info(name, getattr(TensorProto, dtype), shape)


def onnx_sum(path: Path, *, batch: int | str = "batch", dtype: str = "FLOAT") -> Path:
    """``values`` [batch, 4] → ``sum`` [batch, 1] of the given ONNX dtype."""
    return onnx_model(
        path,
        [node("ReduceSum", ["values", "axes"], ["sum"], keepdims=1)],
        [tensor("values", dtype, [batch, 4])],
        [tensor("sum", dtype, [batch, 1])],
        axes=np.array([1]),
    )


def edited_tflite(source: Path, target: Path, edit: Callable[[Any], None]) -> Path:
    """Writes ``source`` to ``target`` after ``edit`` has changed its tables (``ModelT`` of the schema)."""
    import flatbuffers  # noqa: PLC0415  tests name it when it is missing
    from ai_edge_litert import schema_py_generated as schema  # noqa: PLC0415  tests name it when it is missing

    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(source.read_bytes(), 0))
    edit(model)
    builder = flatbuffers.Builder(0)
    builder.Finish(model.Pack(builder), b"TFL3")
    target.write_bytes(bytes(builder.Output()))
    return target


def tflite_quantize(path: Path, scale: float, zero_point: int) -> Path:
    """Writes a model of the one operator QUANTIZE: ``real`` float32 [1, 64] → ``integer`` int8 [1, 64]."""
    import flatbuffers  # noqa: PLC0415  tests name it when it is missing
    from ai_edge_litert import schema_py_generated as schema  # noqa: PLC0415  tests name it when it is missing

    def tensor_of(name: str, dtype: int) -> Any:
        one = schema.TensorT()
        one.name, one.type, one.shape, one.buffer = name, dtype, [1, 64], 0
        return one

    real, integer = tensor_of("real", schema.TensorType.FLOAT32), tensor_of("integer", schema.TensorType.INT8)
    integer.quantization = schema.QuantizationParametersT()
    integer.quantization.scale, integer.quantization.zeroPoint = [scale], [zero_point]
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.QUANTIZE
    operator = schema.OperatorT()
    operator.opcodeIndex, operator.inputs, operator.outputs = 0, [0], [1]
    graph = schema.SubGraphT()
    graph.tensors, graph.inputs, graph.outputs, graph.operators = [real, integer], [0], [1], [operator]
    model = schema.ModelT()
    model.version, model.operatorCodes, model.subgraphs, model.buffers = 3, [code], [graph], [schema.BufferT()]
    builder = flatbuffers.Builder(0)
    builder.Finish(model.Pack(builder), b"TFL3")
    path.write_bytes(bytes(builder.Output()))
    return path
