"""What is shown means what it says: intervals, assumptions, objectives, and the shares that figures are of."""

from __future__ import annotations

import concurrent.futures
from typing import TYPE_CHECKING

import pytest
from msgspec import to_builtins
from msgspec.structs import replace

from tests.scenario.examples import MINIMAL
from tests.sim.runs import load
from tests.sim.test_sensitivity import PLANT
from tierwise.report.words import ms
from tierwise.sim import simulate
from tierwise.sim.results.origin import Origin
from tierwise.sim.results.sweep import as_csv, figures, missed, point_grid, verdict_of
from tierwise.sim.results.sweep_page import Swept, render_sweep
from tierwise.sim.results.sweep_plots import sweep_plots
from tierwise.sim.results.tables import intervals, objectives, totals
from tierwise.sim.results.words import objectives as told_objectives
from tierwise.sim.results.words import verdict
from tierwise.sim.run import figures_of, objectives_met, over_replications
from tierwise.sim.sweep import Point, sweep
from tierwise.sim.unstated import assumptions
from tierwise.sim.workload import expected_requests

if TYPE_CHECKING:
    from pathlib import Path

    from tierwise.sim import Summary

CASCADE = {"placement": "{cascade: [edge, cloud], threshold: 0.3}"}


def rows_of(summary: Summary) -> list[list[str]]:
    grid = intervals(summary)
    return [] if grid is None else [[cell.text for cell in row] for row in grid.cells()]


def test_an_interval_within_a_run_says_that_its_phases_are_the_same_throughout(tmp_path: Path) -> None:
    one = simulate(load(tmp_path, PLANT, {"run.duration": "30s"}))
    interval = one.end_to_end_interval_ms
    assert interval is not None
    assert interval.fixed_phases
    [row] = rows_of(one)
    assert row[0] == "mean latency, within this run"
    assert "other phases of the devices give other means: `run.replications`" in row[2]
    means = [figures_of(simulate(load(tmp_path, PLANT, {"run.duration": "30s"}), seed=n))["mean_ms"] for n in range(4)]
    assert interval.half_width is not None
    assert max(means) - min(means) > 4 * interval.half_width, "which is why it has to be said"
    several = simulate(load(tmp_path, PLANT, {"run.duration": "30s", "run.replications": "4"}))
    names = [row[0] for row in rows_of(several)]
    assert "mean latency, over runs" in names
    assert not any("within" in name for name in names)


@pytest.mark.parametrize(
    ("traffic", "fixed"),
    [
        ("{pattern: poisson, rate: 20/s}", False),
        ("{pattern: periodic, period: 100ms, phase: same}", False),
        ("{pattern: burst, period: 1s, size: 10}", True),
    ],
)
def test_only_random_phases_are_fixed_within_a_run(tmp_path: Path, traffic: str, *, fixed: bool) -> None:
    interval = simulate(load(tmp_path, MINIMAL, {"devices.sensors.traffic": traffic})).end_to_end_interval_ms
    assert interval is not None
    assert interval.fixed_phases is fixed
    alone = {"devices.sensors.traffic": traffic, "devices.sensors.count": "1"}
    interval = simulate(load(tmp_path, MINIMAL, alone)).end_to_end_interval_ms
    assert interval is None or not interval.fixed_phases


def test_a_cascade_without_confidence_says_what_it_assumes(tmp_path: Path) -> None:
    scenario = load(tmp_path, MINIMAL, CASCADE | {"devices.sensors.count": "200"})
    [told] = simulate(scenario).assumptions
    assert told.startswith("models.anomaly.edge.confidence is not stated: taken as uniform from 0 to 1")
    assert "so that 0.3 of all is escalated by chance" in told
    summary = simulate(scenario)
    assert summary.by_tier["cloud"].answered / summary.answered == pytest.approx(0.3, abs=0.04), "and it is so"
    stated = {"models.anomaly.edge": "{accuracy: 0.95, confidence: {uniform: [0, 1]}, source: test}"}
    assert assumptions(load(tmp_path, MINIMAL, CASCADE | stated)) == []
    assert assumptions(load(tmp_path, MINIMAL, {"placement": "{fallback: [edge, cloud], timeout: 1s}"})) == []
    assert len(assumptions(load(tmp_path, MINIMAL, {"placement": "{policy: escalate}"}))) == 3


def points_of(folder: Path, changes: dict[str, str]) -> list[Point]:
    path = folder / "s.yaml"
    path.write_text(PLANT.replace("duration: 20s", "duration: 10s"))
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        return sweep(
            path, {"nodes.gateway.service": ["1ms", "4ms", "8ms"]}, folder / "r.jsonl", pool, overrides=changes
        )


def test_a_sweep_holds_its_points_against_the_objectives(tmp_path: Path) -> None:
    objective = {"slo": "{p95: 15ms, answered: 90%}"}
    points = points_of(tmp_path, objective)
    assert [missed(point) for point in points] == [[], ["p95"], ["p95", "answered"]]
    slo = load(tmp_path, PLANT, objective).slo
    grid = point_grid(points, slo).shortened()
    assert "p95 ≤ 15.0 ms" in grid.columns
    assert "answered ≥ 90 %" in grid.columns
    column = list(grid.columns).index("p95 ≤ 15.0 ms")
    assert [row[column].tone for row in grid.cells()] == ["good", "bad", "bad"]
    assert [row[1].text for row in grid.cells()] == ["met", "MISSED: p95", "MISSED: p95, answered"]
    page = render_sweep(
        Swept(
            load(tmp_path, PLANT, objective), Origin(file="p.yaml", text=PLANT, changes={}, command="tierwise"), points
        )
    )
    assert "3 runs. 1 of 3 meet all objectives." in page
    plots, _, _ = sweep_plots(points, slo)
    latency = next(plot for plot, _ in plots if plot.id == "latency")
    assert [(mark.at, mark.across) for mark in latency.marks] == [(15.0, True)]
    assert {curve.name for curve in latency.curves} == {"p50", "p95", "p99"}
    assert latency.y.low is not None
    assert latency.y.high is not None
    assert latency.y.low < 15 < latency.y.high
    answered = next(plot for plot, _ in plots if plot.id == "answered-share")
    assert [mark.at for mark in answered.marks] == [90.0]
    assert ",p95 answered," in as_csv(points)


def test_a_swept_limit_stands_in_no_title(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(MINIMAL + "slo: {p95: 5ms}\n")
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        points = sweep(path, {"slo.p95": ["5ms", "50ms"]}, tmp_path / "r.jsonl", pool)
    grid = point_grid(points, load(tmp_path, path.read_text()).slo)
    assert not any("≤" in title for title in grid.columns)
    assert [row[1].text for row in grid.cells()] == ["MISSED: p95", "met"]


def test_a_sweep_means_its_replications(tmp_path: Path) -> None:
    changes = {"run.replications": "4", "slo.p95": "25ms"}
    points = points_of(tmp_path, changes)
    assert points[1].summary is not None
    scenario = load(tmp_path, PLANT.replace("duration: 20s", "duration: 10s"), changes)
    over = simulate(scenario).replications["p95_ms"]
    assert figures(points[1])["p95_ms"] == pytest.approx(over.mean)
    assert over.half_width
    grid = point_grid(points, scenario.slo)
    cell = list(grid.cells())[1][list(grid.columns).index("p95 ≤ 25.0 ms")]
    assert cell.text.startswith(f"{ms(over.mean)} ± ")
    assert cell.text.endswith(" ms")
    assert "p95_ms_half_width" in as_csv(points).splitlines()[0]


def test_an_objective_is_met_where_every_run_meets_it(tmp_path: Path) -> None:
    means = sorted(figures_of(simulate(load(tmp_path, PLANT), seed=seed))["p95_ms"] for seed in range(6))
    limit = f"{(means[0] + means[-1]) / 2:.6f}ms"
    scenario = load(tmp_path, PLANT, {"run.replications": "8", "slo.p95": limit})
    summary = simulate(scenario)
    count = summary.slo_met["p95"]
    assert count is not None
    assert 0 < count < 8
    grid = objectives(scenario, summary)
    assert grid is not None
    assert [row[-1].text for row in grid.cells()] == [f"MISSED, met in {count} of 8 runs"]
    told = verdict(scenario, summary)
    assert told.startswith("In the first of 8 runs ")
    assert f"met in {count} of 8 runs)" in told or f"in {count} of 8 runs)" in told


@pytest.mark.parametrize(
    ("runs", "counts", "words"),
    [
        ([True, None, True], {"p99": None, "cost_per_hour": 3}, "Not judged: p99"),
        ([True, None, False], {"p99": 1, "cost_per_hour": 3}, "Missed 1 of 2 objectives: p99"),
        ([None, True, True], {"p99": None, "cost_per_hour": 3}, "Not judged: p99"),
        ([True, True, False], {"p99": 2, "cost_per_hour": 3}, "Missed 1 of 2 objectives: p99"),
        ([True, True, True], {"p99": 3, "cost_per_hour": 3}, "All 2 objectives are met"),
    ],
)
def test_an_objective_that_some_run_cannot_judge_is_told_alike_everywhere(
    runs: list[bool | None], counts: dict[str, int | None], words: str, tmp_path: Path
) -> None:
    stated = {"slo": "{p99: 1s, cost_per_hour: 1}", "nodes.gateway.price": "{per_hour: 0.2, source: t}"}
    scenario = load(tmp_path, MINIMAL, stated)
    each = [simulate(scenario, seed=seed) for seed in range(len(runs))]
    both = [{"p99": met, "cost_per_hour": True} for met in runs]
    alone = [{"p99": met} for met in runs]
    assert objectives_met([replace(one, slo=slo) for one, slo in zip(each, both, strict=True)]) == counts
    for slo in (both, alone):
        first = replace(
            each[0], slo=slo[0], replications=over_replications(each),
            slo_met=objectives_met([replace(one, slo=own) for one, own in zip(each, slo, strict=True)]),
        )  # fmt: skip
        told = {one.name: (one.met, one.where) for one in told_objectives(scenario, first)}
        point = Point({}, "key", to_builtins(first))
        cell = verdict_of(point)
        assert told["p99"][0] is {"met": True, "not judged: p99": None}.get(cell.text, False), cell.text
        assert bool(missed(point)) is cell.text.startswith("MISSED")
    assert words in verdict(scenario, replace(first, slo=both[0], slo_met=counts))


def test_an_accuracy_says_whose_it_is(tmp_path: Path) -> None:
    changes = CASCADE | {"models.anomaly.edge": "{source: test}", "slo.accuracy": "50%"}
    scenario = load(tmp_path, MINIMAL, changes | {"devices.sensors.count": "100"})
    summary = simulate(scenario)
    judged = summary.by_tier["cloud"].answered
    told = verdict(scenario, summary)
    assert f"of the {judged:,} answers of cloud, " in told
    assert " % of all were right" in told
    assert "of the judged answers were right" in verdict(load(tmp_path), simulate(load(tmp_path)))


def test_a_link_that_loses_all_is_named(tmp_path: Path) -> None:
    scenario = load(tmp_path, MINIMAL, {"links.up.loss": "1"})
    assert "Link up up loses 100 % of its messages (`loss` is 100 %; 1 % is written `1%`)." in verdict(
        scenario, simulate(scenario)
    )
    assert "loses" not in verdict(load(tmp_path), simulate(load(tmp_path, MINIMAL, {"links.up.loss": "1%"})))


def test_an_overloaded_link_says_what_came_for_what_it_carries(tmp_path: Path) -> None:
    """200 × 2 Hz × 40 kB = 128 Mbit/s."""
    changes = {
        "devices.sensors": "{count: 200, request: 40kB, traffic: {pattern: periodic, period: 500ms}}",
        "links.up.bandwidth": "50Mbit/s",
    }
    scenario = load(tmp_path, MINIMAL, changes)
    told = verdict(scenario, simulate(scenario))
    assert "Link up up is overloaded, about 128 Mbit/s for 50 Mbit/s:" in told


def test_about_how_many_requests_there_will_be(tmp_path: Path) -> None:
    for traffic, count in {
        "{pattern: periodic, period: 100ms}": 1000,
        "{pattern: burst, period: 1s, size: 5}": 500,
        "{pattern: poisson, rate: 3/s, stop: 5s}": 150,
        "{pattern: offline, samples: 7}": 70,
        "{pattern: multi_stream, samples: 4, queries: 2}": 80,
        "{pattern: single_stream}": 0,
    }.items():
        assert expected_requests(load(tmp_path, MINIMAL, {"devices.sensors.traffic": traffic})) == count, traffic


@pytest.mark.parametrize(
    ("placement", "limit", "met", "words"),
    [
        ("edge", "1", True, "The objective is met"),
        (CASCADE["placement"], "1", None, "Not judged: cost an hour ≥ 0.2"),
        (CASCADE["placement"], "0.1", False, "Missed 1 of 1 objective: cost an hour ≥ 0.2"),
    ],
)
def test_a_price_that_nobody_stated_meets_no_objective(
    placement: str, limit: str, *, met: bool | None, words: str, tmp_path: Path
) -> None:
    changes = {"placement": placement, "nodes.gateway.price": "{per_hour: 0.2, source: t}", "slo.cost_per_hour": limit}
    scenario = load(tmp_path, MINIMAL, changes)
    summary = simulate(scenario)
    assert summary.slo == {"cost_per_hour": met}
    assert words in verdict(scenario, summary)


def test_a_link_without_a_price_is_a_wire_unless_others_have_one(tmp_path: Path) -> None:
    objective = {"slo.cost_per_hour": "1", "placement": "cloud", "nodes.cloud.price": "{per_hour: 0, source: t}"}
    wired = simulate(load(tmp_path, MINIMAL, objective))
    assert wired.slo == {"cost_per_hour": True}
    assert "cost" not in wired.unstated
    bought = objective | {"links.up.price": "{per_gb: 0.1, source: t}"}
    some = simulate(load(tmp_path, MINIMAL, bought))
    assert some.slo == {"cost_per_hour": None}
    assert some.unstated["cost"] == ["links.wan.price"]
    edge = simulate(load(tmp_path, MINIMAL, bought | {"placement": "edge", "nodes.gateway.price": "{source: t}"}))
    assert edge.slo == {"cost_per_hour": True}, "it does not take that link"


def test_carbon_of_energy_that_is_not_stated_is_a_least_value(tmp_path: Path) -> None:
    intensity = {"carbon": "{intensity: 300g/kWh, source: t}"}
    powered = {"nodes.cloud.power": "{idle: 100W, busy: 100W, source: t}"}

    def carbon(changes: dict[str, str]) -> tuple[str, list[str]]:
        summary = simulate(load(tmp_path, MINIMAL, intensity | changes))
        rows = [[cell.text for cell in row] for row in totals(summary).cells()]
        return next(row[1] for row in rows if row[0].startswith("carbon")), summary.unstated.get("carbon_g", [])

    assert carbon({}) == ("not stated", ["nodes.gateway.power"])
    least, paths = carbon(powered)
    assert least.startswith("≥ ")
    assert paths == ["nodes.gateway.power"]
    whole, paths = carbon(powered | {"nodes.gateway.power": "{idle: 1W, busy: 2W, source: t}"})
    assert not whole.startswith("≥ ")
    assert paths == []
