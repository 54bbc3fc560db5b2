"""The emulator behind ``pio run -t upload``: QEMU in the background, its UART on a local TCP port."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

HOST = "127.0.0.1"
START_S = 10.0


def start(firmware: Path, emulator: dict[str, str | int], state: Path) -> str:
    """Starts QEMU with ``firmware`` in place of an earlier one. It boots when the monitor connects."""
    stop(state)
    program = shutil.which("qemu-system-arm")
    if program is None:
        raise SystemExit("qemu-system-arm is not on the PATH; install it (Debian: apt install qemu-system-arm)")
    port = int(emulator["port"])
    if _is_open(port):
        raise SystemExit(f"port {port} of this machine is in use; change it in boards/*.json and platformio.ini")
    process = subprocess.Popen(
        [
            program, "-machine", str(emulator["machine"]), "-icount", "shift=0", "-kernel", str(firmware),
            "-nodefaults", "-display", "none", "-monitor", "none",
            "-chardev", f"socket,id=line,host={HOST},port={port},server=on,wait=on", "-serial", "chardev:line",
        ],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    state.mkdir(parents=True, exist_ok=True)
    _pid_file(state).write_text(f"{process.pid} {_started(process.pid)}\n")
    deadline = time.monotonic() + START_S
    while not _listens(port):
        if process.poll() is not None or time.monotonic() > deadline:
            stop(state)
            raise SystemExit("the emulator does not start")
        time.sleep(0.02)
    return f"The emulator (process {process.pid}) waits on port {port}: `pio device monitor`; end: `pio run -t stop`"


def stop(state: Path) -> str:
    """Ends the emulator that ``start`` has started, if it is still the same process."""
    file = _pid_file(state)
    try:
        pid, started = file.read_text().split()
    except (OSError, ValueError):
        return "No emulator is running."
    file.unlink()
    if _started(int(pid)) != started:
        return "No emulator is running."
    os.kill(int(pid), signal.SIGTERM)
    deadline = time.monotonic() + START_S
    while _started(int(pid)) == started and time.monotonic() < deadline:
        time.sleep(0.02)
    return f"The emulator (process {pid}) has ended."


def _pid_file(state: Path) -> Path:
    return state / "emulator.pid"


def _started(pid: int) -> str:
    """When the process was started, in ticks: a number that another process of the same id does not have."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return "-"
    return "-" if fields[0] == "Z" else fields[19]


def _listens(port: int) -> bool:
    """Whether something listens on the port, without connecting: the firmware boots at the first connection."""
    wanted = f"{port:04X}"
    rows = (line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:])
    return any(row[1].endswith(":" + wanted) and row[3] == "0A" for row in rows)


def _is_open(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return True
    return False
