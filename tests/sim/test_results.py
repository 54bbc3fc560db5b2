"""What a run, a comparison and a sweep show: pages that a real browser draws, and tables that fit a terminal."""

from __future__ import annotations

import concurrent.futures
import csv
import io
import re
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pytest
from rich.console import Console

from tests.report.browser import visit
from tests.report.test_html import HOSTILE, Elements, plots_of
from tests.scenario.examples import MINIMAL
from tests.sim.runs import load, trace_of
from tests.sim.test_engines import RICH
from tierwise.sim import simulate
from tierwise.sim.compare import compare
from tierwise.sim.kernel.tables import ANSWERED, R_ANSWERED, R_CREATED, R_OUTCOME, R_TIER
from tierwise.sim.results.comparison import (
    Compared,
    Sensitivity,
    distribution,
    pair_by_pair,
    render_comparison,
    verdict,
)
from tierwise.sim.results.origin import Origin
from tierwise.sim.results.page import Run, render_run
from tierwise.sim.results.plots import fault_spans
from tierwise.sim.results.sweep import as_csv, short_paths
from tierwise.sim.results.sweep_page import Swept, render_sweep
from tierwise.sim.results.sweep_plots import sweep_plots
from tierwise.sim.results.terminal import comparison_view, run_view, sweep_view
from tierwise.sim.results.words import objectives, plus_minus
from tierwise.sim.results.words import verdict as run_verdict
from tierwise.sim.sensitivity import Flip
from tierwise.sim.series import Series
from tierwise.sim.sweep import Point, sweep

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import RenderableType

    from tierwise.scenario import Scenario
    from tierwise.sim.plan import Plan

FAULTS = {
    "faults": "[{fault: link_down, link: up, at: 3s, lasts: 2s}, {fault: link_degraded, link: wan, every: 2s,"
    " lasts: 1s, extra_loss: 20%}, {fault: battery_out, devices: sensors, at: 8s, share: 0.5}]",
}
BUSY = {
    "placement": "{cascade: [device, edge, cloud], threshold: 0.6}",
    "models.anomaly.device": "{service: 5ms, accuracy: 0.9, confidence: {uniform: [0, 1]}, source: test}",
    "models.anomaly.edge": "{accuracy: 0.95, confidence: {uniform: [0, 1]}, source: test}",
    "devices.sensors.count": "20",
    "devices.sensors.board": "{active_power: 30mW, idle_power: 1mW, source: a test}",
    "devices.sensors.battery": "{capacity: 9mJ, source: a test}",
    "nodes.gateway.price": "{per_hour: 1, source: a test}",
    "nodes.cloud.price": "{per_hour: 0, source: a test}",
    "nodes.gateway.power": "{idle: 1W, busy: 2W, source: a test}",
    "carbon": "{intensity: 300g/kWh, source: a test}",
    "run.warm_up": "1s",
    "run.replications": "3",
    "slo": "{p99: 1ms, answered: 1%, accuracy: 50%, cost_per_hour: 5}",
}


def origin(text: str = MINIMAL) -> Origin:
    return Origin(file="test.yaml", text=text, changes={"run.seed": "7"}, command="tierwise simulate test.yaml --out x")


def ran(scenario: Scenario) -> Run:
    made: list[Series] = []

    def with_series(plan: Plan) -> list[Series]:
        made.append(Series(plan))
        return made

    summary = simulate(scenario, sinks=with_series)
    return Run(scenario, summary, made[0], origin())


@pytest.fixture
def busy(tmp_path: Path) -> Run:
    """A run in which everything happens that a page can show."""
    return ran(load(tmp_path, MINIMAL, BUSY | FAULTS))


def page_of(kind: str, folder: Path) -> str:
    """A page of that kind."""
    first = load(folder, MINIMAL, BUSY | FAULTS)
    if kind == "run":
        return render_run(ran(first))
    if kind == "sweep":
        points = swept(folder, {"devices.sensors.count": ["1", "5", "50"], "placement": ["edge", "cloud"]})
        return render_sweep(Swept(first, origin(), points))
    second = load(folder, MINIMAL, {"placement": "cloud", "name": "other"})
    flip = Flip("nodes.gateway.power.idle", 1.0, "a test", 2.0, "energy_j", "test", "other")
    return render_comparison(
        Compared((first, second), (origin(), origin()), compare(first, second), Sensitivity([flip.constant], [flip]))
    )


def swept(folder: Path, values: dict[str, list[str]]) -> list[Point]:
    path = folder / "s.yaml"
    path.write_text(MINIMAL.replace("duration: 10s", "duration: 2s"))
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        return sweep(path, values, folder / "r.jsonl", pool)


def told(view: RenderableType, width: int) -> str:
    file = io.StringIO()
    Console(file=file, width=width, highlight=False).print(view)
    return file.getvalue()


def test_the_rates_stand_on_one_another_up_to_what_was_made(busy: Run) -> None:
    rate = next(plot for plot in plots_of(render_run(busy)) if plot["id"] == "rate")
    assert rate["stack"]
    assert {"device", "edge", "cloud"} <= {curve["name"] for curve in rate["curves"]}
    summed = np.sum([curve["y"] for curve in rate["curves"]], axis=0)
    made = busy.series.requests / (busy.series.bucket_ns * 1e-9)
    assert summed[:-1] == pytest.approx(made[: len(summed) - 1], rel=1e-4)
    assert rate["curves"][0]["x"][0] == 0
    assert rate["curves"][0]["x"][-1] == 10


def test_latency_over_time_is_that_of_the_trace(tmp_path: Path) -> None:
    scenario = load(tmp_path, RICH, {"outputs.bucket": "3s"})
    series = ran(scenario).series
    rows, _ = trace_of(scenario, "event")
    good = rows[rows[:, R_OUTCOME] == ANSWERED]
    bucket = good[:, R_CREATED] // 3_000_000_000
    for number in range(7):
        own = np.sort(good[bucket == number, R_ANSWERED] - good[bucket == number, R_CREATED])
        assert series.p99_ms()[number] == own[-(-99 * len(own) // 100) - 1] * 1e-6
        assert series.mean_ms()[number] == pytest.approx(own.mean() * 1e-6)
        for code in range(3):
            tier = (bucket == number) & (good[:, R_TIER] == code)
            latencies = good[tier, R_ANSWERED] - good[tier, R_CREATED]
            assert series.latency[code, number] == pytest.approx(latencies.sum())


def test_the_distribution_and_its_marks_leave_out_the_warm_up(busy: Run) -> None:
    assert busy.series.latencies.counts.sum() == busy.summary.answered < busy.series.answered.sum()
    cumulative = next(plot for plot in plots_of(render_run(busy)) if plot["id"] == "cumulative")
    latency = busy.summary.end_to_end_ms
    assert latency is not None
    assert [mark["at"] for mark in cumulative["marks"]] == [latency.p50, latency.p95, latency.p99]
    assert cumulative["x"]["log"]
    for curve in cumulative["curves"]:
        assert curve["y"][-1] == 100
        assert curve["y"] == sorted(curve["y"])


def test_faults_are_shaded_when_they_struck(busy: Run) -> None:
    spans = fault_spans(busy.scenario, busy.summary.seed)
    down = next(span for span in spans if span.text == "link down up")
    assert (down.start, down.end, down.colour) == (3, 5, "bad")
    assert len([span for span in spans if span.text == "link degraded wan"]) > 1
    assert all(span.end <= 10 for span in spans)
    other = fault_spans(busy.scenario, busy.summary.seed + 1)
    assert other != spans, "drawn with the seed of the run"
    page = render_run(busy)
    for plot in plots_of(page):
        if plot["id"] in {"rate", "latency", "power", "alive"}:
            assert len(plot["spans"]) == len(spans)
    assert "link degraded wan</span>" in page


def test_batteries_and_silent_devices_are_told(busy: Run) -> None:
    alive = next(plot for plot in plots_of(render_run(busy)) if plot["id"] == "alive")
    values = alive["curves"][0]["y"]
    assert values[0] == 20
    assert values[-1] == 20 - len(busy.series.silent_at_s()) <= 10
    assert "silent at the end" in render_run(busy)


def test_the_page_has_every_figure_and_where_it_comes_from(busy: Run) -> None:
    page = render_run(busy)
    for text in (
        "Missed 1 of 4 objectives", "at most 1.00 ms", "MISSED", "a link was down", "wan up", "gateway",
        "independent runs, Student", "p50, over runs", "models.anomaly.edge", "before sending",
        "Scenario file", "300 g/kWh (a test)", busy.summary.trace_sha256, "Make it again", "run.seed = 7",
    ):  # fmt: skip
        assert text in page, text


def test_the_words_hold_figures_against_limits(busy: Run) -> None:
    stated = {one.name: one for one in objectives(busy.scenario, busy.summary)}
    assert {name: one.met for name, one in stated.items()} == {
        "p99": False, "answered": True, "accuracy": True, "cost an hour": True
    }  # fmt: skip
    assert stated["cost an hour"].figure == "1"
    assert f"p99 {stated['p99'].figure} (at most 1.00 ms, in 0 of 3 runs)" in run_verdict(busy.scenario, busy.summary)


def test_the_same_run_gives_the_same_page(tmp_path: Path) -> None:
    assert render_run(ran(load(tmp_path))) == render_run(ran(load(tmp_path)))


@pytest.mark.parametrize(
    "changes",
    [
        {"links.up.loss": "100%", "slo.p99": "1ms"},
        {"run.duration": "1us"},
        {"run.warm_up": "9999ms", "devices.sensors.traffic": "{pattern: periodic, period: 1h, phase: same}"},
        {"placement": "device", "models.anomaly.device": "{service: 0s, source: test}"},
    ],
    ids=["all lost", "no request", "none counted", "no time at all"],
)
def test_an_empty_run_still_has_a_page(tmp_path: Path, changes: dict[str, str]) -> None:
    run = ran(load(tmp_path, MINIMAL, changes))
    (tmp_path / "page.html").write_text(render_run(run), encoding="utf-8")
    seen = visit(tmp_path / "page.html")
    assert seen.console == []
    assert 'id="rate"' in seen.dom
    assert told(run_view(run.scenario, run.summary, 80), 80)


def test_a_sweep_without_a_valid_point_still_has_a_page(tmp_path: Path) -> None:
    points = swept(tmp_path, {"placement": ["mars", "venus"]})
    page = render_sweep(Swept(load(tmp_path), origin(), points))
    assert page.count("expected a tier") == 2
    assert not plots_of(page)
    assert "mars" in told(sweep_view(points, 80), 80)


def test_many_buckets_make_no_large_page(tmp_path: Path) -> None:
    page = render_run(ran(load(tmp_path, MINIMAL, {"outputs.bucket": "1ms"})))
    assert len(page) < 300_000
    assert "neighbours together" in page


@pytest.mark.parametrize("kind", ["run", "comparison", "sweep"])
def test_a_browser_draws_every_plot_without_a_word_and_without_a_network(tmp_path: Path, kind: str) -> None:
    text = page_of(kind, tmp_path)
    (tmp_path / "page.html").write_text(text, encoding="utf-8")
    seen = visit(tmp_path / "page.html")
    count = {"run": 6, "comparison": 2, "sweep": 3}[kind]
    assert seen.console == []
    assert seen.requests == []
    assert f'data-plots="{count}"' in seen.dom
    assert seen.dom.count("<canvas") == count
    ids = [plot["id"] for plot in plots_of(text)]
    assert all(f'id="{name}"' in text for name in ids)
    elements = Elements(text)
    assert not [attrs for _, attrs in elements.tags if "style" in attrs or any(name.startswith("on") for name in attrs)]


@pytest.mark.parametrize("kind", ["run", "comparison", "sweep"])
@pytest.mark.parametrize("width", [360, 1280])
def test_nothing_sticks_out_of_the_window(tmp_path: Path, kind: str, width: int) -> None:
    (tmp_path / "page.html").write_text(page_of(kind, tmp_path), encoding="utf-8")
    script = "document.title = root.documentElement.scrollWidth + '/' + root.documentElement.clientWidth;"
    assert framed(tmp_path, width, script) == f"{width}/{width}"


def test_the_pointer_is_told_what_it_points_at(tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text(page_of("run", tmp_path), encoding="utf-8")
    script = """
    const over = root.querySelector('#rate .u-over'), box = over.getBoundingClientRect();
    const at = {clientX: box.left + box.width * 0.42, clientY: box.top + 20, bubbles: true};
    over.dispatchEvent(new frame.MouseEvent('mouseenter', at));
    over.dispatchEvent(new frame.MouseEvent('mousemove', at));
    document.title = ['rate', 'latency'].map((id) => root.querySelector(`#${id}-readout`).textContent).join('|');
    """
    rate, _, latency = framed(tmp_path, 900, script).partition("|")
    assert re.match(r"after 4\.\d+ s: .*link down up", rate), rate
    assert latency.startswith("after 4."), "pointers move together"


def framed(folder: Path, width: int, script: str) -> str:
    """The title that a script of a page around ``page.html`` sets. Windows are no narrower than 500, a frame is."""
    frame = folder / "frame.html"
    frame.write_text(
        f'<iframe src="page.html" style="width:{width}px;height:900px;border:0"></iframe><script>'
        "addEventListener('load', () => { const frame = document.querySelector('iframe').contentWindow;"
        f"const root = frame.document; {script} }})</script>"
    )
    seen = visit(frame, "--allow-file-access-from-files")
    title = re.search(r"<title>(.*?)</title>", seen.dom)
    assert title is not None, seen.dom[:500]
    return title[1]


def renamed(name: str) -> str:
    """The minimal scenario with ``name`` for everything that has one."""
    quoted = "'" + name.replace("'", "''") + "'"
    text = MINIMAL
    for old in ("sensors", "gateway", "wan", "up", "anomaly"):
        text = re.sub(rf"(?<![\w/]){old}(?=[:,}}])", quoted[:-1] + f" {old}'", text)
    text = text.replace("source: test", f"source: {quoted}")
    return text + f"name: {quoted}\ndescription: {quoted}\nslo: {{p99: 1ms}}\n"


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    text = renamed(HOSTILE)
    scenario = load(tmp_path, text)
    run = msgspec.structs.replace(
        ran(scenario), origin=Origin(file=HOSTILE, text=text, changes={HOSTILE: HOSTILE}, command=HOSTILE)
    )
    points = [
        Point({HOSTILE: HOSTILE}, "key", error=HOSTILE),
        Point({HOSTILE: "2"}, "key", msgspec.to_builtins(run.summary)),
    ]
    assert run.origin is not None
    compared = Compared((scenario, scenario), (run.origin, run.origin), compare(scenario, scenario), None)
    for number, page in enumerate(
        (render_run(run), render_comparison(compared), render_sweep(Swept(scenario, run.origin, points)))
    ):
        tags = [tag for tag, _ in Elements(page).tags]
        assert tags.count("script") == 2
        assert "img" not in tags
        (tmp_path / f"{number}.html").write_text(page, encoding="utf-8")
        seen = visit(tmp_path / f"{number}.html")
        assert "<title>pwned" not in seen.dom
        assert seen.console == []
        assert seen.requests == []
    for view in (
        run_view(scenario, run.summary, 80),
        sweep_view(points, 80),
        comparison_view(compared.result, None, 80),
    ):
        assert max(map(len, told(view, 80).splitlines())) <= 80


@pytest.mark.parametrize("width", [60, 80, 120])
def test_the_terminal_gets_the_same_figures_and_no_line_is_too_long(busy: Run, width: int) -> None:
    text = told(run_view(busy.scenario, busy.summary, width), width)
    assert max(map(len, text.splitlines())) <= width
    assert "\x1b" not in text, "a pipe gets no control characters"
    together = " ".join(text.split())
    for part in ("objectives", "MISSED", "answers by tier", "lost requests", "nodes", "links", "energy and cost"):
        assert part in together, part
    assert "Missed 1 of 4 objectives: p99" in together
    page = render_run(busy)
    for name, tier in busy.summary.by_tier.items():
        assert f"{tier.answered:,}" in text, name
        assert f"{tier.answered:,}" in page, name


def test_markup_of_the_terminal_in_names_stays_text(tmp_path: Path) -> None:
    scenario = load(tmp_path, MINIMAL, {"name": "'[red]x[/red] [/]'"})
    assert "[red]x[/red] [/]" in told(run_view(scenario, ran(scenario).summary, 80), 80)


def test_a_comparison_tells_better_from_worse_and_from_chance(tmp_path: Path) -> None:
    first = load(tmp_path, MINIMAL, {"name": "near"})
    second = load(tmp_path, MINIMAL, {"name": "far", "links.up.latency": "6ms"})
    found = compare(first, second)
    text = verdict(found)
    assert text.startswith("Against near, far is worse in mean latency (+2.00 ms), p50 (+2.00 ms)")
    same = verdict(compare(first, first))
    assert same.startswith("first and second do not differ for sure. Exactly the same: answered, accuracy")
    page = render_comparison(
        Compared((first, second), (origin(), origin()), found, Sensitivity(["links.up.latency"], []))
    )
    assert "halved and doubled in both: links.up.latency. None of them changes" in page
    assert page.count('class="range-dot"') == len([name for name in found.figures if name not in {"energy_j", "cost"}])
    for width in (60, 80):
        shown = told(comparison_view(found, Sensitivity([], []), width), width)
        assert max(map(len, shown.splitlines())) <= width
        assert "+2.00 ms" in shown


def test_the_terminal_tells_what_a_node_has_refused_and_lost(tmp_path: Path) -> None:
    full = {"nodes.gateway.service": "900ms", "nodes.gateway.queue": "1"}
    fault = {"faults": "[{fault: node_down, node: gateway, at: 5s, lasts: 2s}]"}
    for changes, titles in (
        (full, {"refused"}),
        (fault, {"cut off"}),
        (full | fault, {"refused", "cut off"}),
        ({}, set()),
    ):
        scenario = load(tmp_path, MINIMAL, changes)
        shown = told(run_view(scenario, ran(scenario).summary, 80), 80)
        (heading,) = [line for line in shown.splitlines() if line.startswith("node ")]
        assert {title for title in ("refused", "cut off") if title in heading} == titles
        assert max(map(len, shown.splitlines())) <= 80


def test_a_comparison_shows_how_latency_is_distributed_and_what_each_pair_says(tmp_path: Path) -> None:
    cascade = "{cascade: [edge, cloud], threshold: 0.3}"
    first = load(tmp_path, MINIMAL, BUSY | {"name": "near", "placement": cascade, "run.warm_up": "1s"})
    far = {"name": "far", "placement": "cloud", "run.warm_up": "1s"}
    far["links.wan.latency"] = "{lognormal: {median: 20ms, sigma: 1}}"
    second = load(tmp_path, MINIMAL, BUSY | far)
    found = compare(first, second)
    assert [list(side) for side in found.latencies] == [["edge", "cloud"], ["cloud"]]
    cloud = found.latencies[1]["cloud"]
    at_median = np.interp(found.figures["p50_ms"].second, cloud.ms, cloud.percent)
    assert at_median == pytest.approx(50, abs=5)  # a bin is 5 % wide
    assert (cloud.percent[0], cloud.percent[-1]) == (0, 100)
    one_run = simulate(second, seed=7).by_tier["cloud"].answered
    assert cloud.answered == pytest.approx(found.replications * one_run, rel=0.1)
    for one in found.figures.values():
        assert len(one.pairs) == found.replications
        assert np.mean(one.pairs) == pytest.approx(one.difference.mean)
    (shape,), (pairs,) = distribution(found), pair_by_pair(found)
    assert [(curve.name, curve.dashed) for curve in shape.curves] == [
        ("edge, near", True), ("cloud, near", True), ("cloud, far", False),
    ]  # fmt: skip
    mean = found.figures["mean_ms"]
    assert pairs.curves[0].y == pytest.approx([100 * value / mean.first for value in mean.pairs], rel=1e-5)
    page = render_comparison(Compared((first, second), (origin(), origin()), found, None))
    assert "second minus first, by pair" in page
    assert all(f'id="{plot}"' in page for plot in ("cumulative", "pairs"))


def test_a_comparison_of_what_answers_nothing_has_no_plots(tmp_path: Path) -> None:
    deaf = load(tmp_path, MINIMAL, {"links.up.loss": "100%"})
    found = compare(deaf, deaf)
    assert found.latencies == ({}, {})
    assert distribution(found) == pair_by_pair(found) == []
    page = render_comparison(Compared((deaf, deaf), (origin(), origin()), found, None))
    assert "How the latency is distributed" not in page


@pytest.mark.parametrize(
    ("mean", "text", "half", "whole"),
    [(22.7, "+22.7 J", 0.105, "+22.7 J ± 0.1 J"), (0.0004, "400 µJ", 0.00002, "400 µJ ± 20 µJ"), (3, "3", 0, "3 ± 0")],
)
def test_an_interval_is_in_the_unit_of_its_mean(mean: float, text: str, half: float, whole: str) -> None:
    assert plus_minus(text, mean, half) == whole


def test_a_sweep_is_drawn_over_its_numbers_with_a_line_for_each_other_value(tmp_path: Path) -> None:
    points = swept(tmp_path, {"placement": ["edge", "cloud"], "links.up.latency": ["500us", "20ms", "100ms"]})
    plots, across, lines = sweep_plots(points)
    assert (across, lines) == ("links.up.latency", 2)
    latency, title = plots[0]
    assert "Latency" in title
    assert latency.x.log
    assert latency.x.ticks == [5e5, 2e7, 1e8]
    assert latency.x.names == ["500us", "20ms", "100ms"]
    assert [curve.name for curve in latency.curves] == ["edge p50", "edge p99", "cloud p50", "cloud p99"]
    assert [curve.colour for curve in latency.curves] == ["edge", "edge", "cloud", "cloud"]
    summary = points[1].summary
    assert summary is not None
    assert latency.curves[0].y[1] == pytest.approx(summary["end_to_end_ms"]["p50"], rel=1e-5)


def test_a_sweep_over_words_has_points_at_even_places(tmp_path: Path) -> None:
    points = swept(tmp_path, {"placement": ["edge", "cloud", "mars"]})
    plots, across, _ = sweep_plots(points)
    assert across == "placement"
    assert plots[0][0].x.names == ["edge", "cloud", "mars"]
    assert {curve.shape for curve in plots[0][0].curves} == {"points"}
    assert plots[0][0].curves[0].y[2] is None
    rows = list(csv.DictReader(io.StringIO(as_csv(points))))
    assert [row["placement"] for row in rows] == ["edge", "cloud", "mars"]
    assert "expected a tier" in rows[2]["error"]
    assert float(rows[0]["p50_ms"]) < float(rows[1]["p50_ms"])
    assert "expected a tier" in told(sweep_view(points, 80), 80)


def test_the_page_of_a_sweep_begins_with_the_point_that_answers_nothing(tmp_path: Path) -> None:
    points = swept(tmp_path, {"nodes.gateway.service": ["1ms", "20s"]})
    assert "Answered goes from 0 % (20s) to 100 % (1ms)." in render_sweep(Swept(load(tmp_path), origin(), points))


def test_swept_paths_are_as_short_as_they_can_be() -> None:
    assert short_paths(["run.seed", "devices.a.count"]) == ["seed", "count"]
    assert short_paths(["devices.a.count", "devices.b.count"]) == ["a.count", "b.count"]
