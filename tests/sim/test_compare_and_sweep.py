"""Comparisons with common random numbers, and sweeps."""

from __future__ import annotations

import concurrent.futures
from typing import TYPE_CHECKING

import pytest

from tests.components import need
from tests.scenario.examples import MINIMAL
from tests.sim.runs import load
from tierwise.core.errors import ConfigurationError, TransportError
from tierwise.sim.compare import compare
from tierwise.sim.executors import open_executor
from tierwise.sim.run import figures_of, simulate
from tierwise.sim.statistics import batch_means, of_independent, student_975
from tierwise.sim.sweep import grid, sweep

if TYPE_CHECKING:
    from pathlib import Path

RANDOM = {
    "devices.sensors.traffic": "{pattern: poisson, rate: 20/s}",
    "nodes.gateway.service": "{exponential: 2ms}",
}


def test_common_random_numbers_make_differences_sharp(tmp_path: Path) -> None:
    first = load(tmp_path, MINIMAL, RANDOM)
    second = load(tmp_path, MINIMAL, RANDOM | {"links.up.latency": "6ms"})
    found = compare(first, second)
    mean = found.figures["mean_ms"]
    assert mean.difference.mean == pytest.approx(2.0, abs=1e-3)
    assert mean.significant
    single = of_independent([figures_of(simulate(first, seed=seed))["mean_ms"] for seed in range(5)])
    assert single.half_width is not None
    assert mean.difference.half_width is not None
    assert mean.difference.half_width < single.half_width / 20
    same = compare(first, first).figures["mean_ms"]
    assert not same.significant
    assert same.difference.mean == 0


def test_replications_give_intervals(tmp_path: Path) -> None:
    summary = simulate(load(tmp_path, MINIMAL, RANDOM | {"run.replications": "8"}))
    interval = summary.replications["mean_ms"]
    assert interval.samples == 8
    assert interval.method == "replications"
    assert interval.half_width
    assert summary.end_to_end_interval_ms is not None
    assert summary.end_to_end_interval_ms.method == "batch means"


def test_intervals() -> None:
    import numpy as np  # noqa: PLC0415

    assert of_independent([1.0, 2.0, 3.0]).half_width == pytest.approx(4.303 / 3**0.5, rel=1e-3)
    assert student_975(100) == pytest.approx(1.98397, abs=1e-4)
    assert student_975(31) == pytest.approx(2.03951, abs=1e-4)
    assert of_independent([4.0]).half_width is None
    assert batch_means(np.arange(30)) is None


def scenario_file(folder: Path) -> Path:
    path = folder / "s.yaml"
    path.write_text(MINIMAL.replace("duration: 10s", "duration: 2s"))
    return path


def test_a_sweep_runs_the_grid_and_resumes(tmp_path: Path) -> None:
    path, results = scenario_file(tmp_path), tmp_path / "r.jsonl"
    sweeps = {"links.up.latency": ["1ms", "9ms"], "placement": ["edge", "cloud", "mars"]}
    assert len(grid(sweeps)) == 6
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        points = sweep(path, sweeps, results, pool)
        assert [point.values["placement"] for point in points] == ["edge", "cloud", "mars"] * 2
        assert [point.error is None for point in points] == [True, True, False] * 2
        assert "expected a tier" in str(points[2].error)
        first, second = points[0].summary, points[3].summary
        assert first is not None
        assert second is not None
        assert second["end_to_end_ms"]["mean"] - first["end_to_end_ms"]["mean"] == pytest.approx(16)
        lines = results.read_bytes().splitlines(keepends=True)
        assert len(lines) == 6
        results.write_bytes(b"".join(lines[:4]) + lines[4][:30])  # killed while writing the fifth
        counted: list[int] = []
        again = sweep(path, sweeps, results, pool, on_point=lambda n, _: counted.append(n))
        assert len(counted) == 2
        assert [strip(point.summary) for point in again] == [strip(point.summary) for point in points]
        path.write_text(path.read_text() + "# changed\n")
        assert len(sweep(path, sweeps, results, pool)) == 6
    assert len(results.read_bytes().splitlines()) == 12


def strip(summary: dict[str, object] | None) -> object:
    return None if summary is None else {key: value for key, value in summary.items() if key != "wall_s"}


def test_a_foreign_results_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "r.jsonl").write_text("hello\n")
    with (
        concurrent.futures.ThreadPoolExecutor(1) as pool,
        pytest.raises(ConfigurationError, match=r"r\.jsonl:1: not a result of a sweep"),
    ):
        sweep(scenario_file(tmp_path), {"run.seed": ["1"]}, tmp_path / "r.jsonl", pool)


def test_processes_run_a_sweep(tmp_path: Path) -> None:
    with open_executor(workers=2) as pool:
        points = sweep(scenario_file(tmp_path), {"run.seed": ["1", "2"]}, tmp_path / "r.jsonl", pool)
    digests = {point.summary["trace_sha256"] for point in points if point.summary}
    assert len(digests) == 2


@pytest.mark.filterwarnings("ignore")  # the cluster's own
def test_a_dask_cluster_runs_a_sweep(tmp_path: Path) -> None:
    need(package="distributed")
    from distributed import LocalCluster  # noqa: PLC0415 -- optional

    with (
        LocalCluster(n_workers=1, threads_per_worker=1, processes=True, dashboard_address=None) as cluster,
        open_executor(dask=cluster.scheduler_address) as pool,
    ):
        points = sweep(scenario_file(tmp_path), {"run.seed": ["1", "2"]}, tmp_path / "r.jsonl", pool)
    assert all(point.summary and point.summary["answered"] > 0 for point in points)


@pytest.mark.filterwarnings("ignore")
def test_an_unreachable_cluster_is_told() -> None:
    need(package="distributed")
    with (
        pytest.raises(TransportError, match="cannot reach the Dask scheduler"),
        open_executor(dask="tcp://127.0.0.1:1"),
    ):
        pass
