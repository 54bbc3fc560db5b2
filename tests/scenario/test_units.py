"""Quantities with units."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tierwise.scenario import units


@pytest.mark.parametrize(
    ("text", "ns"),
    [("5ms", 5_000_000), ("0.7ms", 700_000), ("1h", 3_600_000_000_000), ("2.5us", 2500), ("0", 0), ("1e-3 s", 10**6)],
)
def test_durations_are_exact_nanoseconds(text: str, ns: int) -> None:
    assert units.parse_ns(text) == ns


@pytest.mark.parametrize(
    ("text", "dimension", "value"),
    [
        ("10Mbit/s", units.BIT_RATE, Decimal(10_000_000)),
        ("1MB/s", units.BIT_RATE, Decimal(8_000_000)),
        ("300nJ/bit", units.ENERGY_PER_BIT, Decimal("3e-7")),
        ("1kB", units.SIZE, Decimal(1000)),
        ("2KiB", units.SIZE, Decimal(2048)),
        ("1%", units.FRACTION, Decimal("0.01")),
        (0.25, units.FRACTION, Decimal("0.25")),
        ("2/min", units.RATE, Decimal(2) * (1 / Decimal(60))),
        ("3Wh", units.ENERGY, Decimal(10800)),
        ("30mW", units.POWER, Decimal("0.03")),
        ("300g/kWh", units.CARBON, Decimal(300)),
    ],
)
def test_each_dimension_reads_its_units(text: str, dimension: units.Dimension, value: Decimal) -> None:
    assert units.parse(text, dimension) == value


def test_a_bare_number_needs_a_unit() -> None:
    with pytest.raises(ValueError, match="a duration needs a unit, such as 5ms"):
        units.parse_ns(5)


def test_a_wrong_unit_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"'Mbit/x' is no unit of bit rate; known: bit/s, kbit/s"):
        units.parse("10Mbit/x", units.BIT_RATE)


@pytest.mark.parametrize("value", [None, True, [], "ms", "1 2ms", "five ms", ""])
def test_what_is_no_quantity_says_what_was_expected(value: object) -> None:
    with pytest.raises(ValueError, match="expected a duration such as 5ms"):
        units.parse_ns(value)


@given(st.integers(0, 2**62))
def test_durations_round_trip(ns: int) -> None:
    assert units.parse_ns(units.format_ns(ns)) == ns


def test_a_duration_must_fit_into_64_bits() -> None:
    with pytest.raises(ValueError, match="292 years"):
        units.parse_ns("1e12s")
