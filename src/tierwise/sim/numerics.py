"""Random numbers and quantile functions that give the same bits on every machine, one by one or in arrays.

Number ``n`` of a stream is a hash of the stream's key and ``n``: there is no state, so it does not matter who draws
first, and a whole array can be drawn at once. Logarithm, exponential and normal quantile use only the IEEE operations
+ - * / and square root, which are exact to the last bit everywhere; the C library's and numpy's differ by machine.
``shared`` functions take scalars (compiled) and arrays alike.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from tierwise.sim.compiled import COMPILES, compiled, compiled_apart, shared

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Keys = NDArray[np.uint64]

CONSTANT, UNIFORM, EXPONENTIAL, NORMAL, LOGNORMAL, PARETO, EMPIRICAL = range(7)
KIND_CODES = {
    "constant": CONSTANT,
    "uniform": UNIFORM,
    "exponential": EXPONENTIAL,
    "normal": NORMAL,
    "lognormal": LOGNORMAL,
    "pareto": PARETO,
    "empirical": EMPIRICAL,
}

LEAST_AND_MOST = np.array([2.0**-54, 1.0 - 2.0**-53])
"""The ends of what ``uniform`` gives."""

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_M1, _M2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_S30, _S27, _S31, _S11 = (np.uint64(shift) for shift in (30, 27, 31, 11))
_LN2_HIGH, _LN2_LOW = 6.93147180369123816490e-01, 1.90821492927058770002e-10
_SQRT_HALF = 0.7071067811865476
_MIDDLE, _FAR = 0.425, 5.0  # where AS 241 changes its approximation
_LOG_TERMS = tuple(1.0 / odd for odd in range(25, 0, -2))
_EXP_TERMS = tuple(1.0 / math.factorial(n) for n in range(15, -1, -1))


@shared
def uniform_core(key: Any, n: Any) -> Any:  # noqa: ANN401 -- a scalar or an array
    """Number ``n`` of the stream ``key`` (both uint64), in (0, 1): the SplitMix64 finaliser of a keyed counter."""
    z = (n * _GOLDEN) ^ key
    z = (z ^ (z >> _S30)) * _M1
    z = (z ^ (z >> _S27)) * _M2
    z = z ^ (z >> _S31)
    return ((z >> _S11) + 0.5) * 1.1102230246251565e-16


@shared
def number_of_send(k: Any, sends: Any) -> Any:  # noqa: ANN401
    """Of a stream's numbers, the one for a send of request ``k`` (below 2**46): no two share it in 2**17 sends."""
    return ((sends >> 6) << 52) | (k << 6) | (sends & 63)


@compiled
def uniform(key: np.uint64, n: int) -> float:
    """One number of a stream."""
    return uniform_core(key, np.uint64(n))


@shared
def log_core(m: Any, e: Any) -> Any:  # noqa: ANN401
    """ln(m * 2**e) for m in [0.7, 1.42]."""
    s = (m - 1.0) / (m + 1.0)
    s2 = s * s
    series = 0.0 * s2
    for term in _LOG_TERMS:
        series = series * s2 + term
    return e * _LN2_HIGH + (2.0 * s * series + e * _LN2_LOW)


@compiled
def log(x: float) -> float:
    """Natural logarithm of one positive number."""
    m, e = math.frexp(x)
    if m < _SQRT_HALF:
        return log_core(2.0 * m, e - 1.0)
    return log_core(m, float(e))


def log_array(x: Floats) -> Floats:
    """Natural logarithm, elementwise."""
    m, e = np.frexp(x)
    low = m < _SQRT_HALF
    return log_core(np.where(low, 2.0 * m, m), e - 1.0 * low)


@shared
def exp_core(reduced: Any) -> Any:  # noqa: ANN401
    """exp of a number in [-0.35, 0.35]."""
    series = 0.0 * reduced
    for term in _EXP_TERMS:
        series = series * reduced + term
    return series


@compiled
def exp(x: float) -> float:
    """Exponential of one number (between -700 and 700)."""
    k = math.floor(x * 1.4426950408889634 + 0.5)
    return math.ldexp(float(exp_core((x - k * _LN2_HIGH) - k * _LN2_LOW)), int(k))


def exp_array(x: Floats) -> Floats:
    """Exponential, elementwise."""
    k = np.floor(x * 1.4426950408889634 + 0.5)
    return np.ldexp(exp_core((x - k * _LN2_HIGH) - k * _LN2_LOW), k.astype(np.int64))


# Rational approximations of the normal quantile: M. J. Wichura, Algorithm AS 241 (PPND16), Appl. Statist. 37 (1988).
_A = (
    2.5090809287301226727e3, 3.3430575583588128105e4, 6.7265770927008700853e4, 4.5921953931549871457e4,
    1.3731693765509461125e4, 1.9715909503065514427e3, 1.3314166789178437745e2, 3.3871328727963666080e0,
)  # fmt: skip
_B = (
    5.2264952788528545610e3, 2.8729085735721942674e4, 3.9307895800092710610e4, 2.1213794301586595867e4,
    5.3941960214247511077e3, 6.8718700749205790830e2, 4.2313330701600911252e1, 1.0,
)  # fmt: skip
_C = (
    7.74545014278341407640e-4, 2.27238449892691845833e-2, 2.41780725177450611770e-1, 1.27045825245236838258e0,
    3.64784832476320460504e0, 5.76949722146069140550e0, 4.63033784615654529590e0, 1.42343711074968357734e0,
)  # fmt: skip
_D = (
    1.05075007164441684324e-9, 5.47593808499534494600e-4, 1.51986665636164571966e-2, 1.48103976427480074590e-1,
    6.89767334985100004550e-1, 1.67638483018380384940e0, 2.05319162663775882187e0, 1.0,
)  # fmt: skip
_E = (
    2.01033439929228813265e-7, 2.71155556874348757815e-5, 1.24266094738807843860e-3, 2.65321895265761230930e-2,
    2.96560571828504891230e-1, 1.78482653991729133580e0, 5.46378491116411436990e0, 6.65790464350110377720e0,
)  # fmt: skip
_F = (
    2.04426310338993978564e-15, 1.42151175831644588870e-7, 1.84631831751005468180e-5, 7.86869131145613259100e-4,
    1.48753612908506148525e-2, 1.36929880922735805310e-1, 5.99832206555887937690e-1, 1.0,
)  # fmt: skip


@shared
def _ratio(numerator: Any, denominator: Any, x: Any) -> Any:  # noqa: ANN401
    above, below = 0.0 * x, 0.0 * x
    for term in numerator:
        above = above * x + term
    for term in denominator:
        below = below * x + term
    return above / below


@shared
def _middle(q: Any) -> Any:  # noqa: ANN401
    return q * _ratio(_A, _B, 0.180625 - q * q)


@shared
def _tail(r: Any) -> Any:  # noqa: ANN401
    return _ratio(_C, _D, r - 1.6)


@shared
def _far_tail(r: Any) -> Any:  # noqa: ANN401
    return _ratio(_E, _F, r - 5.0)


@compiled
def normal(u: float) -> float:
    """Quantile of the standard normal."""
    q = u - 0.5
    if abs(q) <= _MIDDLE:
        return _middle(q)
    r = math.sqrt(-log(min(u, 1.0 - u)))
    z = _tail(r) if r <= _FAR else _far_tail(r)
    return -z if q < 0.0 else z


def normal_array(u: Floats) -> Floats:
    """Quantile of the standard normal, elementwise."""
    q = u - 0.5
    r = np.sqrt(-log_array(np.minimum(u, 1.0 - u)))
    z = np.where(r <= _FAR, _tail(r), _far_tail(r))
    return np.where(np.abs(q) <= _MIDDLE, _middle(q), np.where(q < 0.0, -z, z))


@compiled_apart
def quantile(row: Floats, values: Floats, u: float) -> float:  # noqa: PLR0911 -- one for each kind
    """Quantile ``u`` of a distribution: ``row`` is (kind, a, b, first, count), ``values`` hold the empirical ones."""
    kind = int(row[0])
    a, b = row[1], row[2]
    if kind == CONSTANT:
        return a
    if kind == UNIFORM:
        return a + (b - a) * u
    if kind == EXPONENTIAL:
        return -a * log(u)
    if kind == EMPIRICAL:
        return values[int(row[3]) + int(u * row[4])]
    if kind == PARETO:
        return a * exp(-log(u) / b)
    z = normal(u)
    if kind == NORMAL:
        return max(0.0, a + b * z)
    return a * exp(b * z)


def quantile_array(row: Floats, values: Floats, u: Floats) -> Floats:  # noqa: PLR0911 -- one for each kind
    """``quantile`` of each number in ``u``."""
    kind, a, b = int(row[0]), row[1], row[2]
    if kind == CONSTANT:
        return np.full(u.shape, a)
    if kind == UNIFORM:
        return a + (b - a) * u
    if kind == EXPONENTIAL:
        return -a * log_array(u)
    if kind == EMPIRICAL:
        return values[int(row[3]) + (u * row[4]).astype(np.int64)]
    if kind == PARETO:
        return a * exp_array(-log_array(u) / b)
    z = normal_array(u)
    if kind == NORMAL:
        return np.maximum(0.0, a + b * z)
    return a * exp_array(b * z)


@compiled
def whole(x: float) -> int:
    """The nearest whole number, halves upwards."""
    return math.floor(x + 0.5)


@compiled
def draw(row: Floats, values: Floats, key: np.uint64, n: int) -> int:
    """Whole nanoseconds: number ``n`` of the stream, through the distribution."""
    if row[0] == CONSTANT:
        return whole(row[1])
    return whole(quantile(row, values, uniform(key, n)))


def uniform_array(keys: Keys, n: NDArray[np.int64]) -> Floats:
    """``uniform`` elementwise."""
    return uniform_core(keys, n.astype(np.uint64))


@compiled_apart
def _draw_each(row: Floats, values: Floats, keys: Keys, n: NDArray[np.int64], out: NDArray[np.int64]) -> None:
    for i in range(n.size):
        out[i] = whole(quantile(row, values, uniform(keys[i], n[i])))


def draw_array(row: Floats, values: Floats, keys: Keys, n: NDArray[np.int64]) -> NDArray[np.int64]:
    """``draw`` elementwise, ``keys`` and ``n`` of one size."""
    if row[0] == CONSTANT:
        return np.full(n.shape, whole(float(row[1])), np.int64)
    if not COMPILES:
        return draw_array_in_numpy(row, values, keys, n)
    out = np.empty(n.shape, np.int64)
    _draw_each(row, values, keys, n, out)
    return out


def draw_array_in_numpy(row: Floats, values: Floats, keys: Keys, n: NDArray[np.int64]) -> NDArray[np.int64]:
    """The same in numpy, for machines without numba."""
    return np.floor(quantile_array(row, values, uniform_array(keys, n)) + 0.5).astype(np.int64)
