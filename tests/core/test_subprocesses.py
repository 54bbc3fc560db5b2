"""A process that is tied to its parent ends with it, whenever that dies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tierwise.core.subprocesses import tied_to_parent

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux ties a process to its parent")

PARENT = """
import subprocess, sys, time
from tierwise.core.subprocesses import tied_to_parent
child = subprocess.Popen(tied_to_parent("/bin/sleep", ["sleep", "600"]))
print(child.pid, flush=True)
time.sleep(600)
"""
# The command is made by a process that is gone before it runs.
TOO_LATE = """
import os, sys, time
from tierwise.core.subprocesses import tied_to_parent
command = tied_to_parent("/bin/sh", ["sh", "-c", f"echo ran > {sys.argv[1]}"])
maker = os.getpid()
if os.fork():
    os._exit(0)
while os.getppid() == maker:
    time.sleep(0.001)
os.execv(command[0], command)
"""


def is_there(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


@pytest.mark.parametrize("after", range(10))
def test_it_ends_with_a_parent_that_is_killed_at_any_moment(after: int) -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True) as parent:
        try:
            assert parent.stdout is not None
            child = int(parent.stdout.readline())
            # Some of the parents die before the child has asked the kernel to be killed with them, some after.
            for _ in range(after):
                os.sched_yield()
                (Path("/proc") / str(child) / "cmdline").read_bytes()
        finally:
            parent.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 30
    while is_there(child):
        assert time.monotonic() < deadline, "it outlived its parent"
        time.sleep(0.001)


def test_it_does_not_run_where_the_parent_ended_before_it_asked(tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    with subprocess.Popen([sys.executable, "-c", TOO_LATE, str(ran)], stderr=subprocess.PIPE, text=True) as maker:
        _, errors = maker.communicate(timeout=60)  # the child has the pipe too: this is its end
    assert "the parent process ended first" in errors
    assert not ran.exists()


def test_program_keeps_process_id_and_sees_its_own_arguments() -> None:
    command = tied_to_parent("/bin/sh", ["my-shell", "-c", 'echo "$$ $0 $1"', "name", "one argument"])
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        output, _ = process.communicate(timeout=60)
    assert output == f"{process.pid} name one argument\n"
    assert process.returncode == 0


def test_path_of_the_program_is_seen_from_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/bin")
    command = tied_to_parent("sh", ["sh", "-c", "pwd"])
    assert subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True).stdout == f"{tmp_path}\n"
