"""Firmware in the loop: real int8 models in the emulator among modelled devices."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.components import need

need(package="ai_edge_litert")

from tests.device.reference_models import MODELS  # noqa: E402 - after the check that its package is installed
from tests.scenario.examples import MINIMAL  # noqa: E402
from tests.sim.runs import load, trace_of  # noqa: E402
from tests.waiting import until  # noqa: E402
from tierwise.core.errors import TransportError  # noqa: E402
from tierwise.device.build import Options, build  # noqa: E402
from tierwise.sim import simulate  # noqa: E402
from tierwise.sim.kernel.tables import R_CREATED, R_DEVICE  # noqa: E402


def changes(folder: Path, *, host: bool, count: int, more: str = "") -> dict[str, str]:
    """A group of devices that run the firmware of the wake-word model on random sounds, and send what is unsure."""
    model = folder / "wake-word.tflite"
    model.write_bytes(MODELS["wake-word"]())
    build(model, folder / "build", Options(host=host))
    samples = np.random.default_rng(1).normal(scale=3, size=(40, 30, 1, 40)).astype(np.float32)
    np.savez(folder / "samples.npz", x=samples)
    config = f"build: {folder / 'build'}, samples: {folder / 'samples.npz'}, period_us: 100000{more}"
    command = f"[{sys.executable}, -m, tierwise.sim.firmware_node]"
    traffic = f"{{pattern: external, command: {command}, config: {{{config}}}, timeout: 60s}}"
    return {
        "devices.real": f"{{count: {count}, traffic: {traffic}, request: 4800B}}",
        "links.up.from": "[sensors, real]",
        "run.duration": "500ms",
    }


def test_a_device_sends_what_it_is_unsure_of(tmp_path: Path) -> None:
    need(program="cc")
    sent = {}
    for threshold in (0, 1.1):
        more = f", inference_us: 7000, threshold: {threshold}"
        scenario = load(tmp_path, MINIMAL, changes(tmp_path, host=True, count=1, more=more))
        rows, _ = trace_of(scenario, "event")
        sent[threshold] = rows[rows[:, R_DEVICE] == 10][:, R_CREATED].tolist()
    assert sent == {0: [], 1.1: [n * 100_000_000 + 7_000_000 for n in range(5)]}


def test_ten_emulated_devices_among_a_thousand_modelled_ones(tmp_path: Path) -> None:
    need(program="arm-none-eabi-gcc")
    need(program="qemu-system-arm")
    real = changes(tmp_path, host=False, count=10, more=", threshold: 1.1")
    rows, _ = trace_of(load(tmp_path, MINIMAL, real | {"devices.sensors.count": "1000"}), "event")
    emulated = rows[rows[:, R_DEVICE] >= 1000]
    assert len(emulated) == 50
    assert (rows[:, R_DEVICE] < 1000).sum() > 400
    # Instructions at 80 MHz: a small model takes between a tenth of a millisecond and half a period.
    spent = emulated[:, R_CREATED] % 100_000_000
    assert (spent > 100_000).all()
    assert (spent < 50_000_000).all()


def test_a_device_that_cannot_run_ends_the_simulation(tmp_path: Path) -> None:
    need(program="cc")
    scenario = load(tmp_path, MINIMAL, changes(tmp_path, host=True, count=1))
    with pytest.raises(TransportError, match="the node real ended with exit code 1"):
        simulate(scenario)  # a program of this machine counts no instructions, and no time was stated


def test_a_period_of_nothing_ends_the_simulation_at_once(tmp_path: Path) -> None:
    need(program="cc")
    real = changes(tmp_path, host=True, count=1, more=", inference_us: 7000")
    real["devices.real"] = real["devices.real"].replace("period_us: 100000", "period_us: 0")
    with pytest.raises(TransportError, match="the node real ended with exit code 1"):
        simulate(load(tmp_path, MINIMAL, real))


def test_the_emulator_ends_with_a_run_that_is_killed(tmp_path: Path) -> None:
    need(program="arm-none-eabi-gcc")
    need(program="qemu-system-arm")
    real = changes(tmp_path, host=False, count=1, more=", threshold: 1.1") | {"run.duration": "10h"}
    path = tmp_path / "s.yaml"
    path.write_text(MINIMAL)
    sets = [part for where, value in real.items() for part in ("--set", f"{where}={value}")]
    program = "from tierwise.cli import main; main()"
    with subprocess.Popen([sys.executable, "-c", program, "simulate", path, *sets]) as run:
        asyncio.run(until(lambda: len(emulators(tmp_path)) == 1, timeout_s=60))
        run.kill()
    assert run.returncode == -signal.SIGKILL
    asyncio.run(until(lambda: not emulators(tmp_path)))


def emulators(folder: Path) -> list[str]:
    """Command lines of the emulators that run a build in the folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            found.append(process.read_bytes().replace(b"\0", b" ").decode("utf-8", "replace"))
    return [line for line in found if "qemu-system-arm" in line and str(folder) in line]
