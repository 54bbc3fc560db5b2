"""``platformio/``: run, upload into the emulator, monitor; without PlatformIO's download server."""

from __future__ import annotations

import json
import os
import pty
import select
import shutil
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.components import need
from tierwise.device.frames import Decoder, Frame, FrameType, encode

need(program="pio")
need(package="SCons")
need(package="ai_edge_litert")
need(program="arm-none-eabi-gcc")
need(program="qemu-system-arm")

from tests.device.reference_models import MODELS  # noqa: E402 - after the check that its package is installed

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2] / "platformio"
INPUT_BYTES = 1200


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A copy of the project with a port of its own, prepared and built; its emulator is ended afterwards."""
    folder = tmp_path_factory.mktemp("platformio") / "platformio"
    shutil.copytree(ROOT, folder, ignore=shutil.ignore_patterns(".core", ".pio", "build", "__pycache__"))
    port = str(free_port())
    for name in ("platformio.ini", "platforms/tierwise-emulator/boards/netduinoplus2.json"):
        path = folder / name
        path.write_text(path.read_text().replace("5333", port))
    model = folder.parent / "wake-word.tflite"
    model.write_bytes(MODELS["wake-word"]())
    subprocess.run([sys.executable, folder / "prepare.py", model], check=True, capture_output=True)
    try:
        output = pio(folder, "run")
        assert "SUCCESS" in output
        assert "used 4" in output  # flash, in tens of kilobytes
        yield folder
    finally:
        pio(folder, "run", "-t", "stop")


def test_what_to_do_next_activates_the_environment_that_make_has_made(project: Path) -> None:
    command: list[str | Path] = [sys.executable, project / "prepare.py", project.parent / "wake-word.tflite"]
    bare = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
    told = [
        subprocess.run(command, check=True, capture_output=True, text=True, env=bare | more).stdout.splitlines()[-1]
        for more in ({}, {"VIRTUAL_ENV": sys.prefix})
    ]
    assert told[0].startswith(f"Now: . {sys.prefix}/bin/activate && cd platformio && ")
    assert told[1].startswith("Now: cd platformio && ")


def pio(folder: Path, *arguments: str) -> str:
    # No proxy leads anywhere: a download would fail.
    environment = {**os.environ, "HTTPS_PROXY": "http://127.0.0.1:9", "HTTP_PROXY": "http://127.0.0.1:9"}
    done = subprocess.run(
        ["pio", *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def port_of(folder: Path) -> int:
    board = json.loads((folder / "platforms/tierwise-emulator/boards/netduinoplus2.json").read_text())
    return int(board["emulator"]["port"])


def test_upload_loads_the_firmware_into_the_emulator(project: Path) -> None:
    assert "waits on port" in pio(project, "run", "-t", "upload")
    with socket.create_connection(("127.0.0.1", port_of(project)), timeout=20) as line:
        decoder, frames = Decoder(), list[Frame]()
        while not frames:
            frames += decoder.feed(line.recv(4096))
        assert frames.pop(0).type == FrameType.READY
        line.sendall(encode(Frame(FrameType.INFER, 1, bytes(INPUT_BYTES))))
        while not frames:
            frames += decoder.feed(line.recv(4096))
    assert frames[0].type == FrameType.INFER
    assert struct.unpack_from("<I", frames[0].payload)[0] > 100_000


def test_monitor_speaks_text(project: Path) -> None:
    pio(project, "run", "-t", "upload")
    ours, theirs = pty.openpty()
    said = ""
    with subprocess.Popen(
        ["pio", "device", "monitor"], cwd=project, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
    ) as monitor:
        try:
            said = read_until(ours, "INFO wake-word 1 on netduinoplus2")
            os.write(ours, b".\n")
            said += read_until(ours, "instructions")
            os.write(ours, b"1 2 3\n")
            said += read_until(ours, "a sample has 1200 numbers, not 3")
        finally:
            monitor.terminate()
    os.close(ours)
    os.close(theirs)
    assert "READY protocol 1" in said


def read_until(terminal: int, text: str) -> str:
    said, deadline = "", time.monotonic() + 30
    while text not in said:
        assert time.monotonic() < deadline, said
        if select.select([terminal], [], [], 0.1)[0]:
            said += os.read(terminal, 65536).decode("latin-1")
    return said


def test_stop_ends_only_what_upload_has_started(project: Path) -> None:
    pio(project, "run", "-t", "upload")
    file = project / ".pio" / "emulator.pid"
    process = int(file.read_text().split()[0])
    assert Path(f"/proc/{process}").exists()
    assert "has ended" in pio(project, "run", "-t", "stop")
    assert not file.exists()
    file.write_text(f"{os.getpid()} 12345\n")
    assert "No emulator is running" in pio(project, "run", "-t", "stop")
