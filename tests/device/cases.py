"""Random operators: each function adds one to a model and returns its inputs and outputs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from hypothesis import strategies as st

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.device.tflite_writer import ModelBuilder

    Draw = Callable[[st.SearchStrategy[Any]], Any]
    Case = Callable[[Draw, ModelBuilder], tuple[list[int], list[int]]]

SCALES = st.floats(1 / 512, 0.875, width=32)
ZEROS = st.integers(-128, 127)
ACTIVATIONS = st.sampled_from([0, 1, 2, 3])
SEEDS = st.integers(0, 2**32 - 1)


def _weights(draw: Draw, shape: tuple[int, ...], lowest: int = -127) -> np.ndarray[Any, Any]:
    spread = draw(st.sampled_from([1, 20, 127]))
    return np.random.default_rng(draw(SEEDS)).integers(max(lowest, -spread - 1), spread + 1, shape)


def _filters(draw: Draw, b: ModelBuilder, shape: tuple[int, ...], axis: int, in_scale: float) -> list[int]:
    """Weights and perhaps a bias, with one scale or one a channel. Weights of -128 are rare in practice but legal."""
    lowest = draw(st.sampled_from([-127, -127, -128]))
    channels = shape[axis]
    scales = draw(st.lists(SCALES, min_size=channels, max_size=channels)) if draw(st.booleans()) else [draw(SCALES)]
    scales = [float(np.float32(s) / np.float32(draw(st.sampled_from([1, 40, 400])))) for s in scales]
    weights = b.tensor(shape, scale=scales, data=_weights(draw, shape, lowest), axis=axis)
    if not draw(st.integers(0, 3)):
        return [weights]
    limit = draw(st.sampled_from([10, 1000, 100_000]))
    bias = np.random.default_rng(draw(SEEDS)).integers(-limit, limit, channels)
    return [weights, b.tensor([channels], "int32", scale=[in_scale * s for s in scales], data=bias)]


def _out(size: int, taps: int, stride: int, dilation: int, padding: int) -> int:
    reach = (taps - 1) * dilation + 1
    return -(-(size if padding == 0 else size - reach + 1) // stride)


def _window(draw: Draw, *, dilated: bool) -> tuple[dict[str, int], tuple[int, int], tuple[int, int, int, int]]:
    """Options, filter, and image and output height and width."""
    padding = draw(st.integers(0, 1))
    stride_h, stride_w = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    taps_h, taps_w = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    dilation_h, dilation_w = (draw(st.integers(1, 2)), draw(st.integers(1, 2))) if dilated else (1, 1)
    height = draw(st.integers(1, 5)) + (taps_h - 1) * dilation_h * padding
    width = draw(st.integers(1, 5)) + (taps_w - 1) * dilation_w * padding
    options = {"padding": padding, "strideH": stride_h, "strideW": stride_w}
    if dilated:
        options |= {"dilationHFactor": dilation_h, "dilationWFactor": dilation_w}
    out_h = _out(height, taps_h, stride_h, dilation_h, padding)
    out_w = _out(width, taps_w, stride_w, dilation_w, padding)
    return options, (taps_h, taps_w), (height, width, out_h, out_w)


def conv_2d(draw: Draw, b: ModelBuilder) -> tuple[list[int], list[int]]:
    options, taps, (height, width, out_h, out_w) = _window(draw, dilated=True)
    batch, depth, channels = draw(st.integers(1, 2)), draw(st.integers(1, 9)), draw(st.integers(1, 9))
    scale = draw(SCALES)
    x = b.tensor([batch, height, width, depth], scale=scale, zero_point=draw(ZEROS))
    filters = _filters(draw, b, (channels, *taps, depth), 0, scale)
    y = b.tensor([batch, out_h, out_w, channels], scale=draw(SCALES), zero_point=draw(ZEROS))
    b.operator("CONV_2D", [x, *filters], [y], "Conv2D", fusedActivationFunction=draw(ACTIVATIONS), **options)
    return [x], [y]


def depthwise_conv_2d(draw: Draw, b: ModelBuilder) -> tuple[list[int], list[int]]:
    options, taps, (height, width, out_h, out_w) = _window(draw, dilated=True)
    batch, depth, multiplier = draw(st.integers(1, 2)), draw(st.sampled_from([1, 3, 4, 8])), draw(st.integers(1, 2))
    scale = draw(SCALES)
    x = b.tensor([batch, height, width, depth], scale=scale, zero_point=draw(ZEROS))
    filters = _filters(draw, b, (1, *taps, depth * multiplier), 3, scale)
    y = b.tensor([batch, out_h, out_w, depth * multiplier], scale=draw(SCALES), zero_point=draw(ZEROS))
    b.operator(
        "DEPTHWISE_CONV_2D", [x, *filters], [y], "DepthwiseConv2D", depthMultiplier=multiplier,
        fusedActivationFunction=draw(ACTIVATIONS), **options,
    )  # fmt: skip
    return [x], [y]


def fully_connected(draw: Draw, b: ModelBuilder) -> tuple[list[int], list[int]]:
    rows, depth, channels = draw(st.integers(1, 3)), draw(st.sampled_from([1, 3, 8, 50, 700])), draw(st.integers(1, 9))
    scale = draw(SCALES)
    x = b.tensor([rows, depth], scale=scale, zero_point=draw(ZEROS))
    filters = _filters(draw, b, (channels, depth), 0, scale)
    y = b.tensor([rows, channels], scale=draw(SCALES), zero_point=draw(ZEROS))
    b.operator("FULLY_CONNECTED", [x, *filters], [y], "FullyConnected", fusedActivationFunction=draw(ACTIVATIONS))
    return [x], [y]


def _pool(name: str) -> Case:
    def pool(draw: Draw, b: ModelBuilder) -> tuple[list[int], list[int]]:
        options, (taps_h, taps_w), (height, width, out_h, out_w) = _window(draw, dilated=False)
        batch, depth, scale, zero = draw(st.integers(1, 2)), draw(st.integers(1, 5)), draw(SCALES), draw(ZEROS)
        x = b.tensor([batch, height, width, depth], scale=scale, zero_point=zero)
        y = b.tensor([batch, out_h, out_w, depth], scale=scale, zero_point=zero)
        b.operator(
            name, [x], [y], "Pool2D", filterHeight=taps_h, filterWidth=taps_w,
            fusedActivationFunction=draw(ACTIVATIONS), **options,
        )  # fmt: skip
        return [x], [y]

    return pool


def _binary(name: str, kind: str) -> Case:
    def binary(draw: Draw, b: ModelBuilder) -> tuple[list[int], list[int]]:
        shape = draw(st.lists(st.integers(1, 4), min_size=1, max_size=4))
        other = [size if draw(st.integers(0, 3)) else 1 for size in shape]
        x = b.tensor(shape, scale=draw(SCALES), zero_point=draw(ZEROS))
        constant = draw(st.booleans())
        data = np.random.default_rng(draw(SEEDS)).integers(-128, 128, other) if constant else None
        z = b.tensor(other, scale=draw(SCALES), zero_point=draw(ZEROS), data=data)
        y = b.tensor(shape, scale=draw(SCALES), zero_point=draw(ZEROS))
        pair = [x, z] if draw(st.booleans()) else [z, x]
        b.operator(name, pair, [y], kind, fusedActivationFunction=draw(ACTIVATIONS))
        return [x] if constant else [x, z], [y]

    return binary


def concatenation(draw: Draw, b: ModelBuilder) -> tuple[list[int], list[int]]:
    shape = draw(st.lists(st.integers(1, 4), min_size=1, max_size=4))
    axis = draw(st.integers(-len(shape), len(shape) - 1))
    scale, zero = draw(SCALES), draw(ZEROS)
    sizes = draw(st.lists(st.integers(1, 4), min_size=1, max_size=4))

    def shaped(size: int) -> list[int]:
        return [size if position == axis % len(shape) else length for position, length in enumerate(shape)]

    inputs = [b.tensor(shaped(size), scale=scale, zero_point=zero) for size in sizes]
    y = b.tensor(shaped(sum(sizes)), scale=scale, zero_point=zero)
    b.operator("CONCATENATION", inputs, [y], "Concatenation", axis=axis)
    return inputs, [y]


def pad(draw: Draw, b: ModelBuilder) -> tuple[list[int], list[int]]:
    shape = draw(st.lists(st.integers(1, 4), min_size=1, max_size=4))
    amounts = [(draw(st.integers(0, 2)), draw(st.integers(0, 2))) for _ in shape]
    scale, zero = draw(SCALES), draw(ZEROS)
    x = b.tensor(shape, scale=scale, zero_point=zero)
    p = b.tensor([len(shape), 2], "int32", scale=None, data=np.array(amounts))
    y = b.tensor([n + sum(a) for n, a in zip(shape, amounts, strict=True)], scale=scale, zero_point=zero)
    if draw(st.booleans()):
        value = b.tensor([1], scale=scale, zero_point=zero, data=np.array([draw(ZEROS)]))
        b.operator("PADV2", [x, p, value], [y], "PadV2")
    else:
        b.operator("PAD", [x, p], [y], "Pad")
    return [x], [y]


def mean(draw: Draw, b: ModelBuilder) -> tuple[list[int], list[int]]:
    shape = draw(st.lists(st.integers(1, 5), min_size=1, max_size=4))
    axes = draw(st.lists(st.integers(0, len(shape) - 1), min_size=1, unique=True))
    keep = draw(st.booleans())
    x = b.tensor(shape, scale=draw(SCALES), zero_point=draw(ZEROS))
    a = b.tensor([len(axes)], "int32", scale=None, data=np.array(axes))
    out = [1 if i in axes else n for i, n in enumerate(shape) if keep or i not in axes] or [1]
    y = b.tensor(out, scale=draw(SCALES), zero_point=draw(ZEROS))
    b.operator("MEAN", [x, a], [y], "Reducer", keepDims=keep)
    return [x], [y]


def softmax(draw: Draw, b: ModelBuilder) -> tuple[list[int], list[int]]:
    shape = draw(st.lists(st.integers(1, 6), min_size=1, max_size=3))
    x = b.tensor(shape, scale=draw(SCALES), zero_point=draw(ZEROS))
    y = b.tensor(shape, scale=1 / 256, zero_point=-128)
    b.operator("SOFTMAX", [x], [y], "Softmax", beta=draw(st.sampled_from([1.0, 0.5])))
    return [x], [y]


def _unary(name: str, kind: str, scale: float | None = None, zero: int | None = None) -> Case:
    def unary(draw: Draw, b: ModelBuilder) -> tuple[list[int], list[int]]:
        in_scale, in_zero = draw(SCALES), draw(ZEROS)
        x = b.tensor([1, 256], scale=in_scale, zero_point=in_zero)
        if name == "RELU6":  # does not rescale
            y = b.tensor([1, 256], scale=in_scale, zero_point=in_zero)
        else:
            y = b.tensor(
                [1, 256],
                scale=draw(SCALES) if scale is None else scale,
                zero_point=draw(ZEROS) if zero is None else zero,
            )
        b.operator(name, [x], [y], kind)
        return [x], [y]

    return unary


def quantize_float(draw: Draw, b: ModelBuilder) -> tuple[list[int], list[int]]:
    x = b.tensor([1, 40], "float32", scale=None)
    y = b.tensor([1, 40], scale=draw(SCALES), zero_point=draw(ZEROS))
    b.operator("QUANTIZE", [x], [y], "Quantize")
    return [x], [y]


def dequantize(draw: Draw, b: ModelBuilder) -> tuple[list[int], list[int]]:
    x = b.tensor([1, 40], scale=draw(SCALES), zero_point=draw(ZEROS))
    y = b.tensor([1, 40], "float32", scale=None)
    b.operator("DEQUANTIZE", [x], [y], "Dequantize")
    return [x], [y]


def reshape(draw: Draw, b: ModelBuilder) -> tuple[list[int], list[int]]:
    scale, zero = draw(SCALES), draw(ZEROS)
    x = b.tensor([2, 3, 4], scale=scale, zero_point=zero)
    shape = b.tensor([2], "int32", scale=None, data=np.array([6, 4]))
    y = b.tensor([6, 4], scale=scale, zero_point=zero)
    z = b.tensor([6, 4], scale=draw(SCALES), zero_point=draw(ZEROS))
    b.operator("RESHAPE", [x, shape], [y], "Reshape", newShape=[6, 4])
    b.operator("QUANTIZE", [y], [z], "Quantize")
    return [x], [z]


CASES: dict[str, Case] = {
    "CONV_2D": conv_2d,
    "DEPTHWISE_CONV_2D": depthwise_conv_2d,
    "FULLY_CONNECTED": fully_connected,
    "AVERAGE_POOL_2D": _pool("AVERAGE_POOL_2D"),
    "MAX_POOL_2D": _pool("MAX_POOL_2D"),
    "ADD": _binary("ADD", "Add"),
    "MUL": _binary("MUL", "Mul"),
    "CONCATENATION": concatenation,
    "PAD": pad,
    "MEAN": mean,
    "SOFTMAX": softmax,
    "LOGISTIC": _unary("LOGISTIC", "", 1 / 256, -128),
    "TANH": _unary("TANH", "", 1 / 128, 0),
    "RELU": _unary("RELU", ""),
    "RELU6": _unary("RELU6", ""),
    "QUANTIZE": _unary("QUANTIZE", "Quantize"),
    "QUANTIZE from float32": quantize_float,
    "DEQUANTIZE": dequantize,
    "RESHAPE": reshape,
}
