"""``tierwise simulate``."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from tests.scenario.examples import MINIMAL
from tests.waiting import until
from tierwise.cli.assignments import split_values
from tierwise.cli.simulate import simulate
from tierwise.core.errors import ConfigurationError
from tierwise.core.trace import read_trace_csv
from tierwise.scenario import ScenarioError
from tierwise.sim.compiled import COMPILES
from tierwise.sim.sweep import read_points

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from click.testing import Result


@pytest.fixture
def scenario(tmp_path: Path) -> str:
    path = tmp_path / "plant.yaml"
    path.write_text(MINIMAL + "description: A plant.\n", encoding="utf-8")
    return str(path)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(simulate, arguments, catch_exceptions=False)


def test_json_has_at_least_the_promised_fields(scenario: str) -> None:
    summary = json.loads(run(scenario, "--json").output)
    assert set(summary) >= {
        "requests", "answered", "dropped", "end_to_end_ms", "by_tier", "accuracy", "energy_j", "cost", "trace_sha256",
        "simulated_s", "wall_s",
    }  # fmt: skip
    assert set(summary["end_to_end_ms"]) >= {"mean", "p50", "p95", "p99"}
    assert set(summary["by_tier"]["edge"]["end_to_end_ms"]) >= {"mean", "p50", "p95", "p99"}
    assert summary["requests"] == 100
    assert summary["simulated_s"] == 10


def test_seed_and_values_can_be_set(scenario: str) -> None:
    first, same, other, longer = (
        json.loads(run(scenario, "--json", *more).output)
        for more in ((), ("--seed", "7"), ("--seed", "8"), ("--set", "run.duration=20s"))
    )
    assert first["trace_sha256"] == same["trace_sha256"] != other["trace_sha256"]
    assert longer["requests"] == 200


def test_check_describes_and_runs_nothing(scenario: str) -> None:
    output = run(scenario, "--check", "--set", "nodes.gateway.batch={max_size: 4}").output
    assert output.startswith("plant: A plant.\nplant is valid: 10 devices in 1 group, 2 links, 2 nodes, 10 s.")
    assert "event engine (nodes.gateway: batching)" in output
    facts = json.loads(run(scenario, "--check", "--json").output)
    assert (facts["devices"], facts["nodes"], facts["engine"], facts["reasons"]) == (10, 2, "vector", [])


def test_mistakes_are_told(scenario: str) -> None:
    with pytest.raises(ScenarioError, match=r"--set run\.duration=5: run\.duration: a duration needs a unit"):
        run(scenario, "--check", "--set", "run.duration=5")
    assert "is not PATH=VALUE" in run(scenario, "--set", "run.duration").output
    assert "takes one scenario, or two to compare" in run(scenario, scenario, scenario).output
    assert "is not in the range" in run(scenario, "--seed", str(2**63)).output
    with pytest.raises(ConfigurationError, match="the vectorised engine cannot run plant"):
        run(scenario, "--engine", "vector", "--set", "nodes.gateway.queue=3")


def test_out_holds_trace_summary_and_report(scenario: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert f"report   {out}/report.html" in run(scenario, "--out", str(out), "--set", "run.seed=7").output
    rows = read_trace_csv(out / "trace.csv")
    assert len(rows) == 100
    assert rows[0].tier == "edge"
    assert rows[0].answered_us is not None
    assert rows[0].answered_us > rows[0].created_us
    assert json.loads((out / "summary.json").read_text())["requests"] == 100
    page = (out / "report.html").read_text()
    assert "plant" in page
    assert "description: A plant." in page, "the scenario's text"
    assert f"tierwise simulate {scenario} --set run.seed=7 --out {out}" in page, "how to make it again"
    assert "http" not in page.split("<body", 1)[1].split("<script", 1)[0]


def test_the_table_shows_tiers_links_nodes_and_objectives(scenario: str) -> None:
    output = run(scenario, "--set", "slo.p99=1ms", "--set", "run.replications=3").output
    told = " ".join(output.split())
    for text in ("Missed 1 of 1 objective: p99", "at most 1.00 ms MISSED", "edge 100 ", "gateway 100 ", "up down 100 ",
                 "3 independent runs", "trace sha256"):  # fmt: skip
        assert text in told, text
    assert "\x1b" not in output


def test_two_scenarios_are_compared(scenario: str, tmp_path: Path) -> None:
    other = tmp_path / "other.yaml"
    other.write_text(MINIMAL.replace("latency: 5ms", "latency: 6ms"))
    figures = json.loads(run(scenario, str(other), "--json").output)["figures"]
    assert figures["mean_ms"]["difference"]["mean"] == pytest.approx(2)
    assert "other is worse in mean latency (+2.00 ms)" in " ".join(run(scenario, str(other)).output.split())
    told = " ".join(run(scenario, str(other), "--sensitivity").output.split())
    assert "Tried, each halved and doubled in both: links.up.bandwidth, links.up.latency, links.wan.latency," in told
    tried = json.loads(run(scenario, str(other), "--sensitivity", "--json").output)
    assert "nodes.gateway.service" in tried["tried"]
    assert tried["flips"] == []


def test_scenarios_of_one_name_are_called_as_their_files(tmp_path: Path) -> None:
    paths = [tmp_path / name / "plant.yaml" for name in ("a", "b")]
    for path, latency in zip(paths, ("5ms", "6ms"), strict=True):
        path.parent.mkdir()
        path.write_text("name: plant\n" + MINIMAL.replace("latency: 5ms", f"latency: {latency}"))
    found = json.loads(run(*map(str, paths), "--json").output)
    assert (found["first"], found["second"]) == (str(paths[0]), str(paths[1]))
    other = tmp_path / "far.yaml"
    other.write_text(paths[1].read_text())
    assert "far is worse in mean latency" in " ".join(run(str(paths[0]), str(other)).output.split())


def test_out_holds_a_page_of_a_comparison_and_of_a_sweep(scenario: str, tmp_path: Path) -> None:
    out, results = tmp_path / "a" / "b", str(tmp_path / "r.jsonl")
    other = tmp_path / "other.yaml"
    other.write_text(MINIMAL.replace("latency: 5ms", "latency: 6ms"))
    printed = json.loads(run(scenario, str(other), "--json", "--out", str(out)).output)
    assert json.loads((out / "compare.json").read_text()) == printed
    assert "plant against other" in " ".join((out / "compare.html").read_text().split())
    output = run(
        scenario, "--sweep", "links.up.latency=1ms,2ms", "--results", results, "--workers", "1", "--out", str(out)
    ).output
    assert f"report   {out}/sweep.html" in output
    assert (out / "sweep.csv").read_text().startswith("links.up.latency,requests,answered,")
    assert "by latency" in (out / "sweep.html").read_text()


def test_a_folder_that_cannot_be_made_is_told(scenario: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for more in ((), (scenario,), ("--sweep", "run.seed=1,2")):
        with pytest.raises(ConfigurationError, match=r"cannot write results to .*file.below \(--out\)"):
            run(scenario, *more, "--out", str(tmp_path / "file" / "below"))


def test_a_sweep_prints_a_line_a_point(scenario: str, tmp_path: Path) -> None:
    results = str(tmp_path / "r.jsonl")
    arguments = (
        scenario,
        "--sweep",
        "links.up.latency=1ms,{uniform: [1ms, 2ms]}",
        "--results",
        results,
        "--workers",
        "1",
    )
    output = run(*arguments).output
    rows = [line.split() for line in output.splitlines()]
    assert any(row[:3] == ["1ms", "100", "%"] for row in rows)
    assert any(line.startswith("{uniform: [1ms, 2ms]}") for line in output.splitlines())
    assert len(json.loads(run(*arguments, "--json").output)) == 2


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
async def test_a_signal_ends_a_sweep_with_its_workers_and_keeps_what_is_finished(
    scenario: str, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    results = tmp_path / "r.jsonl"
    seeds = ",".join(map(str, range(5_000)))
    command = ["simulate", scenario, "--sweep", f"run.seed={seeds}", "--results", str(results), "--workers", "2"]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tierwise", *command, stderr=asyncio.subprocess.PIPE, start_new_session=True
    )
    try:
        begun = lambda: process.returncode is not None or (results.exists() and bool(results.read_bytes()))  # noqa: E731
        await until(begun, timeout_s=240)
        os.kill(process.pid, number)
        _, said = await asyncio.wait_for(process.communicate(), 120)  # the workers hold the pipe, too
    finally:
        with contextlib.suppress(ProcessLookupError):  # all have ended: as it should be
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == code, said
    assert b"Traceback" not in said
    assert read_points(results)


def test_values_are_split_outside_brackets() -> None:
    assert split_values("1ms, {a: [1, 2]},x") == ["1ms", "{a: [1, 2]}", "x"]


def test_the_schema_is_printed_without_a_scenario() -> None:
    assert json.loads(run("--schema").output)["title"] == "tierwise scenario"


SWEEP = ("--sweep", "run.seed=1,2")


@pytest.mark.parametrize(
    ("scenarios", "arguments", "told"),
    [
        (1, ("--sensitivity",), "--sensitivity has no effect on a run; it is for a comparison"),
        (1, ("--dask", "tcp://x:1"), "--dask has no effect on a run; it is for a sweep"),
        (1, ("--workers", "2"), "--workers has no effect on a run; it is for a sweep"),
        (1, ("--results", "r"), "--results has no effect on a run; it is for a sweep"),
        (1, ("--check", "--seed", "1"), "--seed has no effect on a check; it is for a run and a comparison"),
        (1, ("--check", "--out", "o"), "--out has no effect on a check"),
        (1, ("--check", "--engine", "event"), "--engine has no effect on a check; it is for a run"),
        (1, (*SWEEP, "--check"), "--check has no effect on a sweep; it is for a check"),
        (1, (*SWEEP, "--engine", "vector"), "--engine has no effect on a sweep"),
        (1, (*SWEEP, "--sensitivity"), "--sensitivity has no effect on a sweep"),
        (1, (*SWEEP, "--dask", "tcp://x:1", "--workers", "2"), "--workers has no effect on a Dask cluster"),
        (2, ("--engine", "vector"), "--engine has no effect on a comparison"),
        (2, ("--check",), "--check has no effect on a comparison"),
        (2, SWEEP, "--sweep has no effect on a comparison; it is for a sweep"),
    ],
)  # fmt: skip
def test_an_option_without_effect_is_refused(
    scenario: str, tmp_path: Path, *, scenarios: int, arguments: tuple[str, ...], told: str
) -> None:
    result = run(*[scenario] * scenarios, *arguments)
    assert result.exit_code == 2
    assert told in result.output
    assert [path.name for path in tmp_path.iterdir()] == ["plant.yaml"]


def test_check_tries_what_the_scenario_names(scenario: str) -> None:
    changes = ("--set", "devices.sensors.traffic={pattern: trace, file: none.csv}")
    with pytest.raises(ScenarioError, match=r"devices\.sensors\.traffic\.file: cannot read the traffic trace"):
        run(scenario, "--check", *changes)


def test_check_prints_json(scenario: str) -> None:
    found = json.loads(run(scenario, "--check", "--json").output)
    assert (found["engine"], found["reasons"], found["devices"]) == ("vector", [], 10)


def test_a_sweep_in_which_points_fail_is_no_success(scenario: str, tmp_path: Path) -> None:
    """A cascade of one model alone: both values are right, together they are not."""
    results = ("--results", str(tmp_path / "r.jsonl"), "--workers", "1")
    together = ("--sweep", "placement=device,edge", "--sweep", "links.up.to=gateway,cloud")
    for more in ((), ("--json",)):
        result = run(scenario, *together, *results, *more)
        assert result.exit_code == 1
        assert "no links lead from" in result.output
    assert run(scenario, "--sweep", "placement=edge", *results).exit_code == 0


def test_values_that_are_wrong_are_told_before_any_point_is_run(scenario: str, tmp_path: Path) -> None:
    results = tmp_path / "r.jsonl"
    sweeps = ("--sweep", "placement=edge,moon,cloud", "--sweep", "devices.sensors.request=1kB,40kb,2")
    with pytest.raises(ScenarioError) as caught:
        run(scenario, *sweeps, "--results", str(results))
    assert [problem.path for problem in caught.value.problems] == [
        "devices.sensors.request", "devices.sensors.request", "placement",
    ]  # fmt: skip
    assert "moon" in str(caught.value)
    assert "40kb" in str(caught.value)
    assert not results.exists()


def test_a_slip_in_the_name_of_a_group_is_told(scenario: str) -> None:
    with pytest.raises(ConfigurationError, match=r"there is no devices\.sensor \(did you mean `sensors`\?\)"):
        run(scenario, "--set", "devices.sensor.count=3")
    assert "is not PATH=A,B,C" in run(scenario, "--sweep", "run.seed").output


def test_large_work_without_numba_is_told_what_would_make_it_fast(
    scenario: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    large = ("--set", "devices.sensors.count=2000", "--set", "run.duration=20s", "--set", "run.replications=6")
    assert "numba" not in run(scenario, *large, "--check").stderr
    monkeypatch.setattr("tierwise.sim.workload.INSTALLED", False)
    assert "numba" not in run(scenario).stderr
    told = run(scenario, *large).stderr
    assert told.startswith("hint: numba is not installed, and 240,000 requests take long without it: pip install")


def shown_on_a_terminal(*arguments: str, environment: Mapping[str, str] | None = None) -> str:
    """What ``simulate`` writes to a terminal that is its standard error."""
    terminal, theirs = os.openpty()
    try:
        command = [sys.executable, "-m", "tierwise", "simulate", *arguments]
        subprocess.run(command, stdout=subprocess.DEVNULL, stderr=theirs, env=environment, check=True, timeout=120)
        return os.read(terminal, 1 << 16).decode()
    finally:
        os.close(theirs)
        os.close(terminal)


@pytest.mark.parametrize(
    ("arguments", "lines"),
    [
        (("--set", "run.replications=3"), r"100\.0%  300 requests  [\d,]+ simulated s/s"),
        ((*SWEEP, "--workers", "1"), r"2 of 2 points"),
    ],
)
def test_progress_on_a_terminal_ends_its_line(scenario: str, arguments: tuple[str, ...], lines: str) -> None:
    shown = shown_on_a_terminal(scenario, *arguments)
    assert shown.endswith("\r\n")
    assert shown.count("\n") == 1
    assert re.search(lines + r" *\r\n$", shown)
    shares = [float(share) for share in re.findall(r"([\d.]+)%", shown)]
    assert shares == sorted(shares)


@pytest.mark.skipif(not COMPILES, reason="numba is not installed or is switched off")
def test_the_first_run_says_that_it_compiles_and_does_not_count_it(scenario: str, tmp_path: Path) -> None:
    fresh = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache")}
    fresh.pop("NUMBA_CACHE_DIR", None)
    compiling, again = (
        shown_on_a_terminal(scenario, "--out", str(tmp_path / name), environment=fresh) for name in ("a", "b")
    )
    assert "compiling the kernel" in compiling
    assert "compiling" not in again
    first, second = (json.loads((tmp_path / name / "summary.json").read_text()) for name in ("a", "b"))
    assert first.pop("wall_s") < 2  # compiling alone takes more
    second.pop("wall_s")
    assert first == second
