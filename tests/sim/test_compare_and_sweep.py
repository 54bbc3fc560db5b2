"""Comparisons with common random numbers, and sweeps."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import csv
import fcntl
import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.components import need
from tests.scenario.examples import MINIMAL
from tests.sim.runs import load
from tests.waiting import until
from tierwise.core.errors import ConfigurationError, TransportError
from tierwise.scenario import ScenarioError
from tierwise.sim.compare import compare
from tierwise.sim.executors import open_executor
from tierwise.sim.results.comparison import difference_grid, verdict
from tierwise.sim.results.origin import Origin
from tierwise.sim.results.sweep import as_csv, point_grid, whole_figures
from tierwise.sim.results.sweep_page import Swept, render_sweep
from tierwise.sim.results.tables import totals
from tierwise.sim.run import figures_of, simulate
from tierwise.sim.statistics import batch_means, of_independent, student_975
from tierwise.sim.sweep import check_values, grid, point_keys, sweep
from tierwise.sim.unstated import unstated, unstated_against

if TYPE_CHECKING:
    from tierwise.scenario import Scenario
    from tierwise.sim import Summary

EXAMPLES = Path(__file__).parents[2] / "examples" / "scenarios"
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
        kept = sum(b'"error":null' in line for line in lines[:4])
        assert len(counted) == 6 - kept  # what is not there, and what failed
        assert [strip(point.summary) for point in again] == [strip(point.summary) for point in points]
        path.write_text(path.read_text() + "# changed\n")
        before = len(results.read_bytes().splitlines())
        assert len(sweep(path, sweeps, results, pool)) == 6
    assert len(results.read_bytes().splitlines()) == before + 6


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


def test_what_a_point_rests_on_makes_a_new_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = MINIMAL.replace("{pattern: periodic, period: 1s}", "{pattern: trace, file: tt.csv}")
    path, results = tmp_path / "s.yaml", tmp_path / "r.jsonl"
    path.write_text(text)
    (tmp_path / "tt.csv").write_text("time_s\n1\n2\n")

    def answered(where: str = "run.seed", value: str = "1") -> list[int | None]:
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            points = sweep(path, {where: [value]}, results, pool)
        return [point.summary["answered"] if point.summary else None for point in points]

    assert answered() == [20]
    (tmp_path / "tt.csv").write_text("time_s\n1\n2\n3\n4\n")
    assert answered() == [40]
    assert answered("devices.sensors.traffic.file", "late.csv") == [None]
    (tmp_path / "late.csv").write_text("time_s\n5\n")
    assert answered("devices.sensors.traffic.file", "late.csv") == [10]
    (tmp_path / "late.csv").write_text("time_s\n5\n6\n")
    assert answered("devices.sensors.traffic.file", "late.csv") == [20]
    lines = len(results.read_bytes().splitlines())
    assert answered() == [40]
    assert len(results.read_bytes().splitlines()) == lines
    monkeypatch.setattr("tierwise.sim.sweep.__version__", "99")
    answered()
    assert len(results.read_bytes().splitlines()) == lines + 1


def test_values_that_go_with_some_others_only_are_swept(tmp_path: Path) -> None:
    """Without a service time the device cannot answer; the edge does not ask for it."""
    path = tmp_path / "s.yaml"
    path.write_text(MINIMAL)
    sweeps = {"placement": ["device", "edge"], "models.anomaly.device.service": ["null", "50ms"]}
    check_values(path, sweeps, {})
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        points = sweep(path, sweeps, tmp_path / "r.jsonl", pool)
    assert [point.error is None for point in points] == [False, True, True, True]
    with pytest.raises(ScenarioError) as caught:
        check_values(path, {"models.anomaly.device.service": ["null", "5"], "placement": ["mars", "edge"]}, {})
    assert [problem.path for problem in caught.value.problems] == ["models.anomaly.device.service", "placement"]


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_example_can_be_swept(path: Path) -> None:
    """Whatever its texts say: a description is longer than any name of a file."""
    key_of = point_keys(path, None)
    assert key_of({"name": "x" * 300}) != key_of({"name": "x"})


def children(pid: int) -> list[int]:
    """Processes that a process has started and that run."""
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # the thread has ended meanwhile
            found += [int(child) for child in task.read_text().split()]
    return found


def running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def finished(results: Path) -> int:
    return results.read_bytes().count(b"\n") if results.exists() else 0


def big_sweep(folder: Path) -> tuple[list[str], Path]:
    """A command that sweeps a dozen points of about a second each, and its file of results."""
    path, results = folder / "s.yaml", folder / "r.jsonl"
    path.write_text(MINIMAL.replace("duration: 10s", "duration: 1h").replace("count: 10", "count: 100"))
    program = "from tierwise.cli import main; main()"
    seeds = ",".join(str(seed) for seed in range(12))
    arguments = ["--sweep", f"run.seed={seeds}", "--results", str(results), "--workers", "2"]
    return [sys.executable, "-c", program, "simulate", str(path), *arguments, "--json"], results


def test_a_sweep_that_is_killed_leaves_nobody_and_goes_on_where_it_was(tmp_path: Path) -> None:
    command, results = big_sweep(tmp_path)
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as run:
        asyncio.run(until(lambda: finished(results) >= 2, timeout_s=120))
        workers = children(run.pid)
        assert len(workers) >= 2
        run.kill()
    asyncio.run(until(lambda: not any(map(running, workers))))
    kept = results.read_bytes()
    done = finished(results)
    assert 2 <= done < 12
    again = subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=300)
    points = json.loads(again.stdout)
    assert [point["values"] for point in points] == [{"run.seed": str(seed)} for seed in range(12)]
    assert all(point["summary"]["answered"] > 0 for point in points)
    whole = kept[: kept.rfind(b"\n") + 1]
    assert results.read_bytes().startswith(whole)
    assert finished(results) == 12


def test_two_sweeps_do_not_write_one_file(tmp_path: Path) -> None:
    results = tmp_path / "r.jsonl"

    def swept() -> None:
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            sweep(scenario_file(tmp_path), {"run.seed": ["1"]}, results, pool)

    with results.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(ConfigurationError, match=r"r\.jsonl: another sweep is writing .* or name another file"):
            swept()
    assert finished(results) == 0
    swept()
    assert finished(results) == 1


def test_a_worker_that_is_killed_is_told_with_what_is_finished(tmp_path: Path) -> None:
    command, results = big_sweep(tmp_path)
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as run:
        asyncio.run(until(lambda: finished(results) >= 1, timeout_s=120))
        pool = [child for child in children(run.pid) if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()]
        os.kill(pool[0], signal.SIGKILL)
        _, told = run.communicate(timeout=60)
    assert run.returncode == 1
    words = told.decode()
    assert "a worker of the sweep has died (BrokenProcessPool" in words
    assert f"{finished(results)} of 12 points are finished and kept in {results}" in words
    assert "start the same sweep again" in words
    assert "Traceback" not in words


def test_a_mistake_of_ours_in_one_point_does_not_end_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def simulated(scenario: Scenario, **more: object) -> Summary:
        if scenario.run.seed == 2:
            raise RuntimeError("out of luck")
        return simulate(scenario, **more)  # type: ignore[arg-type]  # passed on as they are

    monkeypatch.setattr("tierwise.sim.run.simulate", simulated)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        points = sweep(scenario_file(tmp_path), {"run.seed": ["1", "2", "3"]}, tmp_path / "r.jsonl", pool)
    assert [point.error for point in points] == [None, "RuntimeError: out of luck", None]


POWERED = {"nodes.gateway.power": "{idle: 2W, busy: 6W, source: a test}"}


def test_energy_and_cost_that_nobody_stated_win_no_comparison(tmp_path: Path) -> None:
    """The cloud states neither power nor price, so its 0 J is no figure to be held against the gateway's 20 J."""
    priced = POWERED | {"nodes.gateway.price": "{per_hour: 1, source: a test}"}
    edge = load(tmp_path, MINIMAL, priced | {"name": "edge"})
    cloud = load(tmp_path, MINIMAL, {"name": "cloud", "placement": "cloud"})
    for pair in ((edge, cloud), (cloud, edge)):
        found = compare(*pair)
        energy, cost = found.figures["energy_j"], found.figures["cost"]
        assert energy.undecided
        assert not energy.significant
        left_out = energy.second_unstated if pair[1] is cloud else energy.first_unstated
        assert left_out == ["nodes.gateway.power", "nodes.cloud.power"]
        assert cost.undecided
        text = verdict(found)
        assert "No verdict on energy of the run: part of it is not stated, " in text
        assert "of cloud (nodes.gateway.power, nodes.cloud.power)" in text
        assert "better in energy" not in text
        assert "worse in energy" not in text
        shown = [[cell.text for cell in row] for row in difference_grid(found).cells()]
        assert next(row for row in shown if row[0].startswith("energy"))[-1] == "not stated"
    stated = POWERED | {"nodes.cloud.power": "{idle: 100W, busy: 300W, source: a test}"}
    both = [load(tmp_path, MINIMAL, stated | {"name": name, "placement": name}) for name in ("edge", "cloud")]
    found = compare(*both)
    assert found.figures["energy_j"].significant
    assert (found.first_idle, found.second_idle) == (["cloud"], ["gateway"])
    assert "In edge nobody asks cloud; idle power and price are counted all the same." in verdict(found)


def test_a_whole_figure_below_what_the_other_is_at_least_does_win(tmp_path: Path) -> None:
    """What is not stated can only add."""
    known = load(tmp_path, MINIMAL, POWERED | {"name": "known", "nodes.cloud.power": "{idle: 1W, busy: 1W, source: t}"})
    more = load(
        tmp_path, MINIMAL,
        {"name": "more", "nodes.gateway.power": "{idle: 500W, busy: 500W, source: t}", "placement": "cloud"},
    )  # fmt: skip
    energy = compare(known, more).figures["energy_j"]
    assert energy.second_unstated
    assert energy.significant
    assert not energy.undecided


def test_a_link_that_only_one_takes_has_to_state_its_radio(tmp_path: Path) -> None:
    """Sending costs energy, too: the edge must not beat the device by what nobody stated."""
    stated = POWERED | {"devices.sensors.board": "{active_power: 600mW, source: a test}"}
    device = load(tmp_path, MINIMAL, stated | {"placement": "device"})
    edge = load(tmp_path, MINIMAL, stated)
    assert unstated_against(edge, device) == {
        "energy_j": ["links.up.radio"],
        "cost": ["nodes.gateway.price", "links.up.price"],
    }
    assert unstated_against(device, edge) == {}
    assert unstated_against(edge, edge) == {"cost": ["nodes.gateway.price"]}
    free = load(tmp_path, MINIMAL, stated | {"links.up.radio": "{source: a wire}"})
    assert "energy_j" not in unstated_against(free, device)
    bare = load(tmp_path, MINIMAL, {"placement": "device"})
    assert unstated(bare) == {"energy_j": ["devices.sensors.board"]}
    assert unstated_against(edge, device)["energy_j"] == ["links.up.radio"]


def test_a_node_that_nobody_prices_hinders_only_who_asks_it(tmp_path: Path) -> None:
    """What the gateway draws nobody knows: that is a question for the scenario that asks it alone."""
    spent = {"nodes.cloud.power": "{idle: 100W, busy: 100W, source: t}", "links.up.radio": "{source: a wire}"}
    device = {"devices.sensors.board": "{active_power: 600mW, source: t}"}
    one = load(tmp_path, MINIMAL, spent | device | {"name": "one", "placement": "device"})
    other = load(tmp_path, MINIMAL, spent | device | {"name": "other"})
    assert unstated_against(one, other) == {}
    energy = compare(one, other).figures["energy_j"]
    assert energy.second_unstated == ["nodes.gateway.power"]
    assert not energy.first_unstated
    powered = load(tmp_path, MINIMAL, spent | device | POWERED)
    assert unstated_against(one, powered) == {"energy_j": ["nodes.gateway.power"]}, "which stands there all the same"


def test_the_energy_of_an_inference_is_not_all_that_a_device_draws(tmp_path: Path) -> None:
    """A millijoule an inference on a device of which nobody says what it draws while idle, against one that says so."""
    stated = POWERED | {"nodes.cloud.power": "{idle: 0W, busy: 0W, source: t}", "links.up.radio": "{source: a wire}"}
    model = {"models.anomaly.device": "{service: 5ms, energy: 1mJ, source: t}"}
    board = {"devices.sensors.board": "{active_power: 1W, idle_power: 100mW, source: t}"}
    device = load(tmp_path, MINIMAL, stated | model | {"name": "device", "placement": "device"})
    edge = load(tmp_path, MINIMAL, stated | model | board | {"name": "edge"})
    assert simulate(device).unstated["energy_j"] == ["devices.sensors.board"]
    for pair in ((device, edge), (edge, device)):
        energy = compare(*pair).figures["energy_j"]
        assert energy.undecided
        assert not energy.significant
        assert (energy.first_unstated + energy.second_unstated) == ["devices.sensors.board"]
    whole = load(tmp_path, MINIMAL, stated | model | board | {"placement": "device"})
    assert "energy_j" not in unstated(whole)
    less = load(tmp_path, MINIMAL, stated | model | {"name": "less", "placement": "edge"})
    assert unstated_against(device, less).get("energy_j") is None, "idle, they draw the same"
    alone = load(tmp_path, MINIMAL.replace("sensors", "others"), stated | model)
    assert unstated_against(device, alone)["energy_j"] == ["devices.sensors.board"]


def test_a_run_and_a_sweep_say_what_is_not_stated(tmp_path: Path) -> None:
    summary = simulate(load(tmp_path, MINIMAL, POWERED | {"placement": "{fallback: [edge, cloud], timeout: 1s}"}))
    assert summary.unstated["energy_j"] == ["nodes.cloud.power"]
    rows = [[cell.text for cell in row] for row in totals(summary).cells()]
    assert ["  nodes.cloud.power", "not stated", "-"] in rows
    path = tmp_path / "s.yaml"
    path.write_text(MINIMAL)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        points = sweep(path, {"placement": ["edge", "cloud"]}, tmp_path / "r.jsonl", pool, overrides=POWERED)
    grid = point_grid(points)
    column = list(grid.columns).index("energy of the run")
    assert [row[column].text for row in grid.cells()] == ["20.28 J", "≥ 20 J"]
    assert "nodes.cloud.power" in as_csv(points)
    assert [whole_figures(point).get("energy_j") is None for point in points] == [False, True]


def test_a_sweep_ranks_nothing_by_a_radio_that_nobody_stated(tmp_path: Path) -> None:
    """The edge does not beat the device by what sending takes; a link that every point takes is no difference."""
    path = tmp_path / "s.yaml"
    path.write_text(MINIMAL)
    stated = POWERED | {
        "devices.sensors.board": "{active_power: 600mW, source: a test}",
        "nodes.gateway.price": "{per_hour: 1, source: t}",
    }

    def told(results: str, sweeps: dict[str, list[str]], **more: str) -> tuple[list[str], str, set[str]]:
        changes = stated | {name.replace("__", "."): value for name, value in more.items()}
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            points = sweep(path, sweeps, tmp_path / results, pool, overrides=changes)
        page = render_sweep(
            Swept(load(tmp_path), Origin(file="s.yaml", text=MINIMAL, changes=changes, command="tierwise"), points)
        )
        grid = point_grid(points)
        shown = [row[list(grid.columns).index("energy of the run")].text for row in grid.cells()]
        left_out = {name for line in csv.DictReader(io.StringIO(as_csv(points))) for name in line["not_stated"].split()}
        return shown, page, left_out

    tiers = {"placement": ["device", "edge"]}
    shown, page, left_out = told("bare.jsonl", tiers)
    assert [text.startswith("≥ ") for text in shown] == [False, True]
    assert "Energy of the run goes from" not in page
    assert left_out == {"links.up.radio", "links.up.price"}
    shown, _, left_out = told("failed.jsonl", {"placement": ["edge", "mars"]})
    assert shown[0].endswith(" J")
    assert not shown[0].startswith("≥ "), "a point that failed states nothing, and is held against none"
    assert left_out == set()
    wired = {"links__up__radio": "{source: a wire}", "links__up__price": "{per_gb: 0, source: a wire}"}
    shown, page, left_out = told("wired.jsonl", tiers, **wired)
    assert not any(text.startswith("≥ ") for text in shown)
    assert "Energy of the run goes from" in page
    assert left_out == set()
    shown, _, left_out = told("alike.jsonl", {"nodes.gateway.service": ["1ms", "4ms"]})
    assert not any(text.startswith("≥ ") for text in shown)
    assert left_out == set()
