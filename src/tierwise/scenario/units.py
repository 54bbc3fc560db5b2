"""Quantities with units, as scenarios write them: ``5ms``, ``10Mbit/s``, ``1kB``, ``300nJ/bit``.

Every dimensional value needs its unit; a bare number is refused (except zero), because 5 could be seconds or
milliseconds. Decimal arithmetic keeps ``0.7ms`` exactly 700,000 ns.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,3})?"
_QUANTITY = re.compile(rf"\s*({NUMBER})\s*([^\s\d+-][^\s]*)?\s*\Z")
_PREFIX = {
    "p": Decimal("1e-12"),
    "n": Decimal("1e-9"),
    "u": Decimal("1e-6"),
    "µ": Decimal("1e-6"),
    "m": Decimal("1e-3"),
    "": Decimal(1),
    "k": Decimal("1e3"),
    "M": Decimal("1e6"),
    "G": Decimal("1e9"),
}


def _scaled(unit: str, prefixes: str, factor: Decimal | int = 1) -> dict[str, Decimal]:
    return {prefix + unit: _PREFIX[prefix] * factor for prefix in ["", *prefixes]}


@dataclass(frozen=True)
class Dimension:
    """One kind of quantity. ``units`` maps each unit to its size in the base unit; ``example`` is shown in errors."""

    name: str
    base: str
    units: Mapping[str, Decimal]
    example: str


_SECONDS = {
    **_scaled("s", "numµ"),
    "min": Decimal(60),
    "h": Decimal(3600),
    "d": Decimal(86400),
}

DURATION = Dimension("duration", "ns", {unit: size * 10**9 for unit, size in _SECONDS.items()}, "5ms")
RATE = Dimension(
    "rate",
    "1/s",
    {**_scaled("Hz", "mkM"), **{f"/{unit}": 1 / size for unit, size in _SECONDS.items()}},
    "2/s or 1Hz",
)
SIZE = Dimension(
    "size",
    "B",
    {**_scaled("B", "kMG"), "KiB": Decimal(2**10), "MiB": Decimal(2**20), "GiB": Decimal(2**30)},
    "1kB",
)
BIT_RATE = Dimension("bit rate", "bit/s", {**_scaled("bit/s", "kMG"), **_scaled("B/s", "kMG", 8)}, "10Mbit/s")
POWER = Dimension("power", "W", _scaled("W", "numµk"), "30mW")
ENERGY = Dimension(
    "energy",
    "J",
    {**_scaled("J", "pnumµkM"), **_scaled("Wh", "mk", 3600)},
    "5mJ or 3Wh",
)
ENERGY_PER_BIT = Dimension("energy a bit", "J/bit", _scaled("J/bit", "pnumµ"), "300nJ/bit")
CARBON = Dimension(
    "carbon intensity", "g/kWh", {"g/kWh": Decimal(1), "kg/kWh": Decimal(1000), "g/Wh": Decimal(1000)}, "300g/kWh"
)
FRACTION = Dimension("fraction", "", {"%": Decimal("0.01"), "ppm": Decimal("1e-6")}, "0.01 or 1%")
DRIFT = Dimension("clock drift", "ppm", {"ppm": Decimal(1)}, "40ppm")
DIMENSIONS = (DURATION, RATE, SIZE, BIT_RATE, POWER, ENERGY, ENERGY_PER_BIT, CARBON, FRACTION, DRIFT)


def parse(value: object, dimension: Dimension) -> Decimal:
    """The value in the dimension's base unit. Raises ``ValueError`` saying what was expected."""
    match = None
    if isinstance(value, str | int | float) and not isinstance(value, bool):
        match = _QUANTITY.match(str(value))
    if match is None:
        raise ValueError(f"expected a {dimension.name} such as {dimension.example}")
    try:
        number = Decimal(match[1])
    except InvalidOperation as error:  # pragma: no cover - the pattern admits only what Decimal reads
        raise ValueError(f"expected a {dimension.name} such as {dimension.example}") from error
    unit = match[2]
    if unit is None:
        if number == 0 or dimension is FRACTION:
            return number
        raise ValueError(f"a {dimension.name} needs a unit, such as {dimension.example}")
    size = dimension.units.get(unit)
    if size is None:
        raise ValueError(f"{unit!r} is no unit of {dimension.name}; known: {', '.join(dimension.units)}")
    return number * size


def parse_ns(value: object) -> int:
    """A duration as whole nanoseconds, at most 292 years."""
    exact = parse(value, DURATION)
    if abs(exact) >= 2**63:
        raise ValueError("longer than 292 years")
    return int(exact.to_integral_value())


def format_ns(ns: int) -> str:
    """A duration in its natural unit, readable by ``parse_ns``."""
    for unit, size in (("s", 10**9), ("ms", 10**6), ("us", 10**3)):
        if ns % size == 0 or ns > 10 * size:
            return f"{Decimal(ns) / size:f}{unit}"
    return f"{ns}ns"
