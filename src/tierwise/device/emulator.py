"""A built device, running: firmware in QEMU, or a host build as a process. Always ended, even when we die."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
from typing import TYPE_CHECKING, Final, Self

from tierwise.core.errors import DependencyError
from tierwise.core.subprocesses import tied_to_parent
from tierwise.device.link import DeviceError, DeviceLink, Inference, Ready
from tierwise.device.manifest import Build, machine_of, read_build

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

QEMU: Final = "qemu-system-arm"
QEMU_HINT: Final = "install it (Debian: apt install qemu-system-arm) or build with --host"
_END_S: Final = 5.0


class Emulator:
    """Runs the build in ``folder`` as an async context manager.

    Instruction counts under QEMU repeat exactly (``-icount shift=0``). The serial line is a connected pair of sockets
    made before QEMU starts, so no byte is lost and no port or file is needed. Several may run side by side.
    """

    def __init__(self, folder: Path, *, ready_timeout_s: float = 20.0, timeout_s: float = 30.0) -> None:
        self.folder = folder
        self.build: Build = read_build(folder)
        self.ready: Ready | None = None
        self._ready_timeout_s = ready_timeout_s
        self._timeout_s = timeout_s
        self._process: asyncio.subprocess.Process | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._link: DeviceLink | None = None

    @property
    def link(self) -> DeviceLink:
        """The serial line of the running device."""
        if self._link is None:
            raise DeviceError(f"the device of {self.folder} is not running")
        return self._link

    @property
    def process_id(self) -> int | None:
        """Process of the emulator, ``None`` while it is not running."""
        return self._process.pid if self._process is not None else None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Starts the device and waits for its READY.

        Raises ``DependencyError`` without QEMU and ``DeviceError`` where the program cannot be started, READY does not
        come or names another model.
        """
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                self._process = await self._spawn(theirs)
            reader, self._writer = await asyncio.open_connection(sock=ours)
        except BaseException as error:
            ours.close()
            await self._end()
            if isinstance(error, OSError):
                raise DeviceError(f"cannot start the device of {self.folder}: {error}") from error
            raise
        self._link = DeviceLink(reader, self._writer, timeout_s=self._timeout_s)
        try:
            self.ready = await self._link.wait_ready(self._ready_timeout_s)
            self._check_model(self.ready)
        except BaseException as error:
            said = await self._end()
            if isinstance(error, DeviceError) and said:
                raise DeviceError(f"{error}; it said: {said}") from error
            raise

    def _check_model(self, ready: Ready) -> None:
        if f"{ready.model_crc32:08x}" != self.build.model_crc32:
            raise DeviceError(f"the firmware in {self.folder} is not the one that its build.json describes")

    async def stop(self) -> None:
        """Ends the device. Does nothing where it is not running. Raises ``DeviceError`` where it does not end."""
        await self._end()

    async def restart(self) -> None:
        """Ends the device and starts it again with fresh memory."""
        await self.stop()
        await self.start()

    async def infer(self, inputs: bytes) -> Inference:
        """One inference; see ``DeviceLink.infer``."""
        return await self.link.infer(inputs)

    async def _spawn(self, line: socket.socket) -> asyncio.subprocess.Process:
        machine = machine_of(self.build)
        firmware = str(self.folder / self.build.firmware)
        if machine is None:
            return await asyncio.create_subprocess_exec(
                firmware, stdin=line.fileno(), stdout=line.fileno(), stderr=asyncio.subprocess.PIPE
            )
        program = shutil.which(QEMU)
        if program is None:
            raise DependencyError(f"{QEMU} is not on the PATH: {QEMU_HINT}")
        arguments = (
            QEMU, "-machine", machine.name, "-icount", "shift=0", "-kernel", firmware,
            "-nodefaults", "-display", "none", "-monitor", "none",
            "-chardev", f"socket,id=line,fd={line.fileno()}", "-serial", "chardev:line",
        )  # fmt: skip
        return await asyncio.create_subprocess_exec(
            *tied_to_parent(program, arguments),  # a host build ends with its input, QEMU does not
            pass_fds=(line.fileno(),),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )

    async def _end(self) -> str:
        """Ends process and line; returns what the process wrote to its error output."""
        process, writer = self._process, self._writer
        self._process = self._writer = self._link = None
        ends_with_input = machine_of(self.build) is None  # a host build does, QEMU does not
        if process is not None and not ends_with_input:
            _kill(process)
        said = None
        try:
            if writer is not None:
                writer.close()
                with contextlib.suppress(OSError):  # the other end may be gone already
                    await writer.wait_closed()
            if process is None:
                return ""
            said = asyncio.ensure_future(process.communicate())
            if ends_with_input:
                await asyncio.wait((said,), timeout=_END_S)
        finally:  # who is cancelled meanwhile must not leave it behind
            if process is not None and (said is None or not said.done()):
                _kill(process)
        try:
            _, text = await asyncio.wait_for(said, _END_S)
        except TimeoutError:
            raise DeviceError(f"the process {process.pid} of the device does not end") from None
        return text.decode("utf-8", "replace").strip()[:500]


def _kill(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):  # it may have ended on its own
        process.kill()
