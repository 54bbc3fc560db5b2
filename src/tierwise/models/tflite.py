"""Writes a network as a TensorFlow Lite flatbuffer, and turns that into full int8. Needs no TensorFlow.

Tensors carry the network's own input and output names, in the subgraph and in the signature ``serving_default``;
the batch dimension is 1 as stored and declared resizable.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from tierwise.models.layers import Conv2d, Dense, Flatten, Layer, MaxPool2d, Network, Shape, Sigmoid, output_shape

if TYPE_CHECKING:
    from numpy.typing import NDArray

SIGNATURE_KEY = "serving_default"


def to_tflite(network: Network) -> bytes:
    """The float32 ``.tflite`` of a network."""
    writer = _Writer()
    sample = network.sample_shape
    first = current = writer.tensor(network.input.name, sample)
    for layer in network.layers:
        sample = output_shape(layer, sample)
        name = network.output.name if layer is network.layers[-1] else layer.name
        result = writer.tensor(name, sample)
        writer.layer(layer, current, result, sample)
        current = result
    return writer.finish(network, first, current)


def to_int8(tflite: bytes, calibration: NDArray[np.float32]) -> bytes:
    """The full-int8 form of a float ``.tflite``: inputs, outputs, activations and weights (a scale a channel).

    Calibrated on all of ``calibration`` [n, ...] as ONE batch. The quantizer averages ranges over batches, so feeding
    it sample by sample cuts off what is rare and costs an order of magnitude in accuracy of the output.
    """
    from ai_edge_quantizer import quantizer, recipe  # noqa: PLC0415  slow to import, needed only here

    [signature] = schema.ModelT.InitFromPackedBuf(tflite, 0).signatureDefs
    name = signature.inputs[0].name.decode()
    with warnings.catch_warnings():
        # The quantizer looks at intermediate tensors, and LiteRT warns everyone who does that of the memory it takes.
        warnings.filterwarnings("ignore", r"Warning: Enabling `experimental_preserve_all_tensors`", UserWarning)
        quantize = quantizer.Quantizer(bytearray(tflite), recipe.static_wi8_ai8())
        ranges = quantize.calibrate({SIGNATURE_KEY: [{name: calibration}]}, num_threads=1)
        quantized = quantize.quantize(ranges, enable_progress_bar=False, enable_progress_report=False)
    return _pack(schema.ModelT.InitFromPackedBuf(bytes(quantized.quantized_model), 0))


class _Writer:
    """Collects tensors, buffers and operators of the one subgraph."""

    def __init__(self) -> None:
        self.buffers = [schema.BufferT()]  # buffer 0 is empty by convention: a tensor that is computed
        self.tensors: list[schema.TensorT] = []
        self.operators: list[schema.OperatorT] = []
        self.codes: list[int] = []

    def tensor(self, name: str, sample: Shape) -> int:
        """A float tensor that is computed: batch of 1, resizable."""
        return self._add(name, (1, *sample), schema.TensorType.FLOAT32, buffer=0, signature=(-1, *sample))

    def constant(self, name: str, values: NDArray[Any]) -> int:
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(values.tobytes(), np.uint8)
        self.buffers.append(buffer)
        kind = {"float32": schema.TensorType.FLOAT32, "int32": schema.TensorType.INT32}[values.dtype.name]
        return self._add(name, values.shape, kind, buffer=len(self.buffers) - 1)

    def layer(self, layer: Layer, source: int, result: int, sample: Shape) -> None:
        """One operator from tensor ``source`` to tensor ``result`` (a sample of which has shape ``sample``)."""
        codes, options = schema.BuiltinOperator, schema.BuiltinOptions
        inputs = [source]
        if isinstance(layer, Dense | Conv2d):
            inputs += [
                self.constant(f"{layer.name}/weight", layer.weight),
                self.constant(f"{layer.name}/bias", layer.bias),
            ]
        match layer:
            case Dense():
                dense = schema.FullyConnectedOptionsT()
                dense.fusedActivationFunction = _activation(layer)
                self._operator(codes.FULLY_CONNECTED, inputs, result, options.FullyConnectedOptions, dense)
            case Conv2d():
                conv = schema.Conv2DOptionsT()
                conv.padding, conv.strideW, conv.strideH = schema.Padding.SAME, 1, 1
                conv.fusedActivationFunction = _activation(layer)
                self._operator(codes.CONV_2D, inputs, result, options.Conv2DOptions, conv)
            case MaxPool2d():
                pool = schema.Pool2DOptionsT()
                pool.padding = schema.Padding.VALID
                pool.strideW = pool.strideH = pool.filterWidth = pool.filterHeight = layer.size
                self._operator(codes.MAX_POOL_2D, inputs, result, options.Pool2DOptions, pool)
            case Flatten():
                reshape = schema.ReshapeOptionsT()
                reshape.newShape = [-1, *sample]
                inputs.append(self.constant(f"{layer.name}/shape", np.array([-1, *sample], np.int32)))
                self._operator(codes.RESHAPE, inputs, result, options.ReshapeOptions, reshape)
            case Sigmoid():
                self._operator(codes.LOGISTIC, inputs, result, options.NONE, None)
            case _:
                softmax = schema.SoftmaxOptionsT()
                softmax.beta = 1.0
                self._operator(codes.SOFTMAX, inputs, result, options.SoftmaxOptions, softmax)

    def finish(self, network: Network, first: int, last: int) -> bytes:
        graph = schema.SubGraphT()
        graph.name = "main"
        graph.inputs, graph.outputs = [first], [last]
        graph.tensors, graph.operators = self.tensors, self.operators
        model = schema.ModelT()
        model.version = 3
        model.description = network.name
        model.subgraphs, model.buffers = [graph], self.buffers
        model.operatorCodes = [_operator_code(code) for code in self.codes]
        model.signatureDefs = [_signature(network, first, last)]
        return _pack(model)

    def _add(self, name: str, shape: Shape, kind: int, *, buffer: int, signature: Shape | None = None) -> int:
        tensor = schema.TensorT()
        tensor.name, tensor.shape, tensor.type, tensor.buffer = name, list(shape), kind, buffer
        tensor.hasRank = True
        if signature is not None:
            tensor.shapeSignature = list(signature)
        self.tensors.append(tensor)
        return len(self.tensors) - 1

    def _operator(self, code: int, inputs: list[int], result: int, kind: int, options: object) -> None:
        if code not in self.codes:
            self.codes.append(code)
        operator = schema.OperatorT()
        operator.opcodeIndex = self.codes.index(code)
        operator.inputs, operator.outputs = inputs, [result]
        operator.builtinOptionsType, operator.builtinOptions = kind, options
        self.operators.append(operator)


def _activation(layer: Dense | Conv2d) -> int:
    kinds = schema.ActivationFunctionType
    return int(kinds.RELU if layer.relu else kinds.NONE)


def _operator_code(code: int) -> schema.OperatorCodeT:
    operator_code = schema.OperatorCodeT()
    operator_code.builtinCode = operator_code.deprecatedBuiltinCode = code
    operator_code.version = 1
    return operator_code


def _signature(network: Network, first: int, last: int) -> schema.SignatureDefT:
    signature = schema.SignatureDefT()
    signature.signatureKey = SIGNATURE_KEY
    signature.subgraphIndex = 0
    signature.inputs, signature.outputs = [], []
    for maps, name, index in (
        (signature.inputs, network.input.name, first),
        (signature.outputs, network.output.name, last),
    ):
        tensor_map = schema.TensorMapT()
        tensor_map.name, tensor_map.tensorIndex = name, index
        maps.append(tensor_map)
    return signature


class _Buffer(schema.BufferT):  # type: ignore[misc]  # the schema ships no types
    """Constant data that starts at a multiple of 16 bytes of the file.

    The schema asks for it (``force_align: 16``) and microcontrollers read the weights in place, but neither the
    generated Python code nor the quantizer does it.
    """

    def Pack(self, builder: flatbuffers.Builder) -> int:  # noqa: N802  overrides generated code
        if self.data is None or not len(self.data):
            return int(super().Pack(builder))
        data = bytes(self.data)
        builder.StartVector(1, len(data), 16)
        start = builder.head - len(data)
        builder.Bytes[start : builder.head] = data
        builder.head = start
        vector = builder.EndVector()
        schema.BufferStart(builder)
        schema.BufferAddData(builder, vector)
        return int(schema.BufferEnd(builder))


def _pack(model: schema.ModelT) -> bytes:
    for index, buffer in enumerate(model.buffers):
        model.buffers[index] = _Buffer()
        model.buffers[index].data = buffer.data
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())
