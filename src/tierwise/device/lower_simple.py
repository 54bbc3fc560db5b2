"""Pooling, binary, reducing and moving operators as kernel calls."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from tierwise.device import fixedpoint
from tierwise.device.lower_dense import activation_range, require_int8, require_shape, window
from tierwise.device.step import Alias, Field, Step

if TYPE_CHECKING:
    from tierwise.device.graph import Operator, Tensor

_MAX_DIMS = 4
_SCALE_TOLERANCE = 1e-5


def same_quantization(operator: Operator, tensor: Tensor, output: Tensor) -> None:
    """The reference moves values of these operators unchanged, which is right only between equal scales."""
    a, b = tensor.quantized, output.quantized
    if a.zero_point != b.zero_point or not math.isclose(a.scale, b.scale, rel_tol=_SCALE_TOLERANCE):
        raise operator.refuse(f"its input {tensor} and output {output} have different scales or zero points")


def _four(operator: Operator, values: tuple[int, ...], fill: int = 1) -> tuple[int, int, int, int]:
    if len(values) > _MAX_DIMS:
        raise operator.refuse(f"it has {len(values)} dimensions; up to {_MAX_DIMS} are supported")
    a, b, c, d = (fill,) * (_MAX_DIMS - len(values)) + values
    return a, b, c, d


def _check_shift(operator: Operator, shift: int) -> None:
    if shift > 30:  # noqa: PLR2004 - of 31 bits
        raise operator.refuse("the scale of its output is smaller than that of its input by 2^30 or more")


def _strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))


def lower_pool(operator: Operator) -> Step:
    """AVERAGE_POOL_2D and MAX_POOL_2D."""
    tensor, output = operator.input(0), operator.output
    require_int8(operator, tensor, "the input")
    require_int8(operator, output, "the output")
    same_quantization(operator, tensor, output)
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
    same = a.shape == b.shape
    # Without broadcasting, all dimensions are one.
    dims = (1, 1, 1, output.size) if same else _four(operator, shape)
    factors = _add_factors(operator, a, b, output) if operator.name == "ADD" else _mul_factors(operator, a, b, output)
    low, high = activation_range(operator, output)
    fields: dict[str, Field] = {
        "dims": dims,
        "stride_a": (0, 0, 0, 1) if same else _broadcast_strides(operator, a.shape),
        "stride_b": (0, 0, 0, 1) if same else _broadcast_strides(operator, b.shape),
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


def _mul_factors(operator: Operator, a: Tensor, b: Tensor, output: Tensor) -> dict[str, Field]:
    multiplier, shift = fixedpoint.quantize_multiplier(a.quantized.scale * b.quantized.scale / output.quantized.scale)
    _check_shift(operator, shift)
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
        same_quantization(operator, tensor, output)
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
    same_quantization(operator, tensor, output)
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
    same_quantization(operator, value, output)
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
    _check_shift(operator, shift)
    if count * 256 > 0x7FFFFFFF:  # noqa: PLR2004 - INT32_MAX
        raise operator.refuse(f"it sums {count} values, which can overflow 32 bits")
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


def lower_reshape(operator: Operator) -> Alias | Step:
    """RESHAPE, SQUEEZE and EXPAND_DIMS: the output's static shape says it all. Only a constant is copied."""
    tensor, output = operator.input(0), operator.output
    if tensor.dtype != output.dtype or tensor.size != output.size:
        raise operator.refuse(f"{tensor} and {output} do not hold the same values")
    if tensor.dtype == "int8":
        same_quantization(operator, tensor, output)
    if tensor.data is not None:
        fields: dict[str, Field] = {"outer": 1, "inner": tensor.bytes, "stride": tensor.bytes, "offset": 0}
        return Step(operator, "tw_concat", "shape.c", "tw_concat_params", fields, (tensor,), output)
    return Alias(operator, tensor, output)
