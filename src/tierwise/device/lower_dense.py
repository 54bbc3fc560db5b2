"""Convolution, depthwise convolution and fully connected layers as kernel calls."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from tierwise.device import fixedpoint
from tierwise.device.step import Constant, Field, Step

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tierwise.device.graph import Operator, Tensor

SAME: Final = 0
_FAST_LIMIT: Final = 1 << 30
"""Largest accumulator that the fast requantisation may double."""
_FAST_SHIFT: Final = 22
"""Largest shift by which an int8 zero point stays small beside such an accumulator."""


@dataclass(frozen=True)
class Window:
    """How a filter moves over one side of an image."""

    size: int
    taps: int
    stride: int
    dilation: int
    same: bool

    @property
    def reach(self) -> int:
        """Pixels from the first to the last tap."""
        return (self.taps - 1) * self.dilation + 1

    @property
    def out(self) -> int:
        """Positions of the filter."""
        room = self.size if self.same else self.size - self.reach + 1
        return -(-room // self.stride)

    @property
    def pad(self) -> int:
        """Pixels before the image; an odd one goes behind it."""
        return max(0, (self.out - 1) * self.stride + self.reach - self.size) // 2


def window(operator: Operator, size: int, taps: int, side: str) -> Window:
    """The window of ``operator`` along ``side`` (``h`` or ``w``)."""
    stride, dilation = operator.option(f"stride_{side}"), int(operator.options.get(f"dilation_{side}", 1))
    if stride < 1 or dilation < 1 or taps < 1:
        raise operator.refuse(f"stride {stride}, dilation {dilation} or filter size {taps} is below 1")
    padding = operator.option("padding")
    if padding not in (0, 1):
        raise operator.refuse(f"padding {padding} is neither SAME nor VALID")
    return Window(size, taps, stride, dilation, padding == SAME)


def require_int8(operator: Operator, tensor: Tensor, what: str) -> None:
    """Refuses anything but an int8 tensor with one scale and an int8 zero point."""
    if tensor.dtype != "int8":
        raise operator.refuse(f"{what} {tensor} is not int8; quantise the model fully to int8")
    if tensor.quantization is None or len(tensor.quantization.scales) != 1:
        raise operator.refuse(f"{what} {tensor} does not have exactly one scale")
    if not fixedpoint.INT8_MIN <= tensor.quantization.zero_point <= fixedpoint.INT8_MAX:
        raise operator.refuse(f"{what} {tensor} has the zero point {tensor.quantization.zero_point}, outside int8")


def require_shape(operator: Operator, tensor: Tensor, shape: tuple[int, ...]) -> None:
    """Refuses an output whose declared shape is not what the operator computes."""
    if tensor.shape != shape:
        raise operator.refuse(f"its output {tensor} should have the shape {list(shape)}")


def activation_range(operator: Operator, output: Tensor) -> tuple[int, int]:
    """Clamp of the fused activation."""
    activation = operator.option("activation")
    if activation not in (fixedpoint.NONE, fixedpoint.RELU, fixedpoint.RELU_N1_TO_1, fixedpoint.RELU6):
        raise operator.refuse(f"the fused activation {activation} is not one of none, relu, relu_n1_to_1, relu6")
    quantization = output.quantized
    return fixedpoint.activation_range(activation, quantization.scale, quantization.zero_point)


@dataclass(frozen=True, eq=False)
class _Layer:
    """What the three operators have in common. ``weights`` are int8 [channels, terms] in filter order."""

    operator: Operator
    input: Tensor
    output: Tensor
    weights: NDArray[np.int64]
    channels: NDArray[np.int64]
    """[channels, 3]: bias, multiplier, shift."""
    bounds: NDArray[np.int64]
    """Largest magnitude that each channel's accumulator can reach."""

    @property
    def fast(self) -> str:
        """Empty, or why the fast kernel cannot be used."""
        if self.bounds.max() >= _FAST_LIMIT:
            return "accumulators can exceed 30 bits"
        if np.any(self.channels[:, 2] > 0):
            return "a channel's scale is 1 or more"
        if np.any((self.channels[:, 2] < -_FAST_SHIFT) & ~self._silent):
            return f"a channel's scale is below 2^-{_FAST_SHIFT}"
        return ""

    @property
    def _silent(self) -> NDArray[np.bool_]:
        """Channels whose output is the zero point whatever comes in: their scale is next to nothing."""
        rows = zip(self.bounds.tolist(), self.channels[:, 1].tolist(), self.channels[:, 2].tolist(), strict=True)
        return np.array([fixedpoint.multiply(bound, multiplier, shift) == 0 for bound, multiplier, shift in rows])

    def constants(self, *, fast: bool) -> Constant:
        """Bias and factors as the kernels read them."""
        if not fast:
            return Constant("tw_channel", self.channels, "bias, multiplier, shift")
        silent = self._silent
        right = np.where(silent, 0, -self.channels[:, 2])
        multipliers = np.where(silent, 0, self.channels[:, 1])
        half = np.where(right > 0, 1 << np.maximum(right - 1, 0), 0)
        rounding = half + (self.output.quantized.zero_point << right)
        rows = np.column_stack([self.channels[:, 0], multipliers, rounding, right])
        return Constant("tw_fast_channel", rows, "bias, multiplier, round, right")


def _layer(operator: Operator, weights: NDArray[np.int64], filters: Tensor, axis: int, *, fold_zero: bool) -> _Layer:
    """Bias, multiplier and shift of each channel.

    ``fold_zero`` puts -zero_point · sum(weights) into the bias, so that kernels multiply the inputs as they are.
    """
    tensor, output = operator.input(0), operator.output
    require_int8(operator, tensor, "the input")
    require_int8(operator, output, "the output")
    count, quantization = len(weights), filters.quantized
    if any(quantization.zero_points):
        raise operator.refuse(f"its weights {filters} have a zero point other than 0")
    scales = quantization.scales if len(quantization.scales) > 1 else quantization.scales * count
    if len(scales) != count or (len(quantization.scales) > 1 and quantization.axis != axis):
        raise operator.refuse(f"its weights {filters} have {len(scales)} scales along axis {quantization.axis}")
    factors = [
        fixedpoint.quantize_multiplier(_effective_scale(operator, tensor, output, scale, len(quantization.scales)))
        for scale in scales
    ]
    if any(shift > 30 for _, shift in factors):  # noqa: PLR2004 - of 31 bits
        raise operator.refuse("a channel's scale is 2^30 or more")
    bias = _bias(operator, count)
    zero_point = tensor.quantized.zero_point
    if fold_zero:
        bias = bias - zero_point * weights.sum(axis=1)
        reach = np.abs(weights).sum(axis=1) * 128
    else:
        reach = np.abs(weights).sum(axis=1) * max(127 - zero_point, 128 + zero_point)
    bounds = np.abs(bias) + reach
    if bounds.max(initial=0) > 0x7FFFFFFF:  # noqa: PLR2004 - INT32_MAX
        raise operator.refuse("its bias and weights are so large that 32-bit accumulators overflow")
    channels = np.column_stack([bias, np.array(factors, np.int64).reshape(count, 2)])
    return _Layer(operator, tensor, output, weights, channels, bounds)


def _effective_scale(operator: Operator, tensor: Tensor, output: Tensor, scale: float, scales: int) -> float:
    if operator.name == "FULLY_CONNECTED" and scales == 1:
        # The reference checks the bias scale here as well; a model that fails that check would not load there.
        bias = operator.optional(2)
        product = tensor.quantized.scale * scale
        if bias is not None and bias.quantization is not None:
            difference = abs(product - bias.quantization.scale) / output.quantized.scale
            if difference > 0.02:  # noqa: PLR2004 - TensorFlow Lite's tolerance
                raise operator.refuse(f"the scale of its bias {bias} is not input scale times weight scale")
    return tensor.quantized.scale * scale / output.quantized.scale


def _bias(operator: Operator, count: int) -> NDArray[np.int64]:
    bias = operator.optional(2)
    if bias is None:
        return np.zeros(count, np.int64)
    if bias.data is None or bias.dtype != "int32" or bias.size != count:
        raise operator.refuse(f"its bias {bias} is not a constant of {count} int32 values")
    return bias.data.reshape(-1).astype(np.int64)


def _constant_weights(operator: Operator, dims: int) -> Tensor:
    filters = operator.input(1)
    if filters.data is None:
        raise operator.refuse(f"its weights {filters} are computed, not constant")
    if filters.dtype != "int8" or filters.quantization is None:
        raise operator.refuse(f"its weights {filters} are not quantised to int8")
    if len(filters.shape) != dims or 0 in filters.shape:
        raise operator.refuse(f"its weights {filters} should have {dims} dimensions")
    return filters


def _image(operator: Operator, tensor: Tensor) -> tuple[int, int, int, int]:
    if len(tensor.shape) != 4 or 0 in tensor.shape:  # noqa: PLR2004 - batch, height, width, channels
        raise operator.refuse(f"{tensor} should have the four dimensions batch, height, width, channels")
    batch, height, width, depth = tensor.shape
    return batch, height, width, depth


def lower_conv2d(operator: Operator, *, fast: bool) -> Step:
    """CONV_2D."""
    filters = _constant_weights(operator, 4)
    batch, height, width, depth = _image(operator, operator.input(0))
    count, taps_h, taps_w, filter_depth = filters.shape
    if filter_depth != depth:
        raise operator.refuse(f"its weights {filters} are for {filter_depth} input channels, the input has {depth}")
    h, w = window(operator, height, taps_h, "h"), window(operator, width, taps_w, "w")
    require_shape(operator, operator.output, (batch, h.out, w.out, count))
    assert filters.data is not None  # noqa: S101 - _constant_weights has checked
    layer = _layer(operator, filters.data.reshape(count, -1).astype(np.int64), filters, 0, fold_zero=True)
    return _convolution(layer, batch, depth, h, w, fast=fast)


def lower_fully_connected(operator: Operator, *, fast: bool) -> Step:
    """FULLY_CONNECTED: a 1x1 convolution over an image of 1 x rows pixels."""
    filters = _constant_weights(operator, 2)
    if operator.option("weights_format") != 0:
        raise operator.refuse("its weights are in a shuffled format")
    count, depth = filters.shape
    tensor, output = operator.input(0), operator.output
    rows = tensor.size // depth
    if not rows or rows * depth != tensor.size:
        raise operator.refuse(f"its input {tensor} is not made of rows of {depth} values")
    if output.size != rows * count or not output.shape or output.shape[-1] != count:
        raise operator.refuse(f"its output {output} should have {rows} rows of {count} values")
    assert filters.data is not None  # noqa: S101 - _constant_weights has checked
    layer = _layer(operator, filters.data.astype(np.int64), filters, 0, fold_zero=True)
    side = Window(1, 1, 1, 1, same=False)
    return _convolution(layer, 1, depth, side, Window(rows, 1, 1, 1, same=False), fast=fast)


def lower_depthwise(operator: Operator, *, fast: bool) -> Step:
    """DEPTHWISE_CONV_2D."""
    filters = _constant_weights(operator, 4)
    batch, height, width, depth = _image(operator, operator.input(0))
    one, taps_h, taps_w, count = filters.shape
    if one != 1 or count % depth:
        raise operator.refuse(f"its weights {filters} do not fit {depth} input channels")
    h, w = window(operator, height, taps_h, "h"), window(operator, width, taps_w, "w")
    require_shape(operator, operator.output, (batch, h.out, w.out, count))
    assert filters.data is not None  # noqa: S101 - _constant_weights has checked
    weights = np.ascontiguousarray(filters.data.reshape(-1, count).T).astype(np.int64)
    if depth == 1:  # every output channel reads the one input channel: an ordinary convolution
        return _convolution(_layer(operator, weights, filters, 3, fold_zero=True), batch, depth, h, w, fast=fast)
    layer = _layer(operator, weights, filters, 3, fold_zero=False)
    reason = layer.fast or ("" if depth == count and count % 4 == 0 else "channels are not one to one in fours")
    use_fast = fast and not reason
    if use_fast:
        # [channel, tap] -> [group of 4, tap, (0, 2, 1, 3)]
        groups = weights.reshape(-1, 4, taps_h * taps_w).transpose(0, 2, 1)[:, :, [0, 2, 1, 3]]
        constant = Constant("int16_t", groups.reshape(-1, 4), "[channel / 4][tap] x channels 0, 2, 1, 3")
    else:
        constant = Constant("int8_t", weights.T, "[tap][channel]")
    return Step(
        operator=operator,
        kernel="tw_depthwise_fast" if use_fast else "tw_depthwise",
        source="depthwise_fast.c" if use_fast else "depthwise.c",
        struct="tw_conv_params",
        fields=_fields(layer, batch, depth, (h, w), constant, fast=use_fast),
        inputs=(layer.input,),
        output=layer.output,
        macs=batch * h.out * w.out * count * taps_h * taps_w,
        note=reason if fast else "",
    )


def _convolution(layer: _Layer, batch: int, depth: int, h: Window, w: Window, *, fast: bool) -> Step:
    terms = h.taps * w.taps * depth
    packed = pack_pairs(layer.weights)
    reason = layer.fast or ("" if packed is not None else "two weights of -128 cannot share a halfword")
    use_fast = fast and not reason and packed is not None
    if use_fast and packed is not None:
        constant = Constant("int16_t", packed, "[pair of channels][term]: 256 * second + first")
        pixels = min(2, batch * h.out * w.out)
        scratch = 2 * pixels * packed.shape[1]
    else:
        constant, scratch = Constant("int8_t", layer.weights, "[channel][term]"), 0
    return Step(
        operator=layer.operator,
        kernel="tw_conv2d_fast" if use_fast else "tw_conv2d",
        source="conv2d_fast.c" if use_fast else "conv2d.c",
        struct="tw_conv_params",
        fields=_fields(layer, batch, depth, (h, w), constant, fast=use_fast),
        inputs=(layer.input,),
        output=layer.output,
        scratch_bytes=scratch,
        macs=batch * h.out * w.out * len(layer.weights) * terms,
        note=reason if fast else "",
    )


def pack_pairs(weights: NDArray[np.int64]) -> NDArray[np.int64] | None:
    """int8 [channels, terms] as int16 [pairs, terms rounded up to 4], 256 · odd channel + even channel.

    ``None`` where a pair does not fit 16 bits (-128 beside a negative weight).
    """
    channels, terms = weights.shape
    padded = np.zeros((channels + channels % 2, terms + -terms % 4), np.int64)
    padded[:channels, :terms] = weights
    packed = 256 * padded[1::2] + padded[0::2]
    return packed if packed.min(initial=0) >= -(1 << 15) else None


def _fields(
    layer: _Layer, batch: int, depth: int, sides: tuple[Window, Window], weights: Constant, *, fast: bool
) -> dict[str, Field]:
    (h, w), (low, high) = sides, activation_range(layer.operator, layer.output)
    return {
        "batch": batch, "in_h": h.size, "in_w": w.size, "in_c": depth,
        "out_h": h.out, "out_w": w.out, "out_c": len(layer.weights),
        "filter_h": h.taps, "filter_w": w.taps, "stride_h": h.stride, "stride_w": w.stride,
        "dilation_h": h.dilation, "dilation_w": w.dilation, "pad_h": h.pad, "pad_w": w.pad,
        "in_zero": layer.input.quantized.zero_point, "out_zero": layer.output.quantized.zero_point,
        "low": low, "high": high,
        "weights": weights,
        "channels": layer.constants(fast=fast),
    }  # fmt: skip
