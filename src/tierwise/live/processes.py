"""Child processes that always end: with their block, with their parent, by their own process id."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import sys
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING

from tierwise.core.errors import DependencyError, TransportError
from tierwise.core.subprocesses import tied_to_parent

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence

_KEPT_LINES = 1000
_SYSTEM_FOLDERS = "/usr/sbin:/usr/local/sbin:/opt/homebrew/sbin"
"""Where packages put servers such as mosquitto."""
_FIRST_PAUSE_S = 0.005
_LONGEST_PAUSE_S = 0.1
_TAIL_PAUSE_S, _TAIL_PAUSES = 0.05, 20
"""The last lines of an ended process are waited for that often: a second. What it left behind may keep its output open.

In pieces, as a moment in which this process gets no processor then counts as one of them, however long it is.
"""


class Child:
    """A running program. ``lines`` holds the last 1000 lines that it wrote to stdout and stderr."""

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        output: asyncio.StreamReader,
        pipe: asyncio.ReadTransport,
        name: str,
        on_line: Callable[[str], None] | None,
    ) -> None:
        self.name = name
        self.pid = process.pid
        self.lines: deque[str] = deque(maxlen=_KEPT_LINES)
        self._process = process
        self._pipe = pipe
        self._on_line = on_line
        self._news = asyncio.Event()
        self._ended = False
        self._reader = asyncio.create_task(self._read(output), name=f"output of {name}")

    @property
    def exit_code(self) -> int | None:
        """``None`` while it runs; minus the signal's number where one ended it."""
        return self._process.returncode

    async def wait(self) -> int:
        """Exit code, when it has ended and ``lines`` holds the last that it wrote."""
        code = await self._process.wait()
        await self._hear_out()
        return code

    async def wait_line(self, text: str, *, timeout_s: float = 10.0) -> str:
        """The first line with ``text`` in it. Raises ``TransportError`` when it does not come in time or at all."""
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    self._news.clear()
                    found = next((line for line in self.lines if text in line), None)
                    if found is not None:
                        return found
                    if self._ended:
                        raise TransportError(f"{self.name} ended without saying {text!r}: {self.last_words()}")
                    await self._news.wait()
        except TimeoutError as error:
            raise TransportError(
                f"{self.name} did not say {text!r} within {timeout_s:g} s: {self.last_words()}"
            ) from error

    async def wait_ready(self, ready: Callable[[], Awaitable[bool]], *, timeout_s: float = 10.0) -> None:
        """Asks ``ready`` until it says yes. Raises ``TransportError`` when the program ends or the time is over."""
        pause_s = _FIRST_PAUSE_S
        try:
            async with asyncio.timeout(timeout_s):
                while not await ready():
                    if self.exit_code is not None:
                        await self._hear_out()
                        raise TransportError(f"{self.name} ended with code {self.exit_code}: {self.last_words()}")
                    await asyncio.sleep(pause_s)
                    pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
        except TimeoutError as error:
            raise TransportError(f"{self.name} was not ready within {timeout_s:g} s: {self.last_words()}") from error

    def terminate(self) -> None:
        """Asks it to end (SIGTERM)."""
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """Ends it at once (SIGKILL)."""
        self._signal(signal.SIGKILL)

    async def stop(self, *, grace_s: float = 5.0) -> int:
        """Asks it to end, kills it after ``grace_s``, and with it whatever it has started. Returns its exit code."""
        self.terminate()
        try:
            async with asyncio.timeout(grace_s):
                await self._process.wait()
        except TimeoutError:
            self.kill()
        finally:
            # Its process group is its own: what it started and left behind is in it.
            with contextlib.suppress(ProcessLookupError, PermissionError):  # nobody is left there
                os.killpg(self.pid, signal.SIGKILL)
        code = await self._process.wait()
        await self._hear_out()
        self._reader.cancel()
        self._pipe.close()
        return code

    def last_words(self) -> str:
        """The end of its output, for messages."""
        return " | ".join(list(self.lines)[-3:]) or "it wrote nothing"

    async def _hear_out(self) -> None:
        # The loop may hear of the end before it has read what was written before it.
        for _ in range(_TAIL_PAUSES):
            heard, _rest = await asyncio.wait({self._reader}, timeout=_TAIL_PAUSE_S)
            if heard:
                break

    def _signal(self, number: signal.Signals) -> None:
        if self._process.returncode is None:
            # Popen's own way looks first whether it has ended, and so takes the exit code away from the loop.
            with contextlib.suppress(ProcessLookupError):  # it ended on its own just now
                os.kill(self.pid, number)

    async def _read(self, output: asyncio.StreamReader) -> None:
        rest = b""
        try:
            while chunk := await output.read(65_536):
                *lines, rest = (rest + chunk).split(b"\n")
                self._tell(lines)
            self._tell([rest] if rest else [])
        finally:
            self._ended = True
            self._news.set()

    def _tell(self, lines: list[bytes]) -> None:
        for raw in lines:
            line = raw.decode(errors="replace").rstrip("\r")
            self.lines.append(line)
            if self._on_line is not None:
                self._on_line(line)
        self._news.set()


@contextlib.asynccontextmanager
async def child_process(
    arguments: Sequence[str | Path],
    *,
    name: str | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    on_line: Callable[[str], None] | None = None,
    grace_s: float = 5.0,
) -> AsyncIterator[Child]:
    """Runs a program for the length of the block, in a process group of its own.

    ``env`` is added to this process's environment. Ctrl-C at the terminal does not reach the program; it is stopped
    when the block ends, and on Linux also when this process is killed. Raises ``DependencyError`` where there is no
    such program.
    """
    command = _command(arguments)
    child = await _start(command, name or Path(arguments[0]).name, {**os.environ, **(env or {})}, cwd, on_line)
    try:
        yield child
    finally:
        await child.stop(grace_s=grace_s)


async def _start(
    command: list[str], name: str, env: dict[str, str], cwd: Path | None, on_line: Callable[[str], None] | None
) -> Child:
    # A pipe of our own: with asyncio's, waiting for the program would also wait for whatever it has left behind.
    read_end, write_end = os.pipe()
    output = asyncio.StreamReader()
    try:
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(output), os.fdopen(read_end, "rb", buffering=0)
        )
        try:
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=write_end,
                stderr=write_end,
                env=env,
                cwd=cwd,
                start_new_session=True,
            )
        except BaseException:
            transport.close()
            raise
    finally:
        os.close(write_end)
    return Child(process, output, transport, name, on_line)


def _command(arguments: Sequence[str | Path]) -> list[str]:
    command = [str(argument) for argument in arguments]
    program = find_program(command[0])
    if program is None:
        raise DependencyError(f"{command[0]} is not installed, or not on PATH")
    return tied_to_parent(program, command)


def find_program(name: str | Path) -> str | None:
    """Where a program is; also beside this Python, and in the folders of system programs that a PATH often lacks."""
    folders = (os.environ.get("PATH", os.defpath), str(Path(sys.executable).parent), _SYSTEM_FOLDERS)
    return shutil.which(name, path=os.pathsep.join(folders))


def free_port(host: str = "127.0.0.1") -> int:
    """A TCP port on which nobody listens at the moment. Another process may take it first: be ready to try again."""
    return free_ports(1, host)[0]


def free_ports(count: int, host: str = "127.0.0.1") -> list[int]:
    """Different such ports: those found one after the other may be one and the same."""
    with contextlib.ExitStack() as held:
        probes = [held.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind((host, 0))
        return [int(probe.getsockname()[1]) for probe in probes]
