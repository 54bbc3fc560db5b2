"""The integer arithmetic of TensorFlow Lite's int8 kernels, at compile time.

Quantised kernels replace real factors by a 31-bit multiplier and a power of two and round twice: once in the
doubling high multiplication, once in the division by the power of two. Tables and constants of the generated C are
computed here with exactly that arithmetic (the Q-format functions are those of gemmlowp's fixedpoint.h), which is
what makes the firmware agree bit for bit with TensorFlow Lite Micro.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np

INT8_MIN: Final = -128
INT8_MAX: Final = 127
_INT32_MAX: Final = (1 << 31) - 1

NONE, RELU, RELU_N1_TO_1, RELU6 = range(4)
"""Fused activations, as the schema numbers them."""


def wrap32(value: int) -> int:
    """``value`` modulo 2^32, as a signed number."""
    return (value + (1 << 31)) % (1 << 32) - (1 << 31)


def quantize_multiplier(real: float) -> tuple[int, int]:
    """``(multiplier, shift)`` with real ≈ multiplier · 2^(shift - 31) and multiplier in [2^30, 2^31)."""
    if real == 0.0:
        return 0, 0
    fraction, shift = math.frexp(real)
    multiplier = round_half_away(fraction * (1 << 31))
    if multiplier == 1 << 31:
        multiplier //= 2
        shift += 1
    return (0, 0) if shift < -31 else (multiplier, shift)  # noqa: PLR2004 - all bits would be shifted out


def round_half_away(value: float) -> int:
    """Nearest integer, halves away from zero (C's ``round``)."""
    return int(math.copysign(math.floor(abs(value) + 0.5), value)) if abs(value) < (1 << 52) else int(value)


def doubling_high_mul(a: int, b: int) -> int:
    """round(a · b / 2^31), halves upwards; saturates in the one case that overflows."""
    return min((a * b + (1 << 30)) >> 31, _INT32_MAX)


def rounding_shift_right(value: int, exponent: int) -> int:
    """round(value / 2^exponent), halves away from zero."""
    mask = (1 << exponent) - 1
    threshold = (mask >> 1) + (value < 0)
    return (value >> exponent) + ((value & mask) > threshold)


def multiply(value: int, multiplier: int, shift: int) -> int:
    """``value`` times the real factor that ``(multiplier, shift)`` stands for."""
    shifted = wrap32(value << max(shift, 0))
    return rounding_shift_right(doubling_high_mul(shifted, multiplier), max(-shift, 0))


def clamp8(value: int) -> int:
    """``value`` saturated to int8."""
    return max(INT8_MIN, min(INT8_MAX, value))


def activation_range(activation: int, scale: float, zero_point: int) -> tuple[int, int]:
    """Smallest and largest output of a fused activation, in quantised units (single precision, as the kernels do)."""

    def quantize(real: float) -> int:
        return zero_point + round_half_away(float(np.float32(real) / np.float32(scale)))

    low, high = INT8_MIN, INT8_MAX
    if activation in (RELU, RELU6):
        low = max(low, quantize(0.0))
    if activation == RELU6:
        high = min(high, quantize(6.0))
    if activation == RELU_N1_TO_1:
        low, high = max(low, quantize(-1.0)), min(high, quantize(1.0))
    return low, high


def input_radius(integer_bits: int, left_shift: int) -> int:
    """Largest |input difference| that still fits ``integer_bits`` bits before the point after rescaling."""
    return math.floor(((1 << integer_bits) - 1) * (1 << (31 - integer_bits)) / (1 << left_shift))


def _saturating_shift(value: int, exponent: int) -> int:
    """``value`` · 2^exponent: saturating to the left, rounding to the right."""
    if exponent <= 0:
        return rounding_shift_right(value, -exponent)
    return max(-(1 << 31), min(_INT32_MAX, value << exponent))


def _exp_between_minus_quarter_and_0(a: int) -> int:
    """exp(a) for a in [-1/4, 0), both Q0.31: a Taylor polynomial around -1/8."""
    exp_minus_eighth, third = 1895147668, 715827883
    x = a + (1 << 28)
    x2 = doubling_high_mul(x, x)
    x3 = doubling_high_mul(x2, x)
    x4_over_4 = rounding_shift_right(doubling_high_mul(x2, x2), 2)
    tail = rounding_shift_right(doubling_high_mul(x4_over_4 + x3, third) + x2, 1)
    return exp_minus_eighth + doubling_high_mul(exp_minus_eighth, x + tail)


# exp(-2^k) in Q0.31 for k = -2, -1, …, 4
_EXP_OF_POWERS: Final = (1672461947, 1302514674, 790015084, 290630308, 39332535, 720401, 242)


def exp_on_negative(a: int, integer_bits: int) -> int:
    """exp(a) in Q0.31 for a ≤ 0 with ``integer_bits`` bits before the point."""
    fraction_bits = 31 - integer_bits
    quarter = 1 << (fraction_bits - 2)
    part = (a & (quarter - 1)) - quarter
    result = _exp_between_minus_quarter_and_0(_saturating_shift(part, integer_bits))
    remainder = part - a
    for exponent, factor in zip(range(-2, 5), _EXP_OF_POWERS, strict=True):
        if integer_bits > exponent and remainder & (1 << (fraction_bits + exponent)):
            result = doubling_high_mul(result, factor)
    if integer_bits > 5 and a < -(1 << (fraction_bits + 5)):  # noqa: PLR2004 - below -32 exp is 0 in Q0.31
        result = 0
    return _INT32_MAX if a == 0 else result


def _half_sum(a: int, b: int) -> int:
    total = a + b
    return int((total + (1 if total >= 0 else -1)) / 2)


def _newton_reciprocal(half_denominator: int) -> int:
    """1 / (2 · half_denominator) · 2 in Q2.29, three Newton-Raphson steps from 48/17 - 32/17 · d."""
    x = 1515870810 + doubling_high_mul(half_denominator, -1010580540)
    for _ in range(3):
        remainder = (1 << 29) - doubling_high_mul(half_denominator, x)
        x += _saturating_shift(doubling_high_mul(x, remainder), 2)
    return x


def _one_over_one_plus(a: int) -> int:
    """1 / (1 + a) for a in (0, 1), both Q0.31."""
    return _saturating_shift(_newton_reciprocal(_half_sum(a, _INT32_MAX)), 1)


def _one_minus_over_one_plus(a: int) -> int:
    """(1 - a) / (1 + a) for a in (0, 1), both Q0.31."""
    return _saturating_shift(_newton_reciprocal(_half_sum(a, _INT32_MAX)) - (1 << 29), 2)


def logistic_q31(a: int, integer_bits: int) -> int:
    """1 / (1 + exp(-a)) in Q0.31."""
    if a == 0:
        return 1 << 30
    positive = _one_over_one_plus(exp_on_negative(-abs(a), integer_bits))
    return positive if a > 0 else _INT32_MAX - positive


def tanh_q31(a: int, integer_bits: int) -> int:
    """tanh(a) in Q0.31."""
    if a == 0:
        return 0
    # tanh(-|a|) needs exp(-2|a|): the same bits with one more before the point.
    magnitude = _one_minus_over_one_plus(exp_on_negative(-abs(a), integer_bits + 1))
    return magnitude if a > 0 else -magnitude
