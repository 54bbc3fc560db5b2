"""Random quantities as a scenario writes them: ``5ms``, or ``{exponential: 5ms}``, ``{uniform: [1ms, 3ms]}``, …

A constant is a distribution too. What a distribution means (its quantile function) is the simulator's affair; here is
its form, its mean and its least value, which routing, checks and lookahead need.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

if TYPE_CHECKING:
    from collections.abc import Callable

Kind = Literal["constant", "uniform", "exponential", "normal", "lognormal", "pareto", "empirical"]
_MAX_VALUES = 100_000
_SHOWN = 8
KINDS: tuple[str, ...] = get_args(Kind)


@dataclass(frozen=True)
class Distribution:
    """``kind`` and its parameters in the quantity's base unit (durations: nanoseconds).

    constant: value · uniform: low, high · exponential: mean · normal: mean, sd (never below 0) ·
    lognormal: median, sigma of the logarithm · pareto: minimum, shape · empirical: equally likely values.
    """

    kind: Kind
    parameters: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Expected value (of the untruncated normal)."""
        p = self.parameters
        match self.kind:
            case "uniform":
                return (p[0] + p[1]) / 2
            case "lognormal":
                return p[0] * math.exp(p[1] ** 2 / 2)
            case "pareto":
                return p[0] * p[1] / (p[1] - 1) if p[1] > 1 else math.inf
            case "empirical":
                return sum(p) / len(p)
            case _:
                return p[0]

    @property
    def minimum(self) -> float:
        """No sample is ever below this."""
        match self.kind:
            case "constant" | "uniform" | "pareto":
                return self.parameters[0]
            case "empirical":
                return min(self.parameters)
            case _:
                return 0.0

    @property
    def is_constant(self) -> bool:
        return self.kind == "constant"

    def scaled(self, factor: float) -> Distribution:
        """That of the quantity times ``factor``; what tells the shape alone stays."""
        shape = self.parameters[1:] if self.kind in {"lognormal", "pareto"} else ()
        scale = self.parameters[: len(self.parameters) - len(shape)]
        return Distribution(self.kind, (*(value * factor for value in scale), *shape))

    def written(self, quantity: Callable[[float], str]) -> str:
        """As a scenario writes it. ``quantity`` writes one value."""
        p = self.parameters
        match self.kind:
            case "constant":
                return quantity(p[0])
            case "exponential":
                return f"{{exponential: {quantity(p[0])}}}"
            case "normal":
                return f"{{normal: {{mean: {quantity(p[0])}, sd: {quantity(p[1])}}}}}"
            case "lognormal":
                return f"{{lognormal: {{median: {quantity(p[0])}, sigma: {p[1]:g}}}}}"
            case "pareto":
                return f"{{pareto: {{minimum: {quantity(p[0])}, shape: {p[1]:g}}}}}"
            case "uniform" | "empirical":
                shown = [quantity(value) for value in p[:_SHOWN]] + ["…"] * (len(p) > _SHOWN)
                return f"{{{self.kind}: [{', '.join(shown)}]}}"


def parse_distribution(value: object, quantity: Callable[[object], float]) -> Distribution:
    """Reads a constant or ``{kind: parameters}``. ``quantity`` reads one value. Raises ``ValueError``."""
    if not isinstance(value, dict):
        return _valid(Distribution("constant", (quantity(value),)))
    if len(value) != 1 or (kind := next(iter(value))) not in KINDS:
        raise ValueError(f"expected a value or one of {{{', '.join(KINDS)}: …}}")
    return _valid(Distribution(kind, _PARSERS[kind](value[kind], quantity)))


def _valid(distribution: Distribution) -> Distribution:
    p = distribution.parameters
    if any(not math.isfinite(x) or x < 0 for x in p):
        raise ValueError("must not be negative or infinite")
    if distribution.kind == "uniform" and p[0] > p[1]:
        raise ValueError("uniform: low is above high")
    if distribution.kind == "pareto" and p[1] <= 0:
        raise ValueError("pareto: shape must be above 0")
    return distribution


def _one(value: object, quantity: Callable[[object], float]) -> tuple[float, ...]:
    return (quantity(value),)


def _pair(value: object, quantity: Callable[[object], float]) -> tuple[float, ...]:
    match value:
        case [low, high]:
            return quantity(low), quantity(high)
        case _:
            raise ValueError("uniform: expected [low, high]")


def _values(value: object, quantity: Callable[[object], float]) -> tuple[float, ...]:
    if not isinstance(value, list) or not 1 <= len(value) <= _MAX_VALUES:
        raise ValueError(f"empirical: expected a list of 1 to {_MAX_VALUES} values")
    return tuple(map(quantity, value))


def _named(kind: str, first: str, second: str, *, second_is_quantity: bool) -> Callable[..., tuple[float, ...]]:
    def read(value: object, quantity: Callable[[object], float]) -> tuple[float, ...]:
        if not isinstance(value, dict) or set(value) != {first, second}:
            raise ValueError(f"{kind}: expected {{{first}: …, {second}: …}}")
        return quantity(value[first]), quantity(value[second]) if second_is_quantity else _number(value[second])

    return read


def _number(value: object) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    raise ValueError("expected a number")


_PARSERS: dict[str, Callable[..., tuple[float, ...]]] = {
    "constant": _one,
    "exponential": _one,
    "uniform": _pair,
    "empirical": _values,
    "normal": _named("normal", "mean", "sd", second_is_quantity=True),
    "lognormal": _named("lognormal", "median", "sigma", second_is_quantity=False),
    "pareto": _named("pareto", "minimum", "shape", second_is_quantity=False),
}


def distribution_forms(value: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """JSON Schema of each kind's parameters. ``value`` is that of one quantity."""
    number = {"type": "number"}
    return {
        "constant": value,
        "uniform": {"type": "array", "items": value, "minItems": 2, "maxItems": 2},
        "exponential": value,
        "normal": _object(mean=value, sd=value),
        "lognormal": _object(median=value, sigma=number),
        "pareto": _object(minimum=value, shape=number),
        "empirical": {"type": "array", "items": value, "minItems": 1, "maxItems": _MAX_VALUES},
    }


def _object(**properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }
