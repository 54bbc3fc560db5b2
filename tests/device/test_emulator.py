"""A running device: what it answers, what it survives, and that it ends."""

from __future__ import annotations

import asyncio
import os
import random
import select
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.components import need
from tests.waiting import until
from tierwise.core.errors import ConfigurationError, InvalidInputError
from tierwise.device.emulator import Emulator
from tierwise.device.frames import Frame, FrameType, encode
from tierwise.device.link import DeviceError

if TYPE_CHECKING:
    from collections.abc import Callable

    from tierwise.device.manifest import Build

    Built = Callable[..., tuple[Path, Build]]

SAMPLE = bytes(range(256)) * 2 + bytes(128)


@pytest.fixture(params=["host", "firmware"])
def folder(request: pytest.FixtureRequest, built: Built) -> Path:
    if request.param == "firmware":
        need(program="qemu-system-arm")
    return built("anomaly", host=request.param == "host")[0]


async def test_info_names_model_and_signature(folder: Path) -> None:
    async with Emulator(folder) as device:
        info = await device.link.info()
        assert info["model"] == "anomaly_int8"
        assert info["version"] == "1"
        assert info["crc32"] == device.build.model_crc32
        assert info["inputs"][0]["shape"] == [1, 640]
        assert info["inputs"][0]["zero_point"] == 89
        assert info["outputs"][0]["dtype"] == "int8"
        assert info["arena_bytes"] == device.build.arena_bytes


async def test_wrong_length_is_refused_and_the_device_lives_on(folder: Path) -> None:
    async with Emulator(folder) as device:
        good = await device.infer(SAMPLE)
        with pytest.raises(InvalidInputError, match="not as long"):
            await device.infer(SAMPLE[:-1])
        with pytest.raises(DeviceError, match="unknown frame type"):
            await device.link.request(FrameType.READY, b"", FrameType.READY)
        assert (await device.infer(SAMPLE)).output == good.output


async def test_line_survives_noise_and_broken_frames(folder: Path) -> None:
    async with Emulator(folder) as device:
        good = await device.infer(SAMPLE)
        writer = device.link._writer
        frame = encode(Frame(FrameType.INFER, 200, SAMPLE))
        for rubbish in (
            random.Random(3).randbytes(700),
            b"\x7e" * 50,
            frame[:300],
            frame[:-1] + bytes([frame[-1] ^ 1]),
            b"\x7e\x03\x01\xff\xff",
            b"\x7e",
        ):
            writer.write(rubbish)
            assert (await device.infer(SAMPLE)).output == good.output


async def test_sensor_asks_and_takes_the_answer(folder: Path) -> None:
    async with Emulator(folder) as device:
        assert await device.link.sense(SAMPLE) == SAMPLE
        assert await device.link.answer([0.5]) == 1
        assert await device.link.answer([], failed=True) == 2


async def test_instruction_counts_repeat_exactly(built: Built) -> None:
    need(program="qemu-system-arm")
    folder, _ = built("anomaly")
    counts = []
    for _ in range(2):
        async with Emulator(folder) as device:
            counts.append([(await device.infer(SAMPLE)).instructions for _ in range(3)])
    assert counts[0] == counts[1]
    assert len(set(counts[0])) == 1


async def test_restart_gives_a_fresh_device(folder: Path) -> None:
    async with Emulator(folder) as device:
        first = await device.infer(SAMPLE)
        await device.link.answer([1.0])
        before = device.process_id
        await device.restart()
        assert device.process_id != before
        assert await device.link.answer([1.0]) == 1
        assert (await device.infer(SAMPLE)).output == first.output


async def test_a_device_that_dies_is_reported(folder: Path) -> None:
    async with Emulator(folder) as device:
        assert device.process_id is not None
        os.kill(device.process_id, signal.SIGKILL)
        with pytest.raises(DeviceError):
            await device.infer(SAMPLE)


async def test_a_silent_device_times_out(folder: Path) -> None:
    async with Emulator(folder, timeout_s=0.3) as device:
        assert device.process_id is not None
        os.kill(device.process_id, signal.SIGSTOP)
        with pytest.raises(DeviceError, match=r"no answer within 0\.3 s"):
            await device.infer(SAMPLE)


async def test_eight_devices_answer_side_by_side(built: Built) -> None:
    need(program="qemu-system-arm")
    folder, _ = built("anomaly")
    devices = [Emulator(folder) for _ in range(8)]
    try:
        await asyncio.gather(*(device.start() for device in devices))
        answers = await asyncio.gather(*(device.infer(SAMPLE) for device in devices))
    finally:
        await asyncio.gather(*(device.stop() for device in devices))
    assert len({answer.output for answer in answers}) == 1
    assert len({answer.instructions for answer in answers}) == 1


async def test_stop_ends_the_process(folder: Path) -> None:
    device = Emulator(folder)
    await device.start()
    process = device.process_id
    assert process is not None
    await device.stop()
    assert _gone(process)
    with pytest.raises(DeviceError, match="not running"):
        await device.infer(SAMPLE)


def test_emulator_ends_when_its_host_is_killed(folder: Path) -> None:
    script = (
        "import asyncio, sys, time\n"
        "from pathlib import Path\n"
        "from tierwise.device.emulator import Emulator\n"
        "async def main():\n"
        "    async with Emulator(Path(sys.argv[1])) as device:\n"
        "        print(device.process_id, flush=True)\n"
        "        await asyncio.Event().wait()\n"
        "asyncio.run(main())\n"
    )
    with subprocess.Popen([sys.executable, "-c", script, folder], stdout=subprocess.PIPE, text=True) as host:
        assert host.stdout is not None
        emulator = int(host.stdout.readline())
        with os.fdopen(os.pidfd_open(emulator), "rb", buffering=0) as process:
            host.kill()
            ended, _, _ = select.select([process], [], [], 10)  # it becomes readable when the process ends
    assert ended == [process]
    assert _gone(emulator)


def test_a_folder_without_a_build_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="holds no device build"):
        Emulator(tmp_path)


def _gone(process: int) -> bool:
    """Whether the process has ended (a zombie nobody has waited for counts as ended)."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except OSError:
        return True


async def test_a_host_build_that_is_stopped_ends_also_where_its_end_is_cancelled(built: Built) -> None:
    device = Emulator(built("anomaly", host=True)[0])
    await device.start()
    pid = device.process_id
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)  # so it does not end with its input
    ending = asyncio.create_task(device.stop())
    await until(lambda: device.process_id is None)
    ending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await ending
    await until(lambda: not Path(f"/proc/{pid}").exists())
