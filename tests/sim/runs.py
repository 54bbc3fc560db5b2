"""Runs scenarios for the tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tests.scenario.examples import MINIMAL
from tierwise.scenario.document import parse_document
from tierwise.scenario.loader import build_scenario, set_value
from tierwise.sim.collect import in_order_of_creation
from tierwise.sim.kernel.tables import R_VISIBLE
from tierwise.sim.plan import Plan, build_plan
from tierwise.sim.rows import joined
from tierwise.sim.run import finished_rows

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from tierwise.scenario import Scenario


def load(folder: Path, text: str = MINIMAL, changes: dict[str, str] | None = None) -> Scenario:
    """A scenario from text, with values replaced by dotted path."""
    document = parse_document(text, "test.yaml")
    for where, value in (changes or {}).items():
        set_value(document, where, value)
    return build_scenario(document, folder, "test")


def trace_of(scenario: Scenario, engine: str, seed: int | None = None) -> tuple[NDArray[np.int64], Plan]:
    """All requests in the order of creation (one line each, columns ``R_``), and the plan that was run."""
    plan = build_plan(scenario, seed)
    rows = joined(list(in_order_of_creation(finished_rows(plan, engine)[0])))
    return np.stack([rows[column] for column in range(R_VISIBLE)], axis=1), plan
