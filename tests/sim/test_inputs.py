"""What a scenario reads from outside is tried by a check, and told at its place."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.scenario.examples import MINIMAL
from tierwise.scenario import ScenarioError, load_scenario
from tierwise.sim.inputs import input_problems

if TYPE_CHECKING:
    from pathlib import Path

DATA = "models.anomaly.data"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {"devices.sensors.traffic": "{pattern: trace, file: none.csv}"},
            "devices.sensors.traffic.file: cannot read the traffic trace",
        ),
        (
            {"traffic.old": "{pattern: trace, file: none.csv}", "devices.sensors.traffic": "old"},
            "devices.sensors.traffic: cannot read the traffic trace",
        ),
        ({"devices.sensors.traffic": "{pattern: trace, file: bad.csv}"}, "bad.csv:2: not a traffic trace"),
        ({DATA: "{file: none.npz}"}, "models.anomaly.data: cannot read the samples"),
        ({DATA: "{file: data.npz, labels: z}"}, "models.anomaly.data: "),
        (
            {DATA: "{file: data.npz}", "models.anomaly.edge.artifact": "none.onnx"},
            "models.anomaly.edge.artifact: there is no file",
        ),
        ({"placement": "{policy: thrice}"}, "placement: no package offers the policy 'thrice'"),
        (
            {"devices.sensors.traffic": "{pattern: external, command: [/nowhere/node]}"},
            "devices.sensors.traffic.command: there is no program '/nowhere/node'",
        ),
    ],
)
def test_what_cannot_be_read_is_told_where_it_is_named(tmp_path: Path, changes: dict[str, str], expected: str) -> None:
    (tmp_path / "bad.csv").write_text("time_s\nlate\n")
    np.savez(tmp_path / "data.npz", x=np.zeros((2, 4)), y=np.zeros(2, int))
    path = tmp_path / "s.yaml"
    path.write_text(MINIMAL)
    load_scenario(path, changes)
    with pytest.raises(ScenarioError) as caught:
        load_scenario(path, changes, input_problems)
    assert expected in str(caught.value), str(caught.value)


def test_what_can_be_read_is_no_problem(tmp_path: Path) -> None:
    (tmp_path / "good.csv").write_text("time_s\n1\n")
    np.savez(tmp_path / "data.npz", x=np.zeros((2, 4)), y=np.zeros(2, int))
    path = tmp_path / "s.yaml"
    path.write_text(MINIMAL)
    changes = {"devices.sensors.traffic": "{pattern: trace, file: good.csv}", DATA: "{file: data.npz}"}
    assert load_scenario(path, changes, input_problems).devices["sensors"].count == 10
