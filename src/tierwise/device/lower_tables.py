"""Functions of one value as kernel calls: tables of all answers, softmax, and conversion from and to real numbers."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from tierwise.device import fixedpoint
from tierwise.device.lower_dense import require_int8, require_shape
from tierwise.device.lower_simple import same_quantization
from tierwise.device.step import Constant, Field, Step

if TYPE_CHECKING:
    from collections.abc import Callable

    from tierwise.device.graph import Operator


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
    same_quantization(operator, source, target)
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
