"""Service times from a profile: batches take what was measured for their size, in both engines and compiled or not."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.scenario.examples import MINIMAL, PROFILE
from tests.sim.runs import load, trace_of
from tests.sim.test_engines import RICH, assert_same
from tierwise.core.errors import ConfigurationError
from tierwise.sim import simulate
from tierwise.sim.costs import constants_of
from tierwise.sim.inputs import input_problems
from tierwise.sim.kernel.tables import R_FINISHED, R_STARTED
from tierwise.sim.sensitivity import numbers_of, scaled

if TYPE_CHECKING:
    from pathlib import Path

    from tierwise.scenario import Scenario

FAST = {
    "models.anomaly.edge": "{profile: p.yaml}",
    "devices.sensors.traffic": "{pattern: poisson, rate: 40/s}",
    "run.duration": "20s",
}
BATCHED = {"nodes.gateway": "{tier: edge, batch: {max_size: 4, max_wait: 3ms}}"}
SINGLE = {"nodes.gateway": "{tier: edge}"}


def profiled(folder: Path, changes: dict[str, str], *, text: str = PROFILE) -> Scenario:
    (folder / "p.yaml").write_text(text)
    return load(folder, MINIMAL, FAST | changes)


def inferences_us(scenario: Scenario, engine: str = "event") -> np.ndarray:
    """Of the batches: how many requests each held, and how long it took."""
    rows, _ = trace_of(scenario, engine)
    rows = rows[rows[:, R_FINISHED] >= 0]
    starts, size = np.unique(rows[:, R_STARTED], return_counts=True)
    first = np.searchsorted(np.sort(rows[:, R_STARTED]), starts)
    taken = (rows[:, R_FINISHED] - rows[:, R_STARTED])[np.argsort(rows[:, R_STARTED], kind="stable")][first]
    return np.stack([size, taken / 1000], axis=1)


def test_single_requests_take_the_measured_times_equally_often(tmp_path: Path) -> None:
    scenario = profiled(tmp_path, SINGLE)
    taken = inferences_us(scenario, "vector")
    times, count = np.unique(taken[:, 1], return_counts=True)
    assert times.tolist() == [1000, 2000, 3000]
    assert count == pytest.approx(count.mean(), rel=0.1)
    assert_same(scenario)


def test_batches_take_the_times_of_their_size(tmp_path: Path) -> None:
    taken = inferences_us(profiled(tmp_path, BATCHED))
    expected = {
        1: [1000, 2000, 3000],
        2: [1000, 8000 / 3, 13000 / 3],
        3: [1000, 10000 / 3, 17000 / 3],
        4: [1000, 4000, 7000],
    }
    for size, times in expected.items():
        found, count = np.unique(taken[taken[:, 0] == size, 1], return_counts=True)
        assert found.tolist() == pytest.approx(times, abs=1e-3)
        assert count.min() > 20


def test_a_stated_service_time_counts_and_marginal_with_it(tmp_path: Path) -> None:
    changes = BATCHED | {"models.anomaly.edge.service": "2ms", "nodes.gateway.batch.marginal": "0.5"}
    taken = inferences_us(profiled(tmp_path, changes))
    assert {tuple(pair) for pair in taken.tolist()} == {(1, 2000), (2, 3000), (3, 4000), (4, 5000)}
    changes = BATCHED | {"nodes.gateway.service": "2ms"}
    assert {tuple(pair) for pair in inferences_us(profiled(tmp_path, changes)).tolist()} >= {(1, 2000), (4, 2000)}


def test_marginal_is_for_the_models_of_the_node_that_have_no_profile(tmp_path: Path) -> None:
    other = {"models.other": "{edge: {service: 1ms, source: test}}", "devices.sensors.model": "anomaly"}
    changes = BATCHED | other | {"nodes.gateway.batch.marginal": "0.5"}
    assert inferences_us(profiled(tmp_path, changes))[:, 1].max() == 7000


def test_both_engines_give_the_same_trace_of_profiles(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text(PROFILE)
    tiers = {
        "models.m.device": "{profile: p.yaml}",
        "models.m.edge": "{profile: p.yaml}",
        "nodes.gateway.service": "null",
    }
    assert_same(load(tmp_path, RICH, tiers))
    assert_same(load(tmp_path, RICH, tiers | {"nodes.gateway.batch": "{max_size: 1}"}))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("times_us: [1000, 2000, 3000]", "times_us: [1500, 2000, 2500]"),
        ("accuracy: 0.9", "accuracy: 0.4"),
        ("energy_uj: 70", "energy_uj: 80"),
    ],
)
def test_what_the_profile_says_changes_the_result(tmp_path: Path, old: str, new: str) -> None:
    on_the_device = {"models.anomaly.device": "{profile: p.yaml}", "placement": "device"}
    one = simulate(profiled(tmp_path, on_the_device))
    other = simulate(profiled(tmp_path, on_the_device, text=PROFILE.replace(old, new)))
    assert (one.trace_sha256, one.accuracy, one.energy_j) != (other.trace_sha256, other.accuracy, other.energy_j)


PROGRAM = """
import sys
from pathlib import Path
from tests.sim.test_profiles import BATCHED, profiled
from tierwise.sim import simulate
print(simulate(profiled(Path(sys.argv[1]), BATCHED)).trace_sha256)
"""


def test_the_trace_is_the_same_compiled_or_not(tmp_path: Path) -> None:
    found = {
        subprocess.run(
            [sys.executable, "-c", PROGRAM, str(tmp_path)],
            env={**os.environ, "NUMBA_DISABLE_JIT": disabled},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for disabled in ("0", "1")
    }
    assert len(found) == 1
    assert len(found.pop()) == 65


def test_its_size_must_fit_the_board(tmp_path: Path) -> None:
    board = "{active_power: 1mW, memory: 1kB, source: test}"
    changes = {"models.anomaly.device": "{profile: p.yaml}", "placement": "device", "devices.sensors.board": board}
    with pytest.raises(ConfigurationError, match=r"the model \(2000 B\) is larger than the board's memory"):
        profiled(tmp_path, changes)


def test_its_figures_are_constants_with_its_source(tmp_path: Path) -> None:
    scenario = profiled(tmp_path, BATCHED)
    [edge] = [one for one in constants_of(scenario) if one.path == "models.anomaly.edge"]
    assert edge.source == "measured in a test"
    assert edge.value["service"] == "{empirical: [1ms, 2ms, 3ms]}"
    assert numbers_of(scenario)["models", "anomaly", "edge", "service"] == (2e6, "measured in a test")
    twice = scaled(scenario, ("models", "anomaly", "edge", "service"), 2.0)
    assert inferences_us(twice)[:, 1].max() == 14000


def test_an_artifact_must_be_the_one_that_was_measured(tmp_path: Path) -> None:
    changes = SINGLE | {"models.anomaly.edge.artifact": "m.onnx"}
    (tmp_path / "m.onnx").write_bytes(b"")
    assert list(input_problems(profiled(tmp_path, changes))) == []
    (tmp_path / "m.onnx").write_bytes(b"another")
    [(where, what)] = input_problems(profiled(tmp_path, changes))
    assert where == ("models", "anomaly", "edge", "profile")
    assert "is not the file that was measured" in what
