"""Builds the kernel's tables row by row."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tierwise.sim.kernel.tables import FLOATS, INTS
from tierwise.sim.numerics import KIND_CODES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from tierwise.scenario.distributions import Distribution

NO_KEY = 0


class Tables:
    """Rows of integers and reals, values of empirical distributions, purposes of random streams."""

    def __init__(self) -> None:
        self.ints: list[list[int]] = []
        self.floats: list[list[float]] = []
        self.values: list[float] = []
        self.purposes: dict[str, int] = {"none": NO_KEY}
        self._distributions: dict[tuple[Distribution, ...], int] = {}

    def row(self, ints: Mapping[int, int] | None = None, floats: Mapping[int, float] | None = None) -> int:
        """Adds a row with the given columns, the others 0. Returns its number."""
        self.ints.append([0] * INTS)
        self.floats.append([0.0] * FLOATS)
        self.set(len(self.ints) - 1, ints or {}, floats or {})
        return len(self.ints) - 1

    def set(self, row: int, ints: Mapping[int, int], floats: Mapping[int, float] | None = None) -> None:
        """Changes columns of a row."""
        for column, number in ints.items():
            self.ints[row][column] = int(number)
        for column, real in (floats or {}).items():
            self.floats[row][column] = float(real)

    def distribution(self, *several: Distribution) -> int:
        """The row of a distribution; of several the first of their rows, which follow one another."""
        if several not in self._distributions:
            self._distributions[several] = len(self.ints)
            for one in several:
                self._add(one)
        return self._distributions[several]

    def _add(self, distribution: Distribution) -> None:
        p = distribution.parameters
        empirical = distribution.kind == "empirical"
        first = len(self.values)
        if empirical:
            self.values.extend(p)
        a, b = (0.0, 0.0) if empirical else (p[0], p[1] if len(p) > 1 else 0.0)
        self.row(floats=dict(enumerate([float(KIND_CODES[distribution.kind]), a, b, float(first), float(len(p))])))

    def key(self, purpose: str, distribution: Distribution | None = None) -> int:
        """The number of a random stream; none is spent on constants."""
        if distribution is not None and distribution.is_constant:
            return NO_KEY
        return self.purposes.setdefault(purpose, len(self.purposes))

    def extend_values(self, values: Sequence[float]) -> int:
        """Appends values; returns the position of the first."""
        first = len(self.values)
        self.values.extend(values)
        return first

    def arrays(self) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
        """``ints``, ``floats`` and ``values`` as arrays."""
        return (
            np.array(self.ints, np.int64),
            np.array(self.floats, np.float64),
            np.array(self.values or [0.0], np.float64),
        )
