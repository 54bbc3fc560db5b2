"""Random numbers and quantile functions."""

from __future__ import annotations

import statistics

import numpy as np
import pytest

from tierwise.sim import numerics
from tierwise.sim.streams import stream_keys

KEY = stream_keys(7, "test", ["one"])
N = np.arange(20_000)
KEYS = np.repeat(KEY, N.size)
VALUES = np.array([1.0, 5.0, 9.0])
ROWS = {
    "constant": [0, 5.0, 0, 0, 0],
    "uniform": [1, 1e6, 3e6, 0, 0],
    "exponential": [2, 1e6, 0, 0, 0],
    "normal": [3, 1e6, 6e5, 0, 0],
    "lognormal": [4, 1e6, 0.7, 0, 0],
    "pareto": [5, 1e6, 2.5, 0, 0],
    "empirical": [6, 0, 0, 0, 3],
}


@pytest.mark.parametrize("kind", ROWS)
def test_one_by_one_and_in_arrays_the_bits_are_the_same(kind: str) -> None:
    row = np.array(ROWS[kind], float)
    together = numerics.draw_array_in_numpy(row, VALUES, KEYS, N)
    assert (numerics.draw_array(row, VALUES, KEYS, N) == together).all()
    with np.errstate(over="ignore"):
        single = [numerics.draw(row, VALUES, KEY[0], int(n)) for n in N[:3000]]
    assert single == together[:3000].tolist()


def test_known_numbers_never_change() -> None:
    """Guards traces against a change of the generator or of arithmetic, on any machine."""
    uniform = numerics.uniform_array(KEYS[:4], N[:4])
    assert [value.hex() for value in uniform.tolist()] == GOLDEN_UNIFORM
    row = np.array(ROWS["lognormal"], float)
    assert numerics.draw_array_in_numpy(row, VALUES, KEYS[:4], N[:4]).tolist() == GOLDEN_LOGNORMAL


def test_logarithm_and_exponential_are_accurate() -> None:
    x = np.exp(np.linspace(-40, 40, 9999))
    assert np.max(np.abs(numerics.log_array(x) - np.log(x)) / np.maximum(1.0, np.abs(np.log(x)))) < 1e-15
    y = np.linspace(-30, 30, 9999)
    assert np.max(np.abs(numerics.exp_array(y) / np.exp(y) - 1)) < 1e-15


def test_the_normal_quantile_agrees_with_the_standard_library() -> None:
    u = numerics.uniform_array(KEYS, N)
    exact = statistics.NormalDist()
    assert max(abs(z - exact.inv_cdf(p)) for z, p in zip(numerics.normal_array(u), u, strict=True)) < 1e-12
    far = np.array([1e-12, 1 - 1e-12])
    assert numerics.normal_array(far).tolist() == pytest.approx([exact.inv_cdf(p) for p in far], rel=1e-9)


def test_uniform_numbers_look_uniform_and_independent() -> None:
    u = numerics.uniform_array(np.repeat(KEY, 200_000), np.arange(200_000))
    counts, _ = np.histogram(u, 100, (0, 1))
    assert ((counts - 2000) ** 2 / 2000).sum() < 160  # chi square, 99 degrees of freedom, p = 1e-4
    other = numerics.uniform_array(np.repeat(stream_keys(7, "test", ["two"]), 200_000), np.arange(200_000))
    for first, second in ((u[:-1], u[1:]), (u, other)):
        assert abs(np.corrcoef(first, second)[0, 1]) < 0.01


def test_streams_depend_on_seed_purpose_and_entity() -> None:
    keys = {int(stream_keys(seed, purpose, [entity])[0]) for seed in (1, 2) for purpose in "ab" for entity in "xy"}
    assert len(keys) == 8


GOLDEN_UNIFORM = ["0x1.1d70ba08dcef2p-3", "0x1.33523978b3168p-1", "0x1.b98ea2879f7c1p-2", "0x1.e64bdfe282ec0p-8"]
GOLDEN_LOGNORMAL = [468513, 1194553, 885760, 181705]
