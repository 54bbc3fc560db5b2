"""A profile: its form, and what a scenario takes from it."""

from __future__ import annotations

import os
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from tests.scenario.examples import MINIMAL, PROFILE, scenario
from tierwise.scenario import ScenarioError, load_scenario, scenario_schema
from tierwise.scenario.batches import ByBatch, by_batch
from tierwise.scenario.distributions import Distribution
from tierwise.scenario.measured import PARTS, SLICES, equal_parts, service_time
from tierwise.scenario.profile import load_profile, service_of

EDGE = "models__anomaly__edge"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "profile.yaml").write_text(PROFILE)
    return tmp_path


def test_it_gives_what_the_scenario_does_not_state(folder: Path) -> None:
    edge = scenario(folder, **{EDGE: "{profile: profile.yaml}"}).models["anomaly"].edge
    assert edge is not None
    assert edge.service is not None
    assert list(edge.service.parameters) == [1e6, 2e6, 3e6]
    assert edge.service == service_of(load_profile(folder / "profile.yaml"))
    assert (edge.accuracy, edge.size) == (0.9, 2000)
    assert edge.energy == pytest.approx(70e-6)
    assert edge.source == "measured in a test"


def test_what_is_stated_counts(folder: Path) -> None:
    stated = "{profile: profile.yaml, service: 5ms, accuracy: 0.5, size: 1B, energy: 1J, source: mine}"
    edge = scenario(folder, **{EDGE: stated}).models["anomaly"].edge
    assert edge is not None
    assert edge.service == Distribution("constant", (5e6,))
    assert (edge.accuracy, edge.size, edge.energy, edge.source) == (0.5, 1, 1.0, "mine")


@pytest.mark.parametrize(
    ("section", "source"),
    [
        ("energy: 5mJ, accuracy: 0.5", "energy, accuracy: stated in the scenario; else measured in a test"),
        ("service: 5ms, source: a data sheet", "service: a data sheet; else measured in a test"),
        ("source: a data sheet", "measured in a test"),
    ],
)
def test_what_is_stated_beside_a_profile_is_not_said_to_be_measured(folder: Path, section: str, source: str) -> None:
    text = MINIMAL.replace("edge: {accuracy: 0.95, source: test}", f"edge: {{profile: profile.yaml, {section}}}")
    (folder / "scenario.yaml").write_text(text)
    edge = load_scenario(folder / "scenario.yaml").models["anomaly"].edge
    assert edge is not None
    assert edge.source == source


def test_a_source_is_needed_without_a_profile_only(folder: Path) -> None:
    with pytest.raises(ScenarioError, match=r"models\.anomaly\.edge\.source: is missing"):
        scenario(folder, **{EDGE: "{service: 1ms}"})
    text = MINIMAL.replace("edge: {accuracy: 0.95, source: test}", "edge: {%s}")
    validator = jsonschema.Draft202012Validator(scenario_schema())
    for section, is_right in (("profile: p.yaml", True), ("service: 1ms", False), ("source: test", True)):
        assert validator.is_valid(YAML(typ="safe", pure=True).load(text % section)) == is_right


def test_all_mistakes_of_all_profiles_are_told_at_once(folder: Path) -> None:
    (folder / "a.yaml").write_text(
        PROFILE.replace("runtime: onnx", "run_time: onnx").replace("accuracy: 0.9", "accuracy: 2")
    )
    (folder / "b.yaml").write_text(PROFILE.replace("count: 9", "count: 0"))
    with pytest.raises(ScenarioError) as told:
        scenario(folder, **{EDGE: "{profile: a.yaml}", "models__anomaly__cloud": "{profile: b.yaml}"})
    places = [
        (problem.file.rpartition("/")[2], problem.line, problem.column, problem.path) for problem in told.value.problems
    ]
    assert places == [
        ("a.yaml", 1, 1, "runtime"),
        ("a.yaml", 9, 1, "run_time"),
        ("a.yaml", 11, 11, "accuracy"),
        ("b.yaml", 15, 23, "service[0].count"),
        ("b.yaml", 16, 23, "service[1].count"),
    ]
    assert "a.yaml:9:1: run_time: unknown key (did you mean `runtime`?)" in str(told.value)


@pytest.mark.parametrize("name", ["none.yaml", ".", "x" * 300, '"a\\0b"'])
def test_a_file_that_cannot_be_read_is_told_where_it_is_named(folder: Path, name: str) -> None:
    (folder / "s.yaml").write_text(
        MINIMAL.replace("edge: {accuracy: 0.95, source: test}", f"edge: {{profile: {name}}}")
    )
    with pytest.raises(ScenarioError, match=r"s\.yaml:18:21: models\.anomaly\.edge\.profile: cannot read the profile "):
        load_scenario(folder / "s.yaml")


def test_nothing_but_a_file_is_opened_as_a_profile(folder: Path) -> None:
    """A pipe would wait for somebody who writes."""
    os.mkfifo(folder / "pipe")
    with pytest.raises(ScenarioError, match=r"cannot read the profile .*pipe: not a regular file"):
        scenario(folder, **{EDGE: "{profile: pipe}"})


def test_no_more_is_read_than_a_scenario_may_have() -> None:
    with pytest.raises(ScenarioError, match="larger than 4 MiB"):
        load_scenario(Path("/dev/zero"))


def test_the_way_is_relative_to_the_scenario(folder: Path) -> None:
    (folder / "inner").mkdir()
    path = folder / "inner" / "s.yaml"
    path.write_text(MINIMAL)
    assert load_scenario(path, {"models.anomaly.edge": "{profile: ../profile.yaml}"}).models["anomaly"].edge is not None


def test_between_measured_sizes_quantiles_are_interpolated() -> None:
    times = by_batch([(1, (1.0, 2.0, 3.0)), (4, (1.0, 4.0, 7.0)), (8, (9.0,))])
    assert times.largest == 8
    assert times.of(1).parameters == times.parameters == (1.0, 2.0, 3.0)
    assert times.of(2).parameters == pytest.approx((1.0, 2 + 2 / 3, 3 + 4 / 3))
    assert times.of(4).parameters == (1.0, 4.0, 7.0)
    assert times.of(6).parameters == (5.0, 6.5, 8.0)
    assert times.of(8) == Distribution("constant", (9.0,))
    assert times.scaled(2).of(6).parameters == (10.0, 13.0, 16.0)
    assert isinstance(times.scaled(2), ByBatch)


def test_a_single_time_is_constant() -> None:
    times = by_batch([(1, (5.0,)), (2, (5.0, 6.0))])
    assert times.kind == "constant"
    assert not times.is_constant  # batches are not
    assert by_batch([(1, (5.0,)), (2, (7.0,))]).is_constant


@given(st.lists(st.floats(1, 1e9), min_size=1, max_size=300), st.integers(1, 100))
def test_equal_parts_keep_the_mean_and_the_order(times: list[float], parts: int) -> None:
    found = equal_parts(np.sort(times), parts)
    assert found.mean() == pytest.approx(np.mean(times))
    assert (np.diff(found) >= 0).all()


@given(st.lists(st.tuples(st.integers(1, 10**6), st.integers(1, 400)), min_size=2, max_size=20))
def test_a_coarse_clock_makes_a_valid_profile(measured: list[tuple[int, int]]) -> None:
    """Ticks of 24 MHz: few times, each of them often, and a count that a hundred parts do not divide."""
    times = np.concatenate([np.full(often, ticks / 24e6 * 1e9) for ticks, often in measured])
    made = service_time(1, [times])
    assert made.times_us == sorted(made.times_us)


def test_a_service_time_tells_what_was_measured() -> None:
    random = np.random.default_rng(3)
    slices = [random.exponential(50_000, 500) for _ in range(SLICES)]
    made = service_time(2, slices, cpu_ns=SLICES * 500 * 30_000)
    everything = np.concatenate(slices)
    assert (made.batch, made.count, made.cpu_us) == (2, everything.size, 30.0)
    assert made.mean_us == pytest.approx(everything.mean() / 1e3, rel=1e-3)
    assert made.p99_us == pytest.approx(np.quantile(everything, 0.99) / 1e3, rel=1e-3)
    assert len(made.times_us) == PARTS
    assert np.mean(made.times_us) == pytest.approx(made.mean_us, rel=1e-3)
    # Of independent times the half width is 1.96 sigma / sqrt(n), within the scatter of 20 means.
    assert made.half_width_us == pytest.approx(1.96 * 50 / 100, rel=0.6)
    assert service_time(1, [[7_000.0] * 5]).times_us == [7.0]
