"""From a graph to kernel calls: every operator is checked and lowered before anything is written."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from tierwise.device.graph import UnsupportedModelError
from tierwise.device.lower_dense import lower_conv2d, lower_depthwise, lower_fully_connected
from tierwise.device.lower_simple import (
    lower_binary,
    lower_concatenation,
    lower_mean,
    lower_pad,
    lower_pool,
    lower_reshape,
)
from tierwise.device.lower_tables import (
    lower_dequantize,
    lower_quantize,
    lower_relu,
    lower_sigmoid,
    lower_softmax,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from tierwise.device.graph import Graph, Operator, Tensor
    from tierwise.device.step import Alias, Step

_SHAPE_ONLY: Final = {"RESHAPE", "SQUEEZE", "EXPAND_DIMS"}
"""Their second input only says what the output's static shape says already."""
_DENSE: Final = {
    "CONV_2D": lower_conv2d,
    "DEPTHWISE_CONV_2D": lower_depthwise,
    "FULLY_CONNECTED": lower_fully_connected,
}
_SIMPLE: Final[dict[str, Callable[[Operator], Step | Alias | list[Step]]]] = {
    "ADD": lower_binary, "MUL": lower_binary, "AVERAGE_POOL_2D": lower_pool, "MAX_POOL_2D": lower_pool,
    "CONCATENATION": lower_concatenation, "PAD": lower_pad, "PADV2": lower_pad, "MEAN": lower_mean,
    "SOFTMAX": lower_softmax, "LOGISTIC": lower_sigmoid, "TANH": lower_sigmoid,
    "RELU": lower_relu, "RELU6": lower_relu,
    "QUANTIZE": lower_quantize, "DEQUANTIZE": lower_dequantize,
    "RESHAPE": lower_reshape, "SQUEEZE": lower_reshape, "EXPAND_DIMS": lower_reshape,
}  # fmt: skip

SUPPORTED: Final = tuple(sorted({*_DENSE, *_SIMPLE}))
"""Operators that the device tier runs. SHAPE, STRIDED_SLICE and PACK may compute the shape of a RESHAPE besides."""


def lower(graph: Graph, *, fast: bool) -> list[Step | Alias]:
    """The kernel calls of ``graph`` in order of execution.

    ``fast`` prefers the kernels for the DSP instructions of Cortex-M4, M7 and M33. Raises ``UnsupportedModelError``
    naming operator, index and reason for the first operator that cannot be compiled.
    """
    _check_boundary(graph)
    computed = {tensor.index for tensor in graph.inputs}
    steps: list[Step | Alias] = []
    for operator in _live(graph):
        for tensor in _data_inputs(operator):
            if tensor is not None and tensor.data is None and tensor.index not in computed:
                raise operator.refuse(f"its input {tensor} is not computed by an earlier operator")
        if any(tensor.index in computed or tensor.data is not None for tensor in operator.outputs):
            raise operator.refuse("it computes a tensor that already has a value")
        lowered = _lower_operator(operator, fast=fast)
        steps += lowered if isinstance(lowered, list) else [lowered]
        computed |= {tensor.index for tensor in operator.outputs}
    missing = [str(tensor) for tensor in graph.outputs if tensor.index not in computed]
    if missing or not steps:
        raise UnsupportedModelError(f"{graph.name}: no operator computes the output {', '.join(missing)}")
    return steps


def _lower_operator(operator: Operator, *, fast: bool) -> Step | Alias | list[Step]:
    if not operator.outputs or any(tensor.size == 0 for tensor in operator.outputs):
        raise operator.refuse("it has no output, or an empty one")
    if operator.name in _DENSE:
        return partial(_DENSE[operator.name], fast=fast)(operator)
    if operator.name in _SIMPLE:
        return _SIMPLE[operator.name](operator)
    raise operator.refuse(f"there is no kernel for it; there are kernels for {', '.join(SUPPORTED)}")


def _data_inputs(operator: Operator) -> tuple[Tensor | None, ...]:
    return operator.inputs[:1] if operator.name in _SHAPE_ONLY else operator.inputs


def _live(graph: Graph) -> list[Operator]:
    """Operators that the outputs depend on. What only computes the shape for a RESHAPE drops out here."""
    needed = {tensor.index for tensor in graph.outputs}
    live = []
    for operator in reversed(graph.operators):
        if any(tensor.index in needed for tensor in operator.outputs):
            live.append(operator)
            needed |= {tensor.index for tensor in _data_inputs(operator) if tensor is not None}
    return live[::-1]


def _check_boundary(graph: Graph) -> None:
    for tensor in (*graph.inputs, *graph.outputs):
        quantized = tensor.dtype == "int8" and tensor.quantization is not None
        if not quantized and tensor.dtype != "float32":
            raise UnsupportedModelError(
                f"{graph.name}: input or output {tensor} is neither quantised int8 nor float32; convert the model "
                "with full integer quantisation"
            )
        if tensor.size == 0:
            raise UnsupportedModelError(f"{graph.name}: input or output {tensor} is empty")
    if not graph.inputs or not graph.outputs:
        raise UnsupportedModelError(f"{graph.name} has no inputs or no outputs")
    indices = [tensor.index for tensor in (*graph.inputs, *graph.outputs)]
    if len(set(indices)) != len(indices):
        raise UnsupportedModelError(f"{graph.name}: a tensor is an input or output of the model more than once")
    for tensor in graph.inputs:
        if tensor.data is not None:
            raise UnsupportedModelError(f"{graph.name}: the input {tensor} is a constant")
