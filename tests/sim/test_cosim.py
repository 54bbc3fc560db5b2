"""External nodes in lockstep."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.scenario.examples import MINIMAL
from tests.sim.runs import load, trace_of
from tests.waiting import until
from tierwise.core.errors import ConfigurationError, TransportError
from tierwise.scenario import ScenarioError
from tierwise.sim import guard, simulate
from tierwise.sim.children import Children
from tierwise.sim.cosim import LockstepEngine
from tierwise.sim.kernel.tables import R_CREATED, R_K, R_UP
from tierwise.sim.node import message, run_node
from tierwise.sim.peers import Peer
from tierwise.sim.plan import build_plan

if TYPE_CHECKING:
    from collections.abc import Callable

PERIODIC = """
import sys
from tierwise.sim.node import message, run_node

def step(until_us, events, state):
    state.setdefault("got", []).extend(events)
    period = state["config"]["period_us"]
    sent, due = [], state.get("due", 0)
    while due < until_us:
        sent.append(message(due, "request", size_bytes=state["config"].get("size", 0)))
        due += period
    state["due"] = due
    with open(state["config"]["log"] + "." + state["id"], "w") as file:
        print(*(f'{e["time_us"]} {e["payload"]["created_us"]} {e["dst"]}' for e in state["got"]), sep="\\n", file=file)
    return sent

run_node(step)
"""


READY = """
LATE = '{"time_us":-5,"type":"x","src":"","dst":""}'
print('READY', flush=True)
for _ in range(3):
    input()
"""


def external(folder: Path, program: str, config: str = "{}", more: str = "", count: int = 2) -> dict[str, str]:
    """A group of external devices that run a program."""
    (folder / "node.py").write_text(program)
    command = f'["{sys.executable}", "{folder / "node.py"}"]'
    return {
        "devices.real": f"{{count: {count}, traffic: {{pattern: external, command: {command}, config: {config}{more}}},"
        " request: 1kB, answer: 100B}",
        "links.up.from": "[sensors, real]",
        "run.duration": "2s",
    }


def periodic(folder: Path, extra: str = "", more: str = "") -> dict[str, str]:
    """Two devices that send every 100 ms."""
    return external(folder, PERIODIC, f"{{period_us: 100000, log: {folder / 'log'}{extra}}}", more)


def test_external_devices_are_exactly_like_modelled_ones(tmp_path: Path) -> None:
    modelled = {
        "devices.real": "{count: 2, request: 1kB, answer: 100B,"
        " traffic: {pattern: periodic, period: 100ms, phase: same}}",
        "links.up.from": "[sensors, real]",
        "run.duration": "2s",
    }
    expected, _ = trace_of(load(tmp_path, MINIMAL, modelled), "event")
    for more in ("", ", step: 1ms"):
        got, _ = trace_of(load(tmp_path, MINIMAL, periodic(tmp_path, more=more)), "event")
        assert (got == expected).all()


def test_answers_reach_the_device_that_asked_in_time(tmp_path: Path) -> None:
    scenario = load(tmp_path, MINIMAL, periodic(tmp_path))
    rows, plan = trace_of(scenario, "event")
    for device in (10, 11):
        lines = (tmp_path / f"log.{plan.names[device]}").read_text().split("\n")
        told = [line.split() for line in lines if line]
        own = rows[(rows[:, 0] == device) & (rows[:, 7] >= 0)]
        assert len(told) >= len(own) - 1
        for (at, created, name), row in zip(told, own, strict=False):
            assert name == plan.names[device]
            assert (int(at), int(created)) == (-(-row[7] // 1000), row[2] // 1000)


def test_the_size_that_a_device_states_is_what_is_sent(tmp_path: Path) -> None:
    rows, _ = trace_of(load(tmp_path, MINIMAL, periodic(tmp_path, ", size: 5000")), "event")
    assert set(rows[rows[:, 0] >= 10][:, R_UP].tolist()) == {5000}
    assert set(rows[rows[:, 0] < 10][:, R_UP].tolist()) == {1000}


def test_it_goes_several_steps_ahead_where_nothing_can_happen(tmp_path: Path) -> None:
    def steps(more: str) -> int:
        engine = LockstepEngine(build_plan(load(tmp_path, MINIMAL, periodic(tmp_path, more=more))))
        assert sum(rows.size for _, rows in engine.run()) > 40
        return engine.steps

    assert steps(", step: 1ms") == 2000
    assert steps("") < 2 * 2000 / 5


def test_ten_real_devices_among_a_thousand_modelled_ones(tmp_path: Path) -> None:
    changes = external(
        tmp_path, PERIODIC, f"{{period_us: 100000, log: {tmp_path / 'log'}}}", ", timeout: 30s", count=10
    )
    scenario = load(tmp_path, MINIMAL, changes | {"devices.sensors.count": "1000", "run.duration": "1s"})
    rows, _ = trace_of(scenario, "event")
    assert (rows[:, 0] < 1000).sum() == 1000
    assert (rows[:, 0] >= 1000).sum() == 100


def test_nodes_over_tcp(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

        def serve() -> None:
            connection, _ = server.accept()
            with connection, connection.makefile("rb") as source, connection.makefile("wb") as sink:
                run_node(lambda until, _, __: [message(until - 1, "request")], source, sink)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        changes = {
            "devices.real": f'{{traffic: {{pattern: external, address: ["127.0.0.1:{port}"], step: 100ms}}}}',
            "links.up.from": "[sensors, real]",
            "links.up.latency": "200ms",
            "run.duration": "2s",
        }
        rows, _ = trace_of(load(tmp_path, MINIMAL, changes), "event")
        thread.join(20)
        assert not thread.is_alive()
    assert rows[rows[:, 0] == 10][:, R_CREATED].tolist() == [n * 100_000_000 - 1000 for n in range(1, 21)]
    assert rows[rows[:, 0] == 10][:, R_K].tolist() == list(range(20))


@pytest.mark.parametrize(
    ("program", "error"),
    [
        ("raise SystemExit(3)", r"the node real-0 ended with exit code 3"),
        ("print('HELLO', flush=True); input()", r"answered INIT with 'HELLO', not READY"),
        (READY + "print('DONE\\n{}', flush=True); input()", "no list of events"),
        (READY + "print('WHAT', flush=True); input()", "not DONE"),
        (READY + "print('DONE\\n[' + LATE + ']', flush=True); input()", "sent an event of -5 us"),
    ],
)  # fmt: skip
def test_a_node_that_fails_ends_the_run_and_everything_it_started(tmp_path: Path, program: str, error: str) -> None:
    pid_file = tmp_path / "pid"
    text = f"import os\nopen({str(pid_file)!r} + str(os.getpid()), 'w').close()\n{program}\n"
    scenario = load(tmp_path, MINIMAL, external(tmp_path, text, more=", timeout: 60s"))
    with pytest.raises(TransportError, match=error):
        simulate(scenario)
    started = [int(file.name.removeprefix("pid")) for file in tmp_path.glob("pid?*")]
    assert started
    ended(started)


def alive(pid: int) -> bool:
    """Whether a process runs (children are reaped by whoever started them)."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError), open(f"/proc/{pid}/stat") as file:  # noqa: PTH123 -- a pseudo file
        return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    return False


def ended(pids: list[int]) -> None:
    """Waits until none of the processes runs."""
    asyncio.run(until(lambda: not any(map(alive, pids))))


def stubborn(folder: Path, config: str = "{}") -> tuple[str, Path]:
    """A scenario whose device ignores SIGTERM, has a child of its own, and does not answer ADVANCE; its process ids."""
    pids = folder / "pids"
    script = folder / "node.sh"
    script.write_text(
        f"#!/bin/sh\ntrap '' TERM\nsleep 777 &\nread line\necho $! $$ >>{pids}\necho READY\nwait\nsleep 778\n"
    )
    script.chmod(0o755)
    traffic = f"{{pattern: external, command: [{script}], timeout: 60s, config: {config}}}"
    real = f"  real: {{traffic: {traffic}}}\nlinks:"
    return MINIMAL.replace("links:", real, 1).replace("from: sensors", "from: [sensors, real]"), pids


def test_hung_nodes_and_what_they_have_started_end_within_one_deadline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    granted: list[float] = []
    wait_for = guard.wait_for

    def counted(done: Callable[[], bool], longest_s: float) -> bool:
        granted.append(longest_s)
        return wait_for(done, longest_s)

    monkeypatch.setattr(guard, "wait_for", counted)
    _, pids = stubborn(tmp_path)
    with Children() as children:
        peers = [Peer.started(f"real-{number}", 60.0, [f"{tmp_path}/node.sh"], children) for number in range(8)]
        for peer in peers:
            peer.init({})
        peers[0]._timeout_s = 0.2
        peers[0].advance(1, [])
        with pytest.raises(TransportError, match=r"the node real-0 did not answer within 0\.2 s"):
            peers[0].done(0, 1)
    started = [int(pid) for pid in pids.read_text().split()]
    assert len(started) == 16
    ended(started)
    assert len(granted) == 2  # one to go by themselves, one after SIGTERM, for all eight together


def test_a_run_that_is_killed_before_its_guard_knows_of_a_node_starts_none(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    program = f"""
import os, signal, sys
from tierwise.sim import children

def killed(process, line):
    print(*(child.pid for child in children_started), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)

children_started = []
started = children.subprocess.Popen

def starts(*arguments, **options):
    children_started.append(started(*arguments, **options))
    return children_started[-1]

children.subprocess.Popen = starts
children._tell = killed
children.Children().start([sys.executable, "-c", "open({str(marker)!r}, 'w')"])
"""
    run = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, check=False, timeout=60)
    assert run.returncode == -signal.SIGKILL
    ended([int(pid) for pid in run.stdout.split()])
    assert not marker.exists()


def test_programs_are_found_on_the_path_and_get_their_signals_as_usual(tmp_path: Path) -> None:
    [ours] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("SigIgn:")]
    # Those that Python itself ignores; whoever started these tests may have ignored others, such as Ctrl-C.
    usual = int(ours.split()[1], 16) & ~(1 << signal.SIGPIPE - 1 | 1 << signal.SIGXFSZ - 1)
    with Children() as children:
        process = children.start(["grep", "^SigIgn:", "/proc/self/status"])
        said, _ = process.communicate(timeout=60)
        not_executable = tmp_path / "node"
        not_executable.write_text("")
        with pytest.raises(PermissionError):
            children.start([str(not_executable)])
        with pytest.raises(FileNotFoundError):
            children.start(["no-such-program"])
    assert int(said.split()[1], 16) == usual


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda number: number.name)
def test_nodes_end_with_a_run_that_is_interrupted_or_killed(tmp_path: Path, number: signal.Signals) -> None:
    text, pids = stubborn(tmp_path)
    path = tmp_path / "s.yaml"
    path.write_text(text)
    program = "from tierwise.cli import main; main()"
    with subprocess.Popen([sys.executable, "-c", program, "simulate", path], stderr=subprocess.PIPE) as run:
        asyncio.run(until(lambda: pids.exists() and len(pids.read_text().split()) == 2, timeout_s=60))
        started = [int(pid) for pid in pids.read_text().split()]
        assert all(map(alive, started))
        run.send_signal(number)
        run.communicate(timeout=30)
    assert run.returncode != 0
    ended(started)


def test_a_node_that_does_not_read_cannot_hold_up_the_run(tmp_path: Path) -> None:
    program = "import time; time.sleep(60)"
    config = "{text: " + "a" * 200_000 + "}"
    scenario = load(tmp_path, MINIMAL, external(tmp_path, program, config, ", timeout: 300ms"))
    with pytest.raises(TransportError, match=r"the node real-0 did not read within 0\.3 s"):
        simulate(scenario)


def test_a_node_that_reads_drop_by_drop_has_one_deadline(tmp_path: Path) -> None:
    program = "import os, time\nwhile True:\n    os.read(0, 4096)\n    time.sleep(0.05)"
    config = "{text: " + "a" * 2_000_000 + "}"
    scenario = load(tmp_path, MINIMAL, external(tmp_path, program, config, ", timeout: 500ms"))
    started = time.monotonic()
    with pytest.raises(TransportError, match="did not read within"):
        simulate(scenario)
    assert time.monotonic() - started < 10  # drop by drop it would take 25 s


@pytest.mark.parametrize(
    ("change", "value", "error"),
    [
        ("links.up.latency", "0", "have no least latency, so external devices cannot step ahead"),
        ("links.up.latency", "{exponential: 5ms}", "have no least latency"),
    ],
)
def test_links_without_latency_leave_no_step(tmp_path: Path, change: str, value: str, error: str) -> None:
    with pytest.raises(ConfigurationError, match=error):
        simulate(load(tmp_path, MINIMAL, periodic(tmp_path) | {change: value}))


@pytest.mark.parametrize(
    ("change", "value", "error"),
    [
        ("devices.real.timeout", "1s", "external devices take no battery, no timeouts"),
        ("devices.real.traffic.command", "[]", "needs either `command` or `address`"),
        ("run.replications", "2", "external devices run once"),
    ],
)
def test_what_external_devices_cannot_do_is_told(tmp_path: Path, change: str, value: str, error: str) -> None:
    with pytest.raises(ScenarioError, match=error):
        load(tmp_path, MINIMAL, periodic(tmp_path) | {change: value})


def test_a_command_that_does_not_exist_is_told(tmp_path: Path) -> None:
    changes = periodic(tmp_path) | {"devices.real.traffic.command": "[/nowhere/node]"}
    with pytest.raises(TransportError, match="cannot start the node real-0"):
        simulate(load(tmp_path, MINIMAL, changes))
    del changes["devices.real.traffic.command"]
    changes["devices.real"] = '{traffic: {pattern: external, address: ["127.0.0.1:1"]}}'
    with pytest.raises(TransportError, match="cannot reach the node real at"):
        simulate(load(tmp_path, MINIMAL, changes))
