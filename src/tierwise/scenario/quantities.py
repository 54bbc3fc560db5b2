"""The field types of the schema: quantities that pydantic reads from text with a unit."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BeforeValidator, Field, WithJsonSchema

from tierwise.scenario import units
from tierwise.scenario.distributions import Distribution, distribution_forms, parse_distribution

if TYPE_CHECKING:
    from collections.abc import Callable


def _reader(dimension: units.Dimension) -> Callable[[object], float]:
    def read(value: object) -> float:
        return float(units.parse(value, dimension))

    return read


def _size(value: object) -> int:
    exact = units.parse(value, units.SIZE)
    if exact != exact.to_integral_value():
        raise ValueError("a size is a whole number of bytes")
    return int(exact)


def _text_schema(dimension: units.Dimension) -> WithJsonSchema:
    return WithJsonSchema(quantity_schema(dimension))


def quantity_schema(dimension: units.Dimension) -> dict[str, Any]:
    """JSON Schema of a value with its unit: a text, or the bare numbers that ``units.parse`` takes."""
    known = "|".join(re.escape(unit) for unit in dimension.units)
    bare = {"type": "number"} if dimension is units.FRACTION else {"const": 0}
    return {
        "x-quantity": dimension.name,
        "examples": dimension.example.split(" or "),
        "anyOf": [{"type": "string", "pattern": rf"^\s*{units.NUMBER}\s*({known})\s*$"}, bare],
    }


_fraction = _reader(units.FRACTION)


def _distribution_schema(dimension: units.Dimension) -> WithJsonSchema:
    value = quantity_schema(dimension)
    kinds = [
        {"type": "object", "properties": {kind: form}, "required": [kind], "additionalProperties": False}
        for kind, form in distribution_forms(value).items()
    ]
    return WithJsonSchema({"x-quantity": f"{dimension.name} or distribution", "anyOf": [value, *kinds]})


Duration = Annotated[int, BeforeValidator(units.parse_ns), Field(ge=0), _text_schema(units.DURATION)]
"""Whole nanoseconds, not negative."""
PositiveDuration = Annotated[int, BeforeValidator(units.parse_ns), Field(gt=0), _text_schema(units.DURATION)]
Rate = Annotated[float, BeforeValidator(_reader(units.RATE)), Field(gt=0), _text_schema(units.RATE)]
"""A second."""
Size = Annotated[int, BeforeValidator(_size), Field(ge=0, lt=2**40), _text_schema(units.SIZE)]
"""Bytes."""
BitRate = Annotated[float, BeforeValidator(_reader(units.BIT_RATE)), Field(gt=0), _text_schema(units.BIT_RATE)]
Power = Annotated[float, BeforeValidator(_reader(units.POWER)), Field(ge=0), _text_schema(units.POWER)]
"""Watt."""
Energy = Annotated[float, BeforeValidator(_reader(units.ENERGY)), Field(ge=0), _text_schema(units.ENERGY)]
"""Joule."""
EnergyPerBit = Annotated[
    float, BeforeValidator(_reader(units.ENERGY_PER_BIT)), Field(ge=0), _text_schema(units.ENERGY_PER_BIT)
]
CarbonIntensity = Annotated[float, BeforeValidator(_reader(units.CARBON)), Field(ge=0), _text_schema(units.CARBON)]
"""Gram CO2 a kWh."""
Fraction = Annotated[float, BeforeValidator(_fraction), Field(ge=0, le=1), _text_schema(units.FRACTION)]
PositiveFraction = Annotated[float, BeforeValidator(_fraction), Field(gt=0, le=1), _text_schema(units.FRACTION)]
Drift = Annotated[float, BeforeValidator(_reader(units.DRIFT)), Field(gt=-1e6, lt=1e6), _text_schema(units.DRIFT)]
"""Parts in a million; positive is a clock that runs slow, so its periods last longer."""


def _durations(value: object) -> Distribution:
    return parse_distribution(value, units.parse_ns)


def _fractions(value: object) -> Distribution:
    return parse_distribution(value, _fraction)


Durations = Annotated[Distribution, BeforeValidator(_durations), _distribution_schema(units.DURATION)]
Fractions = Annotated[Distribution, BeforeValidator(_fractions), _distribution_schema(units.FRACTION)]
