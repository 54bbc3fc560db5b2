"""Programs that a run starts: each in a process group of its own, and all ended with the run, however it ends."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Self

from tierwise.sim import guard

if TYPE_CHECKING:
    from collections.abc import Sequence

_END_S = 2.0

# Runs in the child before the program: waits for the byte that says that the guard knows of it. Where the run is killed
# before, the pipe closes, and no program starts that nobody would end. What Python changes of signals is undone.
_KNOWN_TO_GUARD = """
import os, signal, sys
if not os.read(0, 1):
    sys.exit("the run ended first")
signal.signal(signal.SIGPIPE, signal.SIG_DFL)
signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
try:
    os.execv(sys.argv[1], sys.argv[2:])
except OSError as error:
    sys.exit(f"cannot run {sys.argv[1]}: {error}")
"""


class Children:
    """Starts programs, and at the end of the ``with`` block ends them with all that they have started.

    Those who do not go by themselves within two seconds get SIGTERM, then SIGKILL; the deadlines are for all together.
    A guard beside them does so where this process is killed.
    """

    def __init__(self) -> None:
        self._processes: list[subprocess.Popen[bytes]] = []
        self._guard: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def start(self, command: Sequence[str]) -> subprocess.Popen[bytes]:
        """Starts a program with pipes to and from it. Raises ``OSError``."""
        waits = [sys.executable, "-I", "-S", "-c", _KNOWN_TO_GUARD, _program(command[0]), *command]
        watch = self._watch()
        process = subprocess.Popen(  # noqa: S603 -- the user's command
            waits, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
        )
        self._processes.append(process)
        _tell(watch, f"+{process.pid}")
        _tell(process, "")
        return process

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    with contextlib.suppress(OSError):  # a broken pipe, closed all the same
                        pipe.close()
        guard.wait_for(self._all_ended, _END_S)
        guard.end_groups([process.pid for process in self._processes], self._all_ended)
        for process in self._processes:
            process.wait()
        if self._guard is not None:
            for process in self._processes:
                _tell(self._guard, f"-{process.pid}")
            if self._guard.stdin is not None:
                self._guard.stdin.close()
            self._guard.wait()

    def _all_ended(self) -> bool:
        running = [process for process in self._processes if process.poll() is None]  # asks each of them
        return not running

    def _watch(self) -> subprocess.Popen[bytes]:
        if self._guard is None:
            # -S and -I: it needs nothing but the standard library. A session of its own: Ctrl-C is not for the guard.
            command = [sys.executable, "-I", "-S", guard.__file__]
            self._guard = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)  # noqa: S603 -- ours
        return self._guard


def _program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        reason = errno.EACCES if Path(name).is_file() else errno.ENOENT
        raise OSError(reason, os.strerror(reason), name)
    return found


def _tell(process: subprocess.Popen[bytes], line: str) -> None:
    if process.stdin is not None:
        with contextlib.suppress(BrokenPipeError):  # somebody has killed it: the guard is not needed, a node is missed
            process.stdin.write(line.encode() + b"\n")
            process.stdin.flush()
