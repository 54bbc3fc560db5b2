"""What a run leaves in its folder: traces, series, summary, page."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from tests.components import need
from tests.scenario.examples import MINIMAL
from tests.sim.runs import load, trace_of
from tests.sim.test_engines import RICH
from tierwise.core.errors import ConfigurationError
from tierwise.core.trace import TRACE_COLUMNS, read_trace_csv
from tierwise.sim import simulate
from tierwise.sim.kernel.tables import OUTCOMES, R_ANSWERED, R_CREATED, R_ENERGY, R_OUTCOME


def test_the_csv_trace_is_the_run_in_microseconds(tmp_path: Path) -> None:
    scenario = load(tmp_path, RICH, {"run.duration": "2s"})
    simulate(scenario, out=tmp_path)
    rows, plan = trace_of(scenario, "event")
    written = read_trace_csv(tmp_path / "trace.csv")
    assert len(written) == len(rows)
    for text, row in zip(written, rows, strict=True):
        assert text.created_us == row[R_CREATED] // 1000
        assert text.answered_us == (None if row[R_ANSWERED] < 0 else row[R_ANSWERED] // 1000)
        assert text.outcome == OUTCOMES[row[R_OUTCOME]]
        assert text.device_id == plan.names[row[0]]
        assert text.energy_device_j == pytest.approx(row[R_ENERGY] * 1e-9)


def test_parquet_holds_the_same_as_csv(tmp_path: Path) -> None:
    need(package="pyarrow")
    import pyarrow.parquet as pq  # noqa: PLC0415 -- optional

    scenario = load(tmp_path, RICH, {"run.duration": "2s"})
    simulate(scenario, out=tmp_path / "a")
    simulate(load(tmp_path, RICH, {"run.duration": "2s", "outputs.trace": "parquet"}), out=tmp_path / "b")
    table = pq.read_table(tmp_path / "b" / "trace.parquet")
    assert tuple(table.column_names) == TRACE_COLUMNS
    with (tmp_path / "a" / "trace.csv").open() as file:
        for line, row in zip(csv.DictReader(file), table.to_pylist(), strict=True):
            for name in TRACE_COLUMNS:
                assert line[name] == ("" if row[name] is None else str(row[name])), name


def test_the_trace_can_be_left_out_and_the_bucket_chosen(tmp_path: Path) -> None:
    simulate(load(tmp_path, MINIMAL, {"outputs": "{trace: none, bucket: 2s}"}), out=tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["report.html", "series.csv", "summary.json"]
    with (tmp_path / "out" / "series.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert [float(line["start_s"]) for line in lines] == [0, 2, 4, 6, 8]
    assert [int(line["requests"]) for line in lines] == [20] * 5
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert sum(int(line["answered"]) for line in lines) == summary["answered"]
    assert all(float(line["mean_ms"]) <= float(line["p99_ms"]) <= float(line["max_ms"]) for line in lines)
    assert max(float(line["max_ms"]) for line in lines) == pytest.approx(summary["end_to_end_ms"]["max"])


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file", tmp_path / "file" / "deeper", Path("/proc/none")):
        with pytest.raises(ConfigurationError, match=f"cannot write the results to {out}: "):
            simulate(load(tmp_path, MINIMAL), out=out)
