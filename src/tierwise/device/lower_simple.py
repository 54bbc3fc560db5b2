"""Pooling, elementwise, shape and conversion operators as kernel calls."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from tierwise.device import fixedpoint
from tierwise.device.lower_dense import activation_range, require_int8, require_shape, window
from tierwise.device.step import Alias, Constant, Field, Step

if TYPE_CHECKING:
    from collections.abc import Callable

    from tierwise.device.graph import Operator, Tensor

_MAX_DIMS = 4
_SCALE_TOLERANCE = 1e-5


def _same_quantization(operator: Operator, tensor: Tensor, output: Tensor) -> None:
    """The reference moves values of these operators unchanged, which is right only between equal scales."""
    a, b = tensor.quantized, output.quantized
    if a.zero_point != b.zero_point or not math.isclose(a.scale, b.scale, rel_tol=_SCALE_TOLERANCE):
        raise operator.refuse(f"its input {tensor} and output {output} have different scales or zero points")


def _four(operator: Operator, values: tuple[int, ...], fill: int = 1) -> tuple[int, int, int, int]:
    if len(values) > _MAX_DIMS:
        raise operator.refuse(f"it has {len(values)} dimensions; up to {_MAX_DIMS} are supported")
    a, b, c, d = (fill,) * (_MAX_DIMS - len(values)) + values
    return a, b, c, d


def _strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))


def lower_pool(operator: Operator) -> Step:
    """AVERAGE_POOL_2D and MAX_POOL_2D."""
    tensor, output = operator.input(0), operator.output
    require_int8(operator, tensor, "the input")
    require_int8(operator, output, "the output")
    _same_quantization(operator, tensor, output)
    if len(tensor.shape) != _MAX_DIMS or 0 in tensor.shape:
        raise operator.refuse(f"{tensor} should have the four dimensions batch, height, width, channels")
    batch, height, width, depth = tensor.shape
    h = window(operator, height, operator.option("filter_h"), "h")
    w = window(operator, width, operator.option("filter_w"), "w")
    require_shape(operator, output, (batch, h.out, w.out, depth))
    low, high = activation_range(operator, output)
    fields: dict[str, Field] = {
        "batch": batch, "in_h": height, "in_w": width, "channels": depth, "out_h": h.out, "out_w": w.out,
        "filter_h": h.taps, "filter_w": w.taps, "stride_h": h.stride, "stride_w": w.stride,
        "pad_h": h.pad, "pad_w": w.pad, "low": low, "high": high,
    }  # fmt: skip
    kernel = "tw_average_pool" if operator.name == "AVERAGE_POOL_2D" else "tw_max_pool"
    return Step(operator, kernel, "pool.c", "tw_pool_params", fields, (tensor,), output)


def lower_binary(operator: Operator) -> Step:
    """ADD and MUL with broadcasting."""
    a, b, output = operator.input(0), operator.input(1), operator.output
    for tensor, what in ((a, "input 0"), (b, "input 1"), (output, "the output")):
        require_int8(operator, tensor, what)
    try:
        shape = np.broadcast_shapes(a.shape, b.shape)
    except ValueError:
        raise operator.refuse(f"{a} and {b} cannot be broadcast to one shape") from None
    require_shape(operator, output, shape)
    dims = _four(operator, shape)
    factors = _add_factors(operator, a, b, output) if operator.name == "ADD" else _mul_factors(a, b, output)
    low, high = activation_range(operator, output)
    fields: dict[str, Field] = {
        "dims": dims,
        "stride_a": _broadcast_strides(operator, a.shape),
        "stride_b": _broadcast_strides(operator, b.shape),
        "zero_a": a.quantized.zero_point,
        "zero_b": b.quantized.zero_point,
        "zero_out": output.quantized.zero_point,
        **factors,
        "low": low,
        "high": high,
    }
    kernel = "tw_add" if operator.name == "ADD" else "tw_mul"
    return Step(operator, kernel, "binary.c", "tw_binary_params", fields, (a, b), output)


def _broadcast_strides(operator: Operator, shape: tuple[int, ...]) -> tuple[int, ...]:
    strides = _strides(shape)
    return _four(operator, tuple(0 if size == 1 else s for size, s in zip(shape, strides, strict=True)), 0)


def _add_factors(operator: Operator, a: Tensor, b: Tensor, output: Tensor) -> dict[str, Field]:
    """Both inputs are brought to twice the larger scale with 20 bits of headroom, then to the output's scale."""
    twice_max = 2 * max(a.quantized.scale, b.quantized.scale)
    real_out = twice_max / ((1 << 20) * output.quantized.scale)
    if real_out >= 1:
        raise operator.refuse(f"the scale of its output {output} is too small for its inputs")
    multiplier_a, shift_a = fixedpoint.quantize_multiplier(a.quantized.scale / twice_max)
    multiplier_b, shift_b = fixedpoint.quantize_multiplier(b.quantized.scale / twice_max)
    multiplier_out, shift_out = fixedpoint.quantize_multiplier(real_out)
    return {
        "multiplier_a": multiplier_a, "shift_a": shift_a, "multiplier_b": multiplier_b, "shift_b": shift_b,
        "multiplier_out": multiplier_out, "shift_out": shift_out,
    }  # fmt: skip


def _mul_factors(a: Tensor, b: Tensor, output: Tensor) -> dict[str, Field]:
    multiplier, shift = fixedpoint.quantize_multiplier(a.quantized.scale * b.quantized.scale / output.quantized.scale)
    return {"multiplier_out": multiplier, "shift_out": shift}


def lower_concatenation(operator: Operator) -> list[Step]:
    """CONCATENATION: one copy an input."""
    output = operator.output
    require_int8(operator, output, "the output")
    if operator.option("activation") != fixedpoint.NONE:
        raise operator.refuse("a fused activation")
    if not output.shape:
        raise operator.refuse("its output is a scalar")
    axis = operator.option("axis")
    axis += len(output.shape) if axis < 0 else 0
    if not 0 <= axis < len(output.shape):
        raise operator.refuse(f"axis {operator.option('axis')} does not exist in {output}")
    stride = math.prod(output.shape[axis:])
    steps, offset = [], 0
    for position in range(len(operator.inputs)):
        tensor = operator.input(position)
        require_int8(operator, tensor, f"input {position}")
        _same_quantization(operator, tensor, output)
        if (
            len(tensor.shape) != len(output.shape)
            or tensor.shape[:axis] + tensor.shape[axis + 1 :] != output.shape[:axis] + output.shape[axis + 1 :]
        ):
            raise operator.refuse(f"input {position} {tensor} does not fit the output {output}")
        inner = math.prod(tensor.shape[axis:])
        fields: dict[str, Field] = {
            "outer": math.prod(output.shape[:axis]), "inner": inner, "stride": stride, "offset": offset,
        }  # fmt: skip
        steps.append(Step(operator, "tw_concat", "shape.c", "tw_concat_params", fields, (tensor,), output))
        offset += inner
    if offset != stride:
        raise operator.refuse(f"its inputs have {offset} values a row, its output {output} has {stride}")
    return steps


def lower_pad(operator: Operator) -> Step:
    """PAD and PADV2 with constant amounts."""
    tensor, output = operator.input(0), operator.output
    require_int8(operator, tensor, "the input")
    require_int8(operator, output, "the output")
    _same_quantization(operator, tensor, output)
    amounts = operator.input(1)
    if amounts.data is None or amounts.dtype not in {"int32", "int64"} or amounts.shape != (len(tensor.shape), 2):
        raise operator.refuse(f"its paddings {amounts} are not a constant of 2 integers for each dimension")
    before, after = (tuple(int(n) for n in amounts.data[:, side]) for side in (0, 1))
    if min(before + after, default=0) < 0:
        raise operator.refuse(f"its paddings {amounts} hold a negative number")
    padded = (sum(sizes) for sizes in zip(before, tensor.shape, after, strict=True))
    require_shape(operator, output, tuple(padded))
    fields: dict[str, Field] = {
        "in_dims": _four(operator, tensor.shape), "out_dims": _four(operator, output.shape),
        "before": _four(operator, before, 0), "value": _pad_value(operator, output),
    }  # fmt: skip
    return Step(operator, "tw_pad", "shape.c", "tw_pad_params", fields, (tensor,), output)


def _pad_value(operator: Operator, output: Tensor) -> int:
    value = operator.optional(2)
    if value is None:
        return output.quantized.zero_point
    if value.data is None or value.size != 1:
        raise operator.refuse(f"its padding value {value} is not one constant")
    require_int8(operator, value, "the padding value")
    _same_quantization(operator, value, output)
    return int(value.data.reshape(-1)[0])


def lower_mean(operator: Operator) -> Step:
    """MEAN over constant axes. The multiplier takes the division by the count in, as the reference does."""
    tensor, output, axes = operator.input(0), operator.output, operator.input(1)
    require_int8(operator, tensor, "the input")
    require_int8(operator, output, "the output")
    if axes.data is None or axes.dtype != "int32":
        raise operator.refuse(f"its axes {axes} are not constant int32")
    rank = len(tensor.shape)
    wanted = [int(axis) for axis in axes.data.reshape(-1)]
    if not all(-rank <= axis < rank for axis in wanted):
        raise operator.refuse(f"an axis of {wanted} does not exist in {tensor}")
    reduced = {axis % rank for axis in wanted}
    kept = tuple(size for axis, size in enumerate(tensor.shape) if axis not in reduced)
    if tuple(size for size in output.shape if size != 1) != tuple(size for size in kept if size != 1):
        raise operator.refuse(f"its output {output} does not fit the mean of {tensor} over axes {sorted(reduced)}")
    count = math.prod(tensor.shape[axis] for axis in reduced)
    if not count or not tensor.size:
        raise operator.refuse(f"its input {tensor} is empty")
    strides = _strides(tensor.shape)
    multiplier, shift = fixedpoint.quantize_multiplier(tensor.quantized.scale / output.quantized.scale)
    down = min(count.bit_length() - 1, 32, 31 + shift)
    keep = [axis for axis in range(rank) if axis not in reduced]
    gone = sorted(reduced)
    fields: dict[str, Field] = {
        "out_dims": _four(operator, tuple(tensor.shape[axis] for axis in keep)),
        "out_strides": _four(operator, tuple(strides[axis] for axis in keep), 0),
        "reduced_dims": _four(operator, tuple(tensor.shape[axis] for axis in gone)),
        "reduced_strides": _four(operator, tuple(strides[axis] for axis in gone), 0),
        "bias": -tensor.quantized.zero_point * count,
        "multiplier": (multiplier << down) // count,
        "shift": shift - down,
        "out_zero": output.quantized.zero_point,
    }
    return Step(operator, "tw_mean", "mean.c", "tw_mean_params", fields, (tensor,), output)


def lower_softmax(operator: Operator) -> Step:
    """SOFTMAX over the last dimension."""
    tensor, output = operator.input(0), operator.output
    require_int8(operator, tensor, "the input")
    require_int8(operator, output, "the output")
    require_shape(operator, output, tensor.shape)
    if not tensor.shape or not 0 < tensor.shape[-1] < 4096:  # noqa: PLR2004 - the sum of exps has 12 integer bits
        raise operator.refuse(f"{tensor} should have 1 to 4095 values in its last dimension")
    if output.quantized.scale != 1 / 256 or output.quantized.zero_point != fixedpoint.INT8_MIN:
        raise operator.refuse(f"its output {output} should have scale 1/256 and zero point -128")
    beta = operator.options["beta"]
    if not math.isfinite(beta) or beta <= 0:
        raise operator.refuse(f"beta is {beta}")
    real = min(beta * tensor.quantized.scale * (1 << 26), (1 << 31) - 1.0)
    if real <= 1:
        raise operator.refuse(f"the scale of its input {tensor} is too small")
    multiplier, shift = fixedpoint.quantize_multiplier(real)
    size = min(255, fixedpoint.input_radius(5, shift)) + 1
    table = [fixedpoint.exp_on_negative(fixedpoint.multiply(-i, multiplier, shift), 5) for i in range(size)]
    fields: dict[str, Field] = {
        "rows": tensor.size // tensor.shape[-1],
        "depth": tensor.shape[-1],
        "table_size": size,
        "exp_table": Constant("int32_t", np.array(table, np.int64), "exp(-i * scale * beta), Q0.31"),
    }
    return Step(operator, "tw_softmax", "softmax.c", "tw_softmax_params", fields, (tensor,), output)


def _lookup(operator: Operator, function: Callable[[int], int]) -> Step:
    tensor, output = operator.input(0), operator.output
    require_int8(operator, tensor, "the input")
    require_int8(operator, output, "the output")
    require_shape(operator, output, tensor.shape)
    table = np.array([fixedpoint.clamp8(function(q)) for q in range(-128, 128)], np.int64)
    constant = Constant("int8_t", table, "[x + 128]")
    return Step(operator, "tw_lookup", "lookup.c", None, {}, (tensor,), output, arguments=(constant, tensor.size))


def lower_relu(operator: Operator) -> Step:
    """RELU (rescaling on the way) and RELU6 as operators of their own."""
    source, target = operator.input(0), operator.output
    require_int8(operator, source, "the input")
    require_int8(operator, target, "the output")
    a, b = source.quantized, target.quantized
    if operator.name == "RELU":
        multiplier, shift = fixedpoint.quantize_multiplier(a.scale / b.scale)
        low, _ = fixedpoint.activation_range(fixedpoint.RELU, b.scale, b.zero_point)
        return _lookup(
            operator,
            lambda q: max(low, b.zero_point + fixedpoint.multiply(q - a.zero_point, multiplier, shift)),
        )
    _same_quantization(operator, source, target)
    low, high = fixedpoint.activation_range(fixedpoint.RELU6, a.scale, a.zero_point)
    return _lookup(operator, lambda q: max(low, min(high, q)))


def lower_sigmoid(operator: Operator) -> Step:
    """LOGISTIC and TANH: Q4.27 inputs, a table of all 256 answers."""
    tensor, output = operator.input(0), operator.output
    require_int8(operator, tensor, "the input")
    require_int8(operator, output, "the output")
    logistic = operator.name == "LOGISTIC"
    zero, scale = (-128, 1 / 256) if logistic else (0, 1 / 128)
    if output.quantized.zero_point != zero or not math.isclose(output.quantized.scale, scale, rel_tol=1e-3):
        raise operator.refuse(f"its output {output} should have scale {scale} and zero point {zero}")
    quantization = tensor.quantized
    multiplier, shift = fixedpoint.quantize_multiplier(quantization.scale * (1 << 27))
    if not 0 <= shift <= 31:  # noqa: PLR2004 - bits of an int32
        raise operator.refuse(f"the scale of its input {tensor} is out of range")
    radius = fixedpoint.input_radius(4, shift)

    def value(q: int) -> int:
        centred = q - quantization.zero_point
        if abs(centred) >= radius:
            return fixedpoint.INT8_MAX if centred > 0 else fixedpoint.INT8_MIN
        q4 = fixedpoint.multiply(centred, multiplier, shift)
        if logistic:
            return fixedpoint.rounding_shift_right(fixedpoint.logistic_q31(q4, 4), 23) + fixedpoint.INT8_MIN
        return fixedpoint.rounding_shift_right(fixedpoint.tanh_q31(q4, 4), 24)

    return _lookup(operator, value)


def lower_quantize(operator: Operator) -> Step:
    """QUANTIZE: from float32, or from int8 to other scales."""
    tensor, output = operator.input(0), operator.output
    require_int8(operator, output, "the output")
    require_shape(operator, output, tensor.shape)
    target = output.quantized
    if tensor.dtype == "float32":
        fields: dict[str, Field] = {"size": tensor.size, "scale": target.scale, "zero": target.zero_point}
        return Step(operator, "tw_quantize", "affine.c", "tw_affine_params", fields, (tensor,), output)
    require_int8(operator, tensor, "the input")
    source = tensor.quantized
    multiplier, shift = fixedpoint.quantize_multiplier(source.scale / target.scale)
    return _lookup(
        operator, lambda q: fixedpoint.multiply(q - source.zero_point, multiplier, shift) + target.zero_point
    )


def lower_dequantize(operator: Operator) -> Step:
    """DEQUANTIZE to float32."""
    tensor, output = operator.input(0), operator.output
    require_int8(operator, tensor, "the input")
    require_shape(operator, output, tensor.shape)
    if output.dtype != "float32":
        raise operator.refuse(f"its output {output} is not float32")
    source = tensor.quantized
    fields: dict[str, Field] = {"size": tensor.size, "scale": source.scale, "zero": source.zero_point}
    return Step(operator, "tw_dequantize", "affine.c", "tw_affine_params", fields, (tensor,), output)


def lower_reshape(operator: Operator) -> Alias | Step:
    """RESHAPE, SQUEEZE and EXPAND_DIMS: the output's static shape says it all. Only a constant is copied."""
    tensor, output = operator.input(0), operator.output
    if tensor.dtype != output.dtype or tensor.size != output.size:
        raise operator.refuse(f"{tensor} and {output} do not hold the same values")
    if tensor.dtype == "int8":
        _same_quantization(operator, tensor, output)
    if tensor.data is not None:
        fields: dict[str, Field] = {"outer": 1, "inner": tensor.bytes, "stride": tensor.bytes, "offset": 0}
        return Step(operator, "tw_concat", "shape.c", "tw_concat_params", fields, (tensor,), output)
    return Alias(operator, tensor, output)
