"""Writes a network as one ONNX file with a free batch dimension."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tierwise.models.layers import Conv2d, Dense, Flatten, Layer, MaxPool2d, Network, Sigmoid

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tierwise.core.tensors import TensorSpec

OPSET = 17
IR_VERSION = 8
"""What ONNX Runtime has read since 1.12 (2022), so that old edge machines load it too."""


def to_onnx(network: Network, version: str) -> bytes:
    """The ``.onnx`` of a network, checked by ``onnx.checker``."""
    nodes: list[onnx.NodeProto] = []
    weights: list[onnx.TensorProto] = []
    current = network.input.name
    if len(network.input.shape) == 4:  # noqa: PLR2004  an image: ONNX convolves channels-first
        nodes.append(helper.make_node("Transpose", [current], ["channels_first"], perm=[0, 3, 1, 2]))
        current = "channels_first"
    for layer in network.layers:
        result = network.output.name if layer is network.layers[-1] else layer.name
        added, constants = _nodes(layer, current, result)
        nodes += added
        weights += [numpy_helper.from_array(values, name) for name, values in constants.items()]
        current = result
    graph = helper.make_graph(nodes, network.name, [_info(network.input)], [_info(network.output)], weights)
    model = helper.make_model(
        graph,
        producer_name="tierwise",
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
    )
    helper.set_model_props(model, {"model": network.name, "version": version})
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString(deterministic=True))


def _nodes(layer: Layer, source: str, result: str) -> tuple[list[onnx.NodeProto], dict[str, NDArray[Any]]]:
    """The nodes of a layer and its constants by name."""
    match layer:
        case Dense() | Conv2d():
            linear = f"{result}_linear" if layer.relu else result
            names = [f"{layer.name}.weight", f"{layer.name}.bias"]
            if isinstance(layer, Dense):
                node = helper.make_node("Gemm", [source, *names], [linear], transB=1)
                weight = layer.weight
            else:
                weight = np.ascontiguousarray(layer.weight.transpose(0, 3, 1, 2))
                extent = weight.shape[2:]
                before, after = [(size - 1) // 2 for size in extent], [size // 2 for size in extent]
                node = helper.make_node(
                    "Conv", [source, *names], [linear], kernel_shape=list(extent), pads=before + after
                )
            relu = [helper.make_node("Relu", [linear], [result])] if layer.relu else []
            return [node, *relu], dict(zip(names, (weight, layer.bias), strict=True))
        case MaxPool2d():
            size = [layer.size, layer.size]
            return [helper.make_node("MaxPool", [source], [result], kernel_shape=size, strides=size)], {}
        case Flatten():
            # The dense weights expect channels-last order.
            last = f"{result}_channels_last"
            return [
                helper.make_node("Transpose", [source], [last], perm=[0, 2, 3, 1]),
                helper.make_node("Flatten", [last], [result], axis=1),
            ], {}
        case Sigmoid():
            return [helper.make_node("Sigmoid", [source], [result])], {}
        case _:
            return [helper.make_node("Softmax", [source], [result], axis=-1)], {}


def _info(spec: TensorSpec) -> onnx.ValueInfoProto:
    dims = ["batch" if size is None else size for size in spec.shape]
    return helper.make_tensor_value_info(spec.name, TensorProto.FLOAT, dims)
