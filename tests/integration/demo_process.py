"""The demo as a user starts it, and every process that it leads to."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

MARK = "DEMO_TEST_MARK"
TIMEOUT_S = 240.0


@dataclass(frozen=True)
class Demo:
    """A demo that runs. ``mark`` is in the environment of everything it starts."""

    process: subprocess.Popen[str]
    mark: str

    def descendants(self) -> dict[int, str]:
        """Process ids and command lines of what it started and what is still there."""
        found = {}
        for folder in Path("/proc").iterdir():
            if not folder.name.isdigit() or int(folder.name) == self.process.pid:
                continue
            with contextlib.suppress(OSError):  # it ended while we looked, or is not ours
                if f"{MARK}={self.mark}".encode() in (folder / "environ").read_bytes().split(b"\0"):
                    found[int(folder.name)] = (folder / "cmdline").read_text().replace("\0", " ")
        return found

    def running(self, *words: str) -> int | None:
        """Process id of a descendant whose command line has all the words."""
        return next((pid for pid, line in self.descendants().items() if all(word in line for word in words)), None)

    async def finish(self) -> tuple[int, str, str]:
        """Exit code, stdout and stderr, when it has ended by itself."""
        await until(lambda: self.process.poll() is not None, timeout_s=TIMEOUT_S)
        output, errors = self.process.communicate()
        return self.process.returncode, output, errors

    async def leaves_nothing(self) -> None:
        """Waits until nothing that it started is left."""
        await until(lambda: not self.descendants(), timeout_s=20)


@contextlib.asynccontextmanager
async def demo(*arguments: str | Path, cwd: Path, **environment: str) -> AsyncIterator[Demo]:
    """``tierwise demo``; at the end of the block it and all that it started are gone, whatever happened."""
    mark = secrets.token_hex(8)
    process = subprocess.Popen(  # noqa: ASYNC220 - starts at once, and communicate() below is after its end
        [sys.executable, "-m", "tierwise", "demo", *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, MARK: mark, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    running = Demo(process, mark)
    try:
        yield running
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()
        for pid in running.descendants():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
