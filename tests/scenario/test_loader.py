"""Loading: types, names, positions, every error at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.scenario.examples import MINIMAL, scenario
from tierwise.core.errors import ConfigurationError
from tierwise.scenario import ScenarioError, load_scenario, scenario_schema
from tierwise.scenario.document import parse_document
from tierwise.scenario.loader import build_scenario
from tierwise.scenario.schema import Cascade, Expression, Fallback, Periodic

if TYPE_CHECKING:
    from pathlib import Path


def problems(folder: Path, text: str) -> list[str]:
    """The errors of a scenario, without the file's name."""
    path = folder / "s.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ScenarioError) as caught:
        load_scenario(path)
    return [str(problem).removeprefix(f"{path}:") for problem in caught.value.problems]


def test_a_valid_scenario_has_base_units(tmp_path: Path) -> None:
    loaded = scenario(tmp_path)
    assert loaded.run.duration == 10 * 10**9
    assert loaded.links["up"].bandwidth == 10e6
    assert loaded.links["up"].latency.parameters == (5e6,)
    assert loaded.devices["sensors"].request == 1000
    assert loaded.rule("sensors") == "edge"
    assert isinstance(loaded.traffic_of("sensors"), Periodic)
    assert loaded.name == "scenario"


def test_every_error_is_told_at_once_with_line_and_column(tmp_path: Path) -> None:
    text = MINIMAL.replace("period: 1s", "periods: 1s").replace("request: 1kB", "request: 1000")
    text = text.replace("latency: 5ms", "latency: 5parsec").replace("tier: edge, ", "")
    assert problems(tmp_path, text) == [
        "6:14: devices.sensors.traffic.period: is missing",
        "6:34: devices.sensors.traffic.periods: unknown key (did you mean `period`?)",
        "7:14: devices.sensors.request: a size needs a unit, such as 1kB (got 1000)",
        "10:45: links.up.latency: 'parsec' is no unit of duration; known: s, ns, us, ms, µs, min, h, d (got '5parsec')",
        "13:12: nodes.gateway.tier: is missing",
    ]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("placement: edge", "placement: {sensor: edge}", "placement.sensor: there is no 'sensor' (known: sensors)"),
        ("to: gateway", "to: gatway", "10:27: links.up.to: there is no 'gatway' (known: gateway, cloud)"),
        ("from: gateway", "from: nowhere", "11:15: links.wan.from: there is no 'nowhere'"),
        ("to: cloud,", "to: gateway,", "11:28: links.wan.to: a link does not lead back to where it starts"),
        ("to: gateway, lat", "to: gateway, shared: 1, lat", "links.up.shared: expected true or false (got 1)"),
        ("latency: 20ms", "latency: 20ms, shared: false", "links.wan.shared: only a link from device groups"),
        ("latency: 20ms", "bandwidth_down: 1Mbit/s", "links.wan.bandwidth_down: needs `bandwidth` too"),
        ("latency: 20ms", "duty_cycle: 1%", "links.wan.duty_cycle: needs `bandwidth`"),
        (
            "{pattern: periodic, period: 1s}",
            "hourly",
            "6:14: devices.sensors.traffic: there is no 'hourly' (known: none)",
        ),
        (
            "{pattern: periodic, period: 1s}",
            "{pattern: weekly}",
            "6:14: devices.sensors.traffic: needs `pattern`, one of",
        ),
        ("request: 1kB", "board: nucleo", "7:12: devices.sensors.board: there is no 'nucleo' (known: none)"),
        ("request: 1kB", "model: other", "7:12: devices.sensors.model: there is no 'other' (known: anomaly)"),
        ("request: 1kB", "battery: {capacity: 1J, source: x}", "7:14: devices.sensors.battery: needs `board`"),
        (
            "gateway: {tier: edge, service: 0.7ms}",
            "gateway: {tier: edge}",
            "tier edge: neither nodes.gateway.service nor",
        ),
        ("to: gateway, latency", "to: cloud, latency", "placement: tier edge: no links lead from 'sensors'"),
        ("placement: edge", "placement: mars", "placement: 'mars': expected a tier (device, edge, cloud) or `TIER if"),
        ("placement: edge", "placement: {cascade: [edge, edge], threshold: 0.5}", "placement: names a tier twice"),
        (
            "placement: edge",
            "placement: {cascade: [edge], threshold: 0.5}",
            "placement.cascade: needs at least 2 entries",
        ),
        (
            "placement: edge",
            "placement: edge if moon else cloud",
            "'moon' is not known to rules (known: group, battery",
        ),
        (
            "placement: edge",
            "placement: edge if group > 3 else cloud",
            "'group > 3' compares different things: group is text, 3 is a number",
        ),
        ("placement: edge", "placement: edge if 1 < group else cloud", "'1 < group' compares different things"),
        ("placement: edge", "placement: edge if group else cloud", "'group' is text; a condition is true or false"),
        ("placement: edge", "placement: edge if group * 2 > 1 else cloud", "'group' is text; only numbers can be"),
        ("placement: edge", "placement: edge if not (1 < 2) + 1 else cloud", "'1 < 2' is true or false; only numbers"),
        ("placement: edge", "placement: edge if len(group) > 1 else cloud", "rules cannot use 'len(group)'"),
        ("placement: edge", "placement: edge if 2j > 1 else cloud", "rules cannot use '2j'"),
        ("placement: edge", f"placement: {'edge if battery else ' * 50}cloud", "rules have at most 1000 characters"),
        ("placement", "outputs: {bucket: 1ns}\nplacement", "outputs.bucket: makes 10,000,000,000 points"),
        ("duration: 10s", "duration: 10s, warm_up: 10s", "run.warm_up: leaves nothing to count"),
        ("duration: 10s", "duration: 0", "run.duration: must be above 0 (got 0)"),
        ("seed: 7", "seed: 1.5", "run.seed: expected a whole number (got 1.5)"),
        (
            "placement",
            "faults: [{fault: link_down, link: up, lasts: 1s}]\nplacement",
            "faults[0]: needs either `at` or",
        ),
        (
            "placement",
            "faults: [{fault: node_down, node: x, at: 0, lasts: 1s}]\nplacement",
            "faults[0].node: there is no",
        ),
        ("placement", "faults: [{fault: meteor}]\nplacement", "faults[0]: needs `fault`, one of"),
        ("latency: 5ms", "loss: 1.5", "links.up.loss: must be at most 1 (got 1.5)"),
        ("latency: 5ms", "loss: {to_bad: 0.1}", "links.up.loss.to_good: is missing"),
        ("latency: 5ms", "latency: {gamma: 5ms}", "links.up.latency: expected a value or one of {constant, uniform"),
        ("latency: 5ms", "latency: {uniform: [5ms, 1ms]}", "links.up.latency: uniform: low is above high"),
        ("latency: 5ms", "latency: -5ms", "links.up.latency: must not be negative or infinite"),
        ("gateway: {", "sensors: {", "nodes.sensors: a device group has this name too"),
        ("tierwise: 1", "tierwise: 2", "1:11: tierwise: expected 1 (got 2)"),
        ("tierwise: 1", "tierwise: [1", "not YAML:"),
        ("tierwise: 1", "tierwise: 1\ntierwise: 1", "2:1: not YAML:"),
        ("seed: 7", "seed: [7]", "run.seed: expected a whole number (got [7])"),
        ("count: 10", "count: 0", "devices.sensors.count: must be at least 1 (got 0)"),
        ("count: 10", "count: 100000000", "devices.sensors.count: must be at most 10000000"),
        ("request: 1kB", "request: 2000GB", "devices.sensors.request: must be below 1099511627776"),
        ("request: 1kB", "battery: 3Wh", "devices.sensors.battery: expected a mapping (got '3Wh')"),
        ("request: 1kB", "names: one", "devices.sensors.names: expected a list (got 'one')"),
        ("request: 1kB", "names: [[1]]", "devices.sensors.names[0]: expected text (got [1])"),
        ("request: 1kB", "names: [a, b]", "devices.sensors.names: has 2 names for 10 devices"),
        ("count: 10", "count: 2\n    names: [a, a]", "devices.sensors.names: another device or group is called 'a'"),
        ("links:", "links: up\nlinkz:", "links: expected a mapping (got 'up')"),
        ("links:", "links: up\nlinkz:", "linkz: unknown key (did you mean `links`?)"),
        ("source: test}\n    edge", "source: ''}\n    edge", "models.anomaly.device.source: must not be empty"),
        ("placement: edge", "placement: {cascade: [edge, fog], threshold: 0}", "expected 'device', 'edge' or 'cloud'"),
        ("placement: edge", "placement: {cascade: [edge, edge, edge, edge], threshold: 0}", "takes at most 3 entries"),
        (
            "placement: edge",
            "placement: {sensors: {cascad: [edge, cloud]}}",
            "placement.sensors: expected a tier, an expression, or a mapping with one of cascade, fallback",
        ),
        ("period: 1s", "period: 1s, name: 1s", "devices.sensors.traffic.name: unknown key (known: "),
        ("tier: edge,", "tier: edge, node: 1,", "nodes.gateway.node: unknown key (known: "),
        ("tier: edge,", "tier: edge, prize: 1,", "nodes.gateway.prize: unknown key (did you mean `price`?)"),
        (
            "placement",
            "faults: [{fault: link_down, node: up, at: 0, lasts: 1s}]\nplacement",
            "faults[0].node: unknown key (known: at, every, fault, lasts, link)",
        ),
        ("seed: 7", "seed: !!python/object:os.system x", "run.seed: expected text, a number, true, false or null"),
    ],
)  # fmt: skip
def test_each_mistake_is_named(tmp_path: Path, old: str, new: str, expected: str) -> None:
    assert old in MINIMAL
    found = problems(tmp_path, MINIMAL.replace(old, new, 1))
    assert any(expected in problem for problem in found), found


def test_a_device_needs_a_service_time_to_answer(tmp_path: Path) -> None:
    text = MINIMAL.replace("placement: edge", "placement: device").replace("service: 5ms, ", "")
    assert "tier device: models.anomaly.device.service (or a profile) says how long" in problems(tmp_path, text)[0]


def test_a_model_larger_than_the_board_is_refused(tmp_path: Path) -> None:
    text = MINIMAL.replace("placement: edge", "placement: device").replace("service: 5ms,", "service: 5ms, size: 2MB,")
    board = "board: {active_power: 30mW, memory: 1MB, source: test}"
    assert "is larger than the board's memory" in problems(tmp_path, text.replace("request: 1kB", board))[0]


def test_a_cascade_goes_outwards(tmp_path: Path) -> None:
    text = MINIMAL.replace("placement: edge", "placement: {cascade: [cloud, edge], threshold: 0.5}")
    assert "a cascade goes outwards: device, then edge, then cloud" in problems(tmp_path, text)[0]


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match="cannot read the scenario: No such file"):
        load_scenario(tmp_path / "none.yaml")


def test_what_is_no_mapping_is_told(tmp_path: Path) -> None:
    assert problems(tmp_path, "- 1\n") == ["1:1: a scenario is a mapping with the key `tierwise: 1`"]


def test_bytes_that_are_no_text_and_files_too_large_are_told() -> None:
    with pytest.raises(ScenarioError, match="is not UTF-8"):
        parse_document(b"\xff\xfe\xff", "f")
    with pytest.raises(ScenarioError, match="larger than 4 MiB"):
        parse_document(b" " * (5 << 20), "f")
    with pytest.raises(ScenarioError, match="too deep"):
        parse_document("[" * 100 + "]" * 100, "f")


def test_placement_has_short_and_long_forms(tmp_path: Path) -> None:
    assert isinstance(scenario(tmp_path, placement="edge if queue_edge < 5 else cloud").rule("sensors"), Expression)
    assert isinstance(scenario(tmp_path, placement="{cascade: [edge, cloud], threshold: 0.2}").rule("sensors"), Cascade)
    by_group = scenario(tmp_path, placement="{sensors: {fallback: [edge, device], timeout: 1s}}")
    assert isinstance(by_group.rule("sensors"), Fallback)


def test_overrides_replace_and_add(tmp_path: Path) -> None:
    loaded = scenario(tmp_path, run__duration="1min", links__up__jitter="{exponential: 1ms}")
    assert loaded.run.duration == 60 * 10**9
    assert loaded.links["up"].jitter is not None
    with pytest.raises(ConfigurationError, match=r"--set run.duration.x: there is no run.duration.x"):
        scenario(tmp_path, run__duration__x="1")
    with pytest.raises(ConfigurationError, match=r"^--set run\.duration=\[:1:2: not YAML"):
        scenario(tmp_path, run__duration="[")


@pytest.mark.parametrize(
    ("where", "value", "expected"),
    [
        ("run.sed", "1", "--set run.sed=1: run.sed: unknown key (did you mean `seed`?)"),
        ("run.duration", "5", "--set run.duration=5: run.duration: a duration needs a unit"),
        ("links.up", "{to: gateway, from: sensors, los: 1}", "links.up.los: unknown key (did you mean `loss`?)"),
        (
            "links.far.away",
            "1",
            "--set links.far.away: there is no links.far (known: up, wan); a further one is set as",
        ),
        ("boards.new.power", "1", "--set boards.new.power=1: boards.new.power: unknown key"),
        ("links.up.to", "mars", "--set links.up.to=mars: links.up.to: there is no 'mars'"),
        ("links.up.from", "[mars]", "--set links.up.from=[mars]: links.up.from[0]: there is no 'mars'"),
    ],
)
def test_what_an_option_sets_wrong_is_told_at_the_option(tmp_path: Path, where: str, value: str, expected: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        scenario(tmp_path, **{where.replace(".", "__"): value})
    assert any(expected in str(problem) for problem in caught.value.problems), str(caught.value)
    own = [str(problem) for problem in caught.value.problems if str(problem).startswith("--set")]
    assert own


def test_what_the_file_has_wrong_is_still_told_at_its_place(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match=r"scenario\.yaml:2:28: run\.seed: expected a whole number") as caught:
        scenario(tmp_path, MINIMAL.replace("seed: 7", "seed: x"), run__warm_up="5")
    assert len(caught.value.problems) == 2


def test_the_json_schema_knows_every_section() -> None:
    schema = scenario_schema()
    assert set(schema["properties"]) >= {"run", "devices", "traffic", "links", "nodes", "models", "placement", "faults"}
    assert schema["additionalProperties"] is False


@settings(max_examples=60)
@given(st.data())
def test_fuzzed_scenarios_give_typed_errors_only(tmp_path: Path, data: st.DataObject) -> None:
    lines = MINIMAL.splitlines()
    marks = ["[", "{", "- ", ": ", "&a", "*a", "<<: *a", "!!set", "\t", "?"]
    junk = st.one_of(st.text(max_size=12), st.sampled_from(marks))
    for _ in range(data.draw(st.integers(1, 4))):
        row = data.draw(st.integers(0, len(lines) - 1))
        column = data.draw(st.integers(0, len(lines[row])))
        lines[row] = lines[row][:column] + data.draw(junk) + lines[row][column + data.draw(st.integers(0, 6)) :]
    try:
        build_scenario(parse_document("\n".join(lines), "f.yaml"), tmp_path, "f")
    except ScenarioError as error:
        found = error.problems
    else:
        return
    assert all(problem.line >= 1 and problem.what for problem in found)
    for word in ("nput should", "instance of", "valid "):  # pydantic's words, not ours
        assert not any(word in problem.what for problem in found), found


@pytest.mark.parametrize(
    ("where", "value", "meant"),
    [
        ("devices.sensors.traffic", "{pattern: periodical, period: 1s}", "periodic"),
        ("faults", "[{fault: node_dwn, node: gateway, at: 1s, lasts: 1s}]", "node_down"),
    ],
)
def test_a_slip_in_the_name_of_a_pattern_or_fault_is_guessed(
    tmp_path: Path, where: str, value: str, meant: str
) -> None:
    with pytest.raises(ScenarioError, match=rf"\(did you mean `{meant}`\?\)"):
        scenario(tmp_path, **{where.replace(".", "__"): value})
