"""Child processes end: with their block, with their parent, and with what they started."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
from pathlib import Path

import pytest
from tests.components import need
from tests.messaging.peers import eventually

from tierwise.core.errors import DependencyError, TransportError
from tierwise.live import processes
from tierwise.live.processes import child_process, find_program, free_port, free_ports

FOREVER = "import time\nprint('up', flush=True)\nwhile True: time.sleep(60)"
STUBBORN = "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + FOREVER
PARENT = f"""
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", {FOREVER!r}], stdout=subprocess.DEVNULL)
print("grandchild", child.pid, flush=True)
"""


def python(code: str, *arguments: str) -> list[str]:
    return [sys.executable, "-c", code, *arguments]


def running(pid: int) -> bool:
    """Whether the process exists and is no zombie."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state not in "ZX"


async def test_output_and_exit_code_are_kept() -> None:
    heard: list[str] = []
    code = "import sys; print('out'); print('err', file=sys.stderr); print('no newline', end=''); sys.exit(3)"
    async with child_process(python(code), on_line=heard.append) as child:
        assert await child.wait() == 3
    assert child.exit_code == 3
    assert sorted(child.lines) == sorted(heard) == ["err", "no newline", "out"]


@pytest.mark.parametrize("way", ["wait", "wait_ready"])
async def test_last_lines_are_there_when_the_end_is_heard_of_first(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    read = asyncio.StreamReader.read

    async def late(reader: asyncio.StreamReader, n: int = -1) -> bytes:
        await asyncio.sleep(0.1)
        return await read(reader, n)

    monkeypatch.setattr(asyncio.StreamReader, "read", late)
    async with child_process(python("raise SystemExit('no model')"), name="service") as child:
        if way == "wait":
            assert await child.wait() == 1
        else:
            with pytest.raises(TransportError, match="service ended with code 1: no model"):
                await child.wait_ready(_never)
        assert list(child.lines) == ["no model"]
    assert child.exit_code == 1


async def test_exit_code_is_right_when_it_is_stopped_just_after_its_end() -> None:
    for _ in range(5):
        async with child_process(python("raise SystemExit(3)")) as child:
            with contextlib.suppress(ChildProcessError):  # asyncio has collected it
                os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # noqa: ASYNC222 -- the loop is not to hear of it
            assert await child.stop() == 3


async def _never() -> bool:
    return False


async def test_program_ends_with_its_block() -> None:
    async with child_process(python(FOREVER)) as child:
        await child.wait_line("up")
        assert running(child.pid)
        assert os.getpgid(child.pid) == child.pid
    assert child.exit_code == -signal.SIGTERM
    assert not running(child.pid)


async def test_program_ends_when_the_block_fails() -> None:
    pids: list[int] = []

    async def block() -> None:
        async with child_process(python(FOREVER)) as child:
            await child.wait_line("up")
            pids.append(child.pid)
            raise RuntimeError("bug")

    with pytest.raises(RuntimeError, match="bug"):
        await block()
    assert not running(pids[0])


async def test_program_ends_when_the_block_is_cancelled() -> None:
    pids: list[int] = []

    async def block() -> None:
        async with child_process(python(FOREVER)) as child:
            await child.wait_line("up")
            pids.append(child.pid)
            await asyncio.Event().wait()

    task = asyncio.create_task(block())
    await eventually(lambda: bool(pids))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not running(pids[0])


async def test_program_that_ignores_the_request_is_killed() -> None:
    async with child_process(python(STUBBORN), grace_s=0.1) as child:
        await child.wait_line("up")
    assert child.exit_code == -signal.SIGKILL


async def test_what_the_program_left_behind_is_killed() -> None:
    async with child_process(python(PARENT)) as child:
        line = await child.wait_line("grandchild")
        pid = int(line.split()[1])
        assert await child.wait() == 0
        assert running(pid)
    await eventually(lambda: not running(pid))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child that its parent has died")
async def test_program_ends_when_its_parent_is_killed() -> None:
    code = f"""
import asyncio, sys
from tierwise.live.processes import child_process

async def main():
    async with child_process([sys.executable, "-c", {STUBBORN!r}]) as child:
        await child.wait_line("up")
        print("child", child.pid, flush=True)
        await asyncio.Event().wait()
asyncio.run(main())
"""
    async with child_process(python(code)) as parent:
        pid = int((await parent.wait_line("child")).split()[1])
        assert running(pid)
        parent.kill()
        await parent.wait()
        await eventually(lambda: not running(pid))


async def test_readiness_is_awaited_and_its_absence_told() -> None:
    answers = iter([False, False, True])

    async def ready() -> bool:
        return next(answers)

    async with child_process(python(FOREVER), name="service") as child:
        await child.wait_ready(ready)
        await child.wait_line("up")
        with pytest.raises(TransportError, match=r"service was not ready within 0\.05 s: up"):
            await child.wait_ready(_never, timeout_s=0.05)
        with pytest.raises(TransportError, match="did not say 'down'"):
            await child.wait_line("down", timeout_s=0.05)
    async with child_process(python("raise SystemExit('no model')"), name="service") as child:
        with pytest.raises(TransportError, match="service ended with code 1"):
            await child.wait_ready(_never)
        with pytest.raises(TransportError, match="ended without saying 'up': no model"):
            await child.wait_line("up")


async def test_environment_is_added_and_folder_set(tmp_path: Path) -> None:
    code = "import os; print(os.environ['TIERWISE_TEST'], os.environ['PATH'], os.getcwd())"
    async with child_process(python(code), env={"TIERWISE_TEST": "1"}, cwd=tmp_path) as child:
        assert await child.wait() == 0
    assert child.lines[0] == f"1 {os.environ['PATH']} {tmp_path}"


async def test_missing_program_is_named() -> None:
    with pytest.raises(DependencyError, match="no-such-program is not installed"):
        async with child_process(["no-such-program"]):
            pass


def test_free_port_can_be_bound() -> None:
    port = free_port()
    with socket.socket() as server:
        server.bind(("127.0.0.1", port))
    assert 0 < port < 65_536


def test_several_free_ports_are_different_ones() -> None:
    ports = free_ports(500)
    assert len(set(ports)) == 500


async def test_a_server_outside_of_an_ordinary_users_path_is_found_and_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = tmp_path / "a-server"
    server.write_text("#!/bin/sh\necho here\n")
    server.chmod(0o755)
    assert find_program("a-server") is None
    monkeypatch.setattr(processes, "_SYSTEM_FOLDERS", f"/nowhere:{tmp_path}")
    assert find_program("a-server") == str(server)
    need(program="a-server")  # would skip
    async with child_process(["a-server"]) as child:
        await child.wait_line("here")
