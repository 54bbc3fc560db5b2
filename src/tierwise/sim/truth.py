"""Whether answers were right: looked up where the model was run, drawn where its accuracy is stated."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tierwise.sim.kernel.tables import R_DEVICE, R_K
from tierwise.sim.numerics import uniform_array

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tierwise.sim.plan import Plan
    from tierwise.sim.rows import Rows


def samples_of(plan: Plan, rows: Rows, count: int) -> NDArray[np.int64]:
    """The sample that each request carries, of ``count``."""
    u = uniform_array(plan.keys[plan.purposes["sample"]][rows[R_DEVICE]], rows[R_K])
    return (u * count).astype(np.int64)


def right_answers(plan: Plan, rows: Rows, model: str, tier: str) -> NDArray[np.bool_] | None:
    """Which answers of a model on a tier were right; ``None`` where nothing is known of its accuracy."""
    answers = plan.answers.get((model, tier))
    if answers is not None:
        sample = samples_of(plan, rows, len(answers.truth))
        right: NDArray[np.bool_] = (answers.labels == answers.truth)[sample]
        return right
    artifact = getattr(plan.scenario.models[model], tier)
    if artifact is None or artifact.accuracy is None:
        return None
    if artifact.accuracy in {0.0, 1.0}:
        return np.full(rows.size, artifact.accuracy == 1.0)
    u = uniform_array(plan.keys[plan.purposes["answer"]][rows[R_DEVICE]], rows[R_K])
    return u < artifact.accuracy
