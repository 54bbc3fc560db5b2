"""Every error message of scenarios and simulations is shown once, and none is left out of this table."""

from __future__ import annotations

import ast
import fcntl
import importlib.metadata
import io
import socket
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tests.components import need
from tests.scenario.examples import MINIMAL, PROFILE
from tests.scenario.test_legacy import LEGACY
from tests.sim.runs import load
from tierwise.scenario import load_scenario
from tierwise.scenario.document import parse_document
from tierwise.scenario.loader import build_scenario
from tierwise.sim import simulate
from tierwise.sim.answers import compute_answers
from tierwise.sim.event import EventEngine
from tierwise.sim.executors import open_executor
from tierwise.sim.firmware_node import FirmwareConfig, FirmwareDevice, read_config
from tierwise.sim.inputs import input_problems
from tierwise.sim.node import run_node
from tierwise.sim.plan import build_plan
from tierwise.sim.ranks import order_shifts
from tierwise.sim.sweep import sweep

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tierwise.policy import Decide

    Trigger = Callable[[Path], object]

SOURCES = Path(__file__).parents[2] / "src" / "tierwise"


# What goes wrong, as functions of a folder.


def changed(**changes: str) -> Trigger:
    """A scenario with values replaced; in the names ``__`` stands for a dot."""
    return lambda folder: load(folder, MINIMAL, {name.replace("__", "."): value for name, value in changes.items()})


def replaced(old: str, new: str) -> Trigger:
    """A scenario with other text."""
    assert old in MINIMAL
    return lambda folder: load(folder, MINIMAL.replace(old, new, 1))


def earlier(old: str, new: str) -> Trigger:
    """A scenario of the earlier form with other text."""
    assert old in LEGACY
    return lambda folder: build_scenario(parse_document(LEGACY.replace(old, new), "f"), folder, "f")


def raw(content: bytes) -> Trigger:
    """A document of these bytes."""
    return lambda folder: build_scenario(parse_document(content, "f"), folder, "f")


def run(**changes: str) -> Trigger:
    """A simulation of a changed scenario."""

    def trigger(folder: Path) -> object:
        return simulate(load(folder, MINIMAL, {name.replace("__", "."): value for name, value in changes.items()}))

    return trigger


def tried(**changes: str) -> Trigger:
    """A check of what a changed scenario reads."""

    def trigger(folder: Path) -> object:
        path = folder / "s.yaml"
        path.write_text(MINIMAL)
        return load_scenario(path, {name.replace("__", "."): value for name, value in changes.items()}, input_problems)

    return trigger


def node(program: str, config: str = "{}", **more: str) -> Trigger:
    """A simulation with an external device of this program."""

    def trigger(folder: Path) -> object:
        (folder / "node.py").write_text(program)
        command = f'["{sys.executable}", "{folder / "node.py"}"]'
        traffic = f"{{pattern: external, command: {command}, timeout: 60s, config: {config}}}"
        changes = {
            "devices__real": f"{{traffic: {traffic}}}",
            "links__up__from": "[sensors, real]",
            "run__duration": "2s",
        }
        return run(**(changes | more))(folder)

    return trigger


LATE = '{"time_us":7000000000,"type":"x","src":"","dst":""}'
READY = "import os, sys\nprint('READY', flush=True)\nfor _ in range(3):\n    input()\n"


def closed_connection(folder: Path) -> object:
    """A device that listens, and hangs up."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=lambda: server.accept()[0].close())  # noqa: PLW0108 -- one after the other
        thread.start()
        traffic = f'{{pattern: external, address: ["127.0.0.1:{server.getsockname()[1]}"]}}'
        try:
            return run(devices__real=f"{{traffic: {traffic}}}", links__up__from="[sensors, real]")(folder)
        finally:
            thread.join()


BOARD = "{name: m4, core: M4, instructions: 1, flash_bytes: 1, ram_bytes: 1}"


def profiled(old: str = "", new: str = "", **changes: str) -> Trigger:
    """A checked scenario whose edge has a profile with other text."""
    assert old in PROFILE

    def trigger(folder: Path) -> object:
        (folder / "p.yaml").write_text(PROFILE.replace(old, new, 1))
        node = "{tier: edge, batch: {max_size: 4}}"
        return tried(**{"models__anomaly__edge": "{profile: p.yaml}", "nodes__gateway": node} | changes)(folder)

    return trigger


def answers(
    arrays: dict[str, Any], artifact: str = "{service: 1ms, source: t}", data: str = "{file: d.npz}"
) -> Trigger:
    """Models that answer these samples."""

    def trigger(folder: Path) -> object:
        np.savez(folder / "d.npz", **arrays)
        changes = {"models.anomaly.data": data, "models.anomaly.edge": artifact}
        return compute_answers(load(folder, MINIMAL, changes))

    return trigger


def misfit(folder: Path) -> object:
    """Samples of three features for a model of four."""
    need(package="onnx")
    need(package="onnxruntime")
    import onnx  # noqa: PLC0415 -- optional
    from onnx import TensorProto, helper  # noqa: PLC0415

    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, 4]) for name in "xp"]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["p"])], "same", ends[:1], ends[1:])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), folder / "m.onnx")
    arrays = {"x": np.zeros((2, 3), np.float32), "y": np.zeros(2, int)}
    return answers(arrays, "{artifact: m.onnx, service: 1ms, source: t}")(folder)


def no_artifact(folder: Path) -> object:
    """Samples, and no model to answer them."""
    np.savez(folder / "d.npz", x=np.zeros((1, 4)), y=np.zeros(1))
    return tried(models__anomaly__data="{file: d.npz}", models__anomaly__edge__artifact="none.onnx")(folder)


def replayed(content: str | None) -> Trigger:
    """Traffic from a file of this content."""

    def trigger(folder: Path) -> object:
        if content is not None:
            (folder / "t.csv").write_text(content)
        return run(devices__sensors__traffic="{pattern: trace, file: t.csv}")(folder)

    return trigger


def swept(folder: Path, results: str = "", *, ended: bool = False, taken: bool = False) -> object:
    """A sweep with these earlier results, on an executor that may have ended, to a file that may be another's."""
    (folder / "s.yaml").write_text(MINIMAL)
    (folder / "r.jsonl").write_text(results)
    with ThreadPoolExecutor(1) as pool, (folder / "r.jsonl").open() as file:
        if taken:
            fcntl.flock(file, fcntl.LOCK_EX)
        if ended:
            pool.shutdown()
        return sweep(folder / "s.yaml", {"run.seed": ["1"]}, folder / "r.jsonl", pool)


def without(module: str, trigger: Trigger) -> Trigger:
    """The same where a package is not installed."""

    def hidden(folder: Path) -> object:
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(sys.modules, module, None)
            return trigger(folder)

    return hidden


def nothing() -> Decide:
    """A policy that asks nobody."""
    return lambda _: None


def elsewhere() -> Decide:
    """A policy that asks a tier that is none."""
    return lambda _: "mars"


def broken() -> Decide:
    """A policy with a mistake."""
    return lambda situation: {"a": "edge"}[situation.group]


def policy(name: str, **changes: str) -> Trigger:
    """A simulation with a policy of this file."""

    def trigger(folder: Path) -> object:
        entries = [
            importlib.metadata.EntryPoint(own, f"{__name__}:{own}", "tierwise.policies")
            for own in ("nothing", "elsewhere", "broken")
        ]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("tierwise.sim.decide.entry_points", lambda group: entries)  # noqa: ARG005 -- its form
            return run(placement=f"{{policy: {name}}}", **changes)(folder)

    return trigger


def unasked(folder: Path) -> object:
    """An engine without the policy that its plan needs."""
    plan = build_plan(load(folder, MINIMAL, {"placement": "edge if queue_edge < 5 else cloud"}))
    return list(EventEngine(plan).run())


def numbered(folder: Path) -> object:
    """A device whose request has a number for which the order of events has no room."""
    engine = EventEngine(build_plan(load(folder)))
    engine.feed(np.array([[0, 0, 2**62]]))
    return engine


def counts_nothing(folder: Path) -> object:
    """A device of which nobody knows how long it takes."""
    np.savez(folder / "d.npz", x=np.zeros((1, 4)))
    return firmware(folder / "d.npz")._duration_us(None)


def firmware(samples: Path) -> FirmwareDevice:
    """A device whose firmware is not asked."""
    return FirmwareDevice(None, FirmwareConfig(build="none", samples=str(samples)))  # type: ignore[arg-type]


def without_samples(folder: Path) -> object:
    """A device that has nothing to sense."""
    np.savez(folder / "e.npz", x=np.zeros((0, 4)))
    return firmware(folder / "e.npz")


EXTERNAL = "{pattern: external, command: [cat]}"
CONFIG = {"build": "b", "samples": "x.npz"}
FAULT = "[{fault: link_down, link: up, lasts: 1s}]"

TABLE: list[tuple[str, Trigger]] = [
    # scenario/document.py, loader.py
    ("expected text, a number, true, false or null (got a YAML ", replaced("seed: 7", "seed: !!binary aGk=")),
    ("larger than 4 MiB", raw(b" " * (5 << 20))),
    ("nested too deep, or too many values", raw(b"{a: " * 45 + b"1" + b"}" * 45)),
    ("not YAML: nested too deep", raw(b"[" * 1000 + b"]" * 1000)),
    ("not YAML: ", raw(b"a: [1")),
    ("is not UTF-8 (byte 0)", raw(b"\xff\xfe\xff")),
    ("cannot read the scenario: No such file", lambda folder: load_scenario(folder / "none.yaml")),
    ("a scenario is a mapping with the key `tierwise: 1`", raw(b"- 1")),
    (": there is no run.duration.x", changed(run__duration__x="1")),
    ("unknown key (did you mean `duration`?)", replaced("duration: 10s", "duratoin: 10s")),
    ("unknown key (known: burst, rate)", changed(links__up__shaper="{rate: 1kB/s, burst: 1kB, speed: 1}")),
    ("run.duration: is missing", replaced("duration: 10s, ", "")),
    ("needs `pattern`, one of", changed(devices__sensors__traffic="{pattern: weekly}")),
    ("expected a mapping (got 1)", replaced("seed: 7}", "seed: 7}\ncarbon: 1")),
    ("expected a list (got 1)", changed(faults="1")),
    ("expected a whole number (got 'x')", replaced("seed: 7", "seed: x")),
    ("expected a number (got 'x')", changed(nodes__gateway__price="{per_hour: x, source: a}")),
    ("expected true or false (got 1)", changed(links__up__shared="1")),
    ("expected text (got 1)", changed(description="1")),
    ("must not be empty (got '')", changed(nodes__gateway__power="{idle: 1W, busy: 2W, source: ''}")),
    ("expected 'edge' or 'cloud' (got 'fog')", changed(nodes__gateway__tier="fog")),
    ("must be above 0 (got 0)", changed(run__duration="0")),
    ("must be at least 1 (got 0)", changed(devices__sensors__count="0")),
    ("must be below 1099511627776 (got '2000GB')", changed(devices__sensors__request="2000GB")),
    ("must be at most 1 (got 1.5)", changed(links__up__loss="1.5")),
    ("needs at least 2 entries", changed(placement="{cascade: [edge], threshold: 0.5}")),
    ("takes at most 3 entries", changed(placement="{cascade: [edge, edge, edge, edge], threshold: 0.5}")),
    ("expected a tier, an expression, or a mapping with one of cascade", changed(placement="{sensors: {cascad: 1}}")),
    # scenario/profile.py
    ("a profile is a mapping with the key `tierwise_profile: 1`", profiled("tierwise_profile: 1\n", "")),
    ("p.yaml:2:8: model: expected text (got 1)", profiled("model: anomaly", "model: 1")),
    ("expected 64 hexadecimal digits (got 'x')", profiled(PROFILE.split("sha256: ")[1].split("\n")[0], "x")),
    ("must be in ascending order (got [1000, 2000, 1])", profiled("1000, 2000, 3000", "1000, 2000, 1")),
    ("the batch sizes must be 1 and then larger and larger, not 2, 4", profiled("batch: 1", "batch: 2")),
    ("models.anomaly.edge.profile: cannot read the profile ", profiled(models__anomaly__edge="{profile: none.yaml}")),
    ("mean_us is 7, but the mean of times_us is 2000", profiled("mean_us: 2000", "mean_us: 7")),
    (
        "p.yaml is modelled for the board m4: it belongs to `device`",
        profiled("model: anomaly\n", f"model: anomaly\nboard: {BOARD}\n"),
    ),
    ("cannot read the profile /dev/zero: not a regular file", profiled(models__anomaly__edge="{profile: /dev/zero}")),
    (
        "nodes.gateway.batch.max_size: models.anomaly.edge.profile was measured for batches of at most 4",
        profiled(nodes__gateway__batch__max_size="5"),
    ),
    (
        "has no effect: models.anomaly.edge.profile knows the time of each batch",
        profiled(nodes__gateway__batch__marginal="0.5"),
    ),
    # sim/inputs.py
    (
        "is not the file that was measured: make the profile anew",
        profiled(models__anomaly__edge="{profile: p.yaml, artifact: p.yaml}"),
    ),
    # scenario/units.py, quantities.py, distributions.py
    ("expected a duration such as 5ms", changed(run__duration="five")),
    ("a duration needs a unit, such as 5ms", changed(run__duration="5")),
    ("'parsec' is no unit of duration; known: s,", changed(run__duration="5parsec")),
    ("longer than 292 years", changed(run__duration="200000d")),
    ("a size is a whole number of bytes", changed(devices__sensors__request="1.5B")),
    ("expected a value or one of {constant, uniform", changed(links__up__latency="{gamma: 1ms}")),
    ("must not be negative or infinite", changed(links__up__latency="-1ms")),
    ("uniform: low is above high", changed(links__up__latency="{uniform: [2ms, 1ms]}")),
    ("uniform: expected [low, high]", changed(links__up__latency="{uniform: [2ms]}")),
    ("pareto: shape must be above 0", changed(links__up__latency="{pareto: {minimum: 1ms, shape: 0}}")),
    ("empirical: expected a list of 1 to 100000 values", changed(links__up__latency="{empirical: []}")),
    ("normal: expected {mean: …, sd: …}", changed(links__up__latency="{normal: {mean: 1ms}}")),
    ("expected a number (got {'lognormal'", changed(links__up__latency="{lognormal: {median: 1ms, sigma: x}}")),
    # scenario/expression.py
    ("rules have at most 1000 characters", changed(placement="edge if battery else " * 60 + "edge")),
    ("rules have at most 50 operations within one another", changed(placement=f"edge if {'-' * 900}battery else edge")),
    ("is no tier (device, edge, cloud) and no rule that gives one", changed(placement="edge if")),
    ("expected a tier (device, edge, cloud) or `TIER if CONDITION else TIER`", changed(placement="mars")),
    ("is not known to rules (known: group,", changed(placement="edge if moon else cloud")),
    ("rules cannot use 'f()'", changed(placement="edge if f() else cloud")),
    ("is text; a condition is true or false, or a number", changed(placement="edge if group else cloud")),
    ("; only numbers can be computed with", changed(placement="edge if group + 1 else cloud")),
    ("compares different things: group is text, 1 is a number", changed(placement="edge if group > 1 else cloud")),
    ("rule 'edge if 1 / queue_edge else cloud': ", run(placement="edge if 1 / queue_edge else cloud")),
    # scenario/checks.py
    ("there is no 'mars' (known: gateway, cloud)", changed(links__up__to="mars")),
    ("a device group has this name too", changed(nodes__sensors="{tier: edge, service: 1ms}")),
    ("says nothing about 'sensors'", changed(placement="{other: edge}")),
    ("a link does not lead back to where it starts", changed(links__wan__to="gateway")),
    ("only a link from device groups can be one for each device", changed(links__wan__shared="false")),
    ("needs `bandwidth` too", changed(links__wan__bandwidth_down="1Mbit/s")),
    ("needs `bandwidth`: without it nothing is ever on the air", changed(links__wan__duty_cycle="1%")),
    (
        "nodes.gateway.power.busy: is below `idle` (1 W against 5 W): a node does not draw less for working",
        changed(nodes__gateway__power="{idle: 5W, busy: 1W, source: a}"),
    ),
    ("needs `model`, one of anomaly, b", changed(models__b="{}")),
    ("has 2 names for 10 devices", changed(devices__sensors__names="[a, b]")),
    (
        "another device or group is called 'a'",
        changed(devices__sensors__names="[a, a]", devices__sensors__count="2"),
    ),
    (
        "needs `board`: nothing states what the device draws",
        changed(devices__sensors__battery="{capacity: 1J, source: a}"),
    ),
    ("needs either `command` or `address`", changed(devices__sensors__traffic="{pattern: external}")),
    (
        "has 1 addresses for 10 devices",
        changed(devices__sensors__traffic='{pattern: external, address: ["127.0.0.1:1"]}'),
    ),
    (
        "external devices take no battery, no timeouts and no placement that looks at the state",
        changed(devices__sensors__traffic=EXTERNAL, devices__sensors__timeout="1s"),
    ),
    ("external devices run once", changed(devices__sensors__traffic=EXTERNAL, run__replications="2")),
    ("names a tier twice", changed(placement="{cascade: [edge, edge], threshold: 0.5}")),
    (
        "a cascade goes outwards: device, then edge, then cloud",
        changed(placement="{cascade: [cloud, edge], threshold: 0}"),
    ),
    (
        "no tier can answer this group",
        changed(placement="{policy: x}", links__up__to="cloud", nodes__cloud="{tier: cloud}", models__anomaly="{}"),
    ),
    (
        "models.anomaly.device.service (or a profile) says how long an inference takes there; it is missing",
        changed(placement="device", models__anomaly__device="{source: a}"),
    ),
    (
        "tier device: the model (2000000 B) is larger than the board's memory (1000 B)",
        changed(
            placement="device",
            models__anomaly__device__size="2MB",
            devices__sensors__board="{active_power: 1W, memory: 1kB, source: a}",
        ),
    ),
    ("tier edge: no links lead from 'sensors' to a node of this tier", changed(links__up__to="cloud")),
    (
        "neither nodes.gateway.service nor models.anomaly.edge.service (or a profile) states a service time",
        changed(nodes__gateway="{tier: edge}"),
    ),
    ("needs either `at` or `every`", changed(faults=FAULT)),
    ("leaves nothing to count: it is not shorter than the duration", changed(run__warm_up="10s")),
    ("makes 10,000,000,000 points in time; at most 100,000 are drawn", changed(outputs__bucket="1ns")),
    # scenario/legacy.py
    ("simulation: `duration_s` is missing", earlier("duration_s: 10", "time: 1")),
    ("must lie between 0 and 1 (got 7)", earlier("loss_rate: 0.1", "loss_rate: 7")),
    ("expected one of edge, cloud (got 'fog')", earlier("placement: cloud", "placement: fog")),
    ("no request would take this link; links join sensors, gateways, clouds", earlier("dst: gateway", "dst: sensor2")),
    ("sensors, gateways, clouds and the brokers between them", earlier("dst: gateway", "dst: sensor2")),
    ("'sensor1' is there twice", earlier("id: sensor2", "id: sensor1")),
    ("no node is a sensor", earlier("type: sensor", "type: gateway")),
    ("a direct network has no links; say `model: latency`", earlier("model: latency", "model: direct")),
    ("there is no node 'sensor9'", earlier("src: sensor1", "src: sensor9")),
    (
        "have a link already, of other figures; both ways are one link",
        earlier("    - {src", "    - {src: gateway, dst: sensor1}\n    - {src"),
    ),
    # What the simulator reads
    ("has no z (it has: x, y)", answers({"x": np.zeros((2, 4)), "y": np.zeros(2)}, data="{file: d.npz, labels: z}")),
    ("3 samples and 2 labels", answers({"x": np.zeros((3, 4)), "y": np.zeros(2)})),
    ("y must be classes 0, 1, …", answers({"x": np.zeros((2, 4)), "y": np.array([0.5, 1])})),
    ("cannot read the samples ", answers({}, data="{file: none.npz}")),
    (" do not fit the model's input ", misfit),
    ("t.csv: a traffic trace needs a column time_s", replayed("at\n1\n")),
    ("t.csv:2: not a traffic trace: device 99 at 1000000000 ns", replayed("time_s,device\n1,99\n")),
    ("cannot read the traffic trace ", replayed(None)),
    ("there is no program '/nowhere'", tried(devices__sensors__traffic="{pattern: external, command: [/nowhere]}")),
    ("there is no file ", no_artifact),
    # Policies of the simulator
    ("no package offers the policy 'x' (known: ", run(placement="{policy: x}")),
    ("the policy 'nothing' cannot be made: TypeError", policy("nothing, options: {a: 1}")),
    ("the policy of 'sensors' failed at ", policy("broken")),
    ("the policy of 'sensors' chose no tier for a new request", policy("nothing")),
    ("the policy of 'sensors' chose 'mars', which cannot answer here", policy("elsewhere")),
    ("this scenario needs a policy, and none was given", unasked),
    # Engines, outputs, sweeps
    ("the vectorised engine cannot run ", lambda folder: simulate(
        load(folder, MINIMAL, {"nodes.gateway.queue": "3"}), engine="vector")),
    ("20000000 devices; the simulator takes fewer than ", run(
        devices__sensors__count="10000000",
        devices__b="{count: 10000000, traffic: {pattern: periodic, period: 1s}}", links__up__from="[sensors, b]")),
    ("names a place twice", run(links__up__from="[sensors, sensors]")),
    ("` waits for each answer, and ", run(devices__sensors__traffic="{pattern: single_stream}", links__up__loss="1%")),
    (" may lose it: state the `timeout` after which the device goes on", run(
        devices__sensors__traffic="{pattern: single_stream}", links__up__loss="1%")),
    (" requests at once; the simulator takes ", run(
        devices__sensors__traffic="{pattern: offline, samples: 100000000}")),
    (": use fewer devices or samples", run(devices__sensors__traffic="{pattern: offline, samples: 100000000}")),
    ("is not even one of ", run(faults="[{fault: battery_out, devices: sensors, at: 1s, share: 1%}]")),
    ("; a further one is set as a whole: ", changed(devices__sensor__count="3")),
    ("is less than a message of ", run(links__up__shaper="{rate: 1kB/s, burst: 1B}")),
    (" B with overhead), which would never pass", run(links__up__shaper="{rate: 1kB/s, burst: 1B}")),
    (" links, nodes and decisions are too many together", lambda _: order_shifts(2**20, 2**24)),
    ("; groups whose links are equal can share one link", lambda _: order_shifts(2**20, 2**24)),
    (" requests, beside so many links and devices", numbered),
    ("a device makes more than ", numbered),
    ("cannot write the results to ", lambda folder: simulate(load(folder), out=Path("/proc/none"))),
    ("a Parquet trace needs pyarrow: pip install 'tierwise[sim]'", without("pyarrow", lambda folder: simulate(
        load(folder, MINIMAL, {"outputs.trace": "parquet"}), out=folder))),
    ("a Dask cluster needs distributed: pip install 'tierwise[cluster]'", without(
        "distributed", lambda _: open_executor(dask="tcp://127.0.0.1:1").__enter__())),
    ("cannot reach the Dask scheduler ", lambda _: open_executor(dask="nonsense://127.0.0.1:1").__enter__()),
    ("r.jsonl:1: not a result of a sweep: ", lambda folder: swept(folder, "hello\n")),
    ("a worker of the sweep has died (RuntimeError", lambda folder: swept(folder, ended=True)),
    ("0 of 1 points are finished and kept in ", lambda folder: swept(folder, ended=True)),
    (": start the same sweep again, and it runs the others", lambda folder: swept(folder, ended=True)),
    (": another sweep is writing its results to this file", lambda folder: swept(folder, taken=True)),
    (": wait for its end, or name another file", lambda folder: swept(folder, taken=True)),
    # External devices
    ("compute for themselves; their placement is edge or cloud", node(READY, placement="device")),
    ("have no least latency, so external devices cannot step ahead", node(READY, links__up__latency="0")),
    ("cannot start the node sensors-0 (/nowhere): ", run(
        devices__sensors__traffic="{pattern: external, command: [/nowhere]}")),
    ("cannot reach the node sensors at '127.0.0.1:1'", run(
        devices__sensors="{traffic: {pattern: external, address: ['127.0.0.1:1']}}")),
    ("the node real answered INIT with 'HELLO', not READY", node("print('HELLO', flush=True); input()")),
    ("the node real answered ADVANCE ", node(READY + "print('WHAT', flush=True); input()")),
    ("which is no list of events: ", node(READY + "print('DONE\\n{}', flush=True); input()")),
    ("the node real sent an event of 7000000000 us (0 bytes) while it went from 0 to ", node(
        READY + f"print('DONE\\n[{LATE}]', flush=True); input()")),
    ("the node real sent a line of more than 16 MiB", node(
        READY + "print('x' * (17 << 20), flush=True); input()")),
    ("the node real did not answer within 0.5 s", node(
        "import time; time.sleep(60)", devices__real__traffic__timeout="500ms")),
    ("the node real did not read within 0.5 s", node(
        "import time; time.sleep(60)", "{a: " + "a" * 300_000 + "}", devices__real__traffic__timeout="500ms")),
    ("the node real ended with exit code 3", node("raise SystemExit(3)")),
    ("the node real closed its output", node(READY + "os.close(1); import time; time.sleep(60)")),
    ("the node real closed the connection", closed_connection),
    ("not a line of the protocol: ", lambda _: run_node(lambda *_: [], io.BytesIO(b"HELLO\n"), io.BytesIO())),
    ("this build counts no instructions; state `inference_us` in the config", counts_nothing),
    ("cannot read the samples ", lambda folder: firmware(folder / "none")),
    ("e.npz holds no samples", without_samples),
    ("the firmware node's config: period_us: Expected `int` >= 1", lambda _: read_config(CONFIG | {"period_us": 0})),
    ("the firmware node's config: Object missing required field `build`", lambda _: read_config({"samples": "x"})),
    ("the firmware node's config: clock_hz: Expected `float` > 0.0", lambda _: read_config(CONFIG | {"clock_hz": 0})),
]  # fmt: skip


@pytest.mark.parametrize(("message", "trigger"), TABLE, ids=[message[:50] for message, _ in TABLE])
@pytest.mark.filterwarnings("ignore:.*:DeprecationWarning")  # of the cluster's client
def test_the_message_is_told(tmp_path: Path, message: str, trigger: Trigger) -> None:
    with pytest.raises(Exception) as caught:  # noqa: PT011 -- the message is what is looked at
        trigger(tmp_path)
    assert message in str(caught.value)
    assert not isinstance(caught.value, AssertionError)


def test_no_message_is_left_out() -> None:
    shown = [message for message, _ in TABLE]
    missing = {
        f"{path.relative_to(SOURCES)}:{line}: {fragment!r}"
        for folder in ("scenario", "sim")
        for path in SOURCES.glob(f"{folder}/**/*.py")
        if path.parent.name != "results"  # pages and tables of finished runs
        for line, fragment in fragments(ast.parse(path.read_text(encoding="utf-8")), path.name in _FINDINGS)
        if not any(fragment in message for message in shown)
    }
    assert not missing, "add to TABLE:\n" + "\n".join(sorted(missing))


# Where messages stand besides `raise`: names, functions and methods that hold them.
_NAMES = {"what", "told", "hint", "pair", "_WORDS", "_MAPPING", "_WHOLE", "_NUMBER", "_JOINED"}
_FUNCTIONS = {"_known", "gone", "suggestion"}
_METHODS = {"wrong", "problem"}
_FINDINGS = {"checks.py", "feasibility.py", "inputs.py"}
_OTHERS = {"Value error"}  # pydantic's words, which are taken away
_LEAST = 6


def fragments(tree: ast.Module, yields: bool) -> Iterator[tuple[int, str]]:  # noqa: FBT001 -- of the module
    """The longest constant piece of each message of a module, with its line. ``yields``: it gives messages so too."""
    for node in ast.walk(tree):
        match node:
            case ast.Raise(exc=ast.Call(func=ast.Name(id="AssertionError" | "AttributeError"))):
                continue  # what cannot happen, and Python's own
            case ast.Raise(exc=ast.expr() as told):
                yield from pieces(told)
            case ast.Assign(targets=[ast.Name(id=name)], value=told) if name in _NAMES:
                yield from pieces(told)
            case ast.Yield(value=ast.expr() as told) if yields:
                yield from pieces(told)
            case ast.Call(func=ast.Attribute(attr=name), args=arguments) if name in _METHODS:
                for told in arguments:
                    yield from pieces(told)
            case ast.FunctionDef(name=name) if name in _FUNCTIONS:
                for inner in (inner.value for inner in ast.walk(node) if isinstance(inner, ast.Return) and inner.value):
                    yield from pieces(inner)


def pieces(told: ast.expr) -> Iterator[tuple[int, str]]:
    """Texts in an expression, each by its longest constant piece; what an f-string inserts is not looked at."""
    waiting: list[ast.AST] = [told]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.JoinedStr):
            constants = [part.value for part in node.values if isinstance(part, ast.Constant)]
        elif isinstance(node, ast.Constant):
            constants = [node.value]
        else:
            waiting += ast.iter_child_nodes(node)
            continue
        longest = max((text for text in constants if isinstance(text, str)), key=len, default="")
        # Words only: what str.format fills in is not constant.
        piece = max(longest.replace("{", "}").split("}"), key=len) if "{" in longest else longest
        piece = piece.strip(" :,;)(")
        if len(piece) >= _LEAST and " " in piece and piece not in _OTHERS:
            yield node.lineno, piece
