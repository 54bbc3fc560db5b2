"""The device tier on the MLPerf Tiny reference models: instructions, memory, exactness, start, many at once.

Instruction counts repeat exactly; they are compared with TensorFlow Lite Micro in C++ on the same emulator.
"""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tests.device.laboratory import Oracle
from tests.device.reference_models import MODELS as ARCHITECTURES

from benchmarks.example import scratch
from benchmarks.table import Row
from tierwise.device.build import Options, build
from tierwise.device.emulator import Emulator

if TYPE_CHECKING:
    from tierwise.device.manifest import Build

_BESIDE = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "mlperf-tiny"
MODELS = Path(os.environ.get("TIERWISE_MLPERF_TINY", _BESIDE))

TFLM = {"anomaly": (1.95e6, 324, 13.6), "keyword": (43.1e6, 101, 43.8)}
"""TensorFlow Lite Micro in C++ on the same emulator: instructions, flash kB, RAM kB."""
TARGETS = {"anomaly": (0.7, 5.0), "keyword": (8.0, 19.3)}
"""Most instructions in millions, most RAM in kB."""
STARTS = 7
DEVICES = 8


def measure() -> list[Row]:
    """All rows. Where the trained models are not at hand, their architectures with random weights stand in."""
    rows = []
    with scratch() as folder:
        for name in TARGETS:
            model = MODELS / f"{name}_int8.tflite"
            if not model.is_file():
                model = Path(folder) / model.name
                model.write_bytes(ARCHITECTURES[name]())
            firmware = build(model, Path(folder) / name)
            build(model, Path(folder) / f"{name}-host", Options(host=True, fast=True))
            rows += asyncio.run(_model(name, Path(folder), model.read_bytes(), firmware))
        if MODELS.is_dir():
            rows += asyncio.run(_clip(Path(folder) / "anomaly-host"))
        rows += asyncio.run(_starting(Path(folder) / "anomaly"))
    return rows


async def _model(name: str, folder: Path, model: bytes, firmware: Build) -> list[Row]:
    oracle = Oracle(model, 1, 1)
    rng = np.random.default_rng(1)
    async with Emulator(folder / f"{name}-host") as host:
        same_host = await _agreeing(host, oracle, rng, 1000)
    counts: set[int] = set()
    async with Emulator(folder / name) as device:
        same_device = await _agreeing(device, oracle, rng, 50, counts)
    most = max(counts)
    tflm_instructions, tflm_flash, tflm_ram = TFLM[name]
    target_instructions, target_ram = TARGETS[name]
    flash, ram = (firmware.flash_bytes or 0) / 1e3, (firmware.ram_bytes or 0) / 1e3
    return [
        Row(f"{name}: bit-exact, host", f"{same_host} of 1000", "TensorFlow Lite Micro", same_host, ">=", 1000, "same"),
        Row(f"{name}: bit-exact, emulator", f"{same_device} of 50", "the same", same_device, ">=", 50, "same"),
        Row(
            f"{name}: instructions, at most",
            f"{most:,} ({most / firmware.macs:.2f} a MAC)",
            f"{tflm_instructions / 1e6:.2f} M TensorFlow Lite Micro in C++",
            most / 1e6,
            "<=",
            target_instructions,
            "M",
        ),
        Row(f"{name}: RAM", f"{ram:.1f} kB", f"{tflm_ram} kB", ram, "<=", target_ram, "kB"),
        Row(f"{name}: flash", f"{flash:.0f} kB", f"{tflm_flash} kB", flash / tflm_flash, "<=", 1.0),
    ]


async def _agreeing(
    device: Emulator, oracle: Oracle, rng: np.random.Generator, count: int, counts: set[int] | None = None
) -> int:
    same = 0
    for _ in range(count):
        sample = oracle.random_sample(rng)
        answer = await device.infer(sample)
        same += answer.output == oracle.run(sample)
        if counts is not None and answer.instructions is not None:
            counts.add(answer.instructions)
    return same


async def _clip(folder: Path) -> list[Row]:
    """Mean squared reconstruction error of the normal clip, and agreement on all of its windows."""
    oracle = Oracle((MODELS / "anomaly_int8.tflite").read_bytes(), 1, 1)
    windows = np.lib.stride_tricks.sliding_window_view(np.fromfile(MODELS / "anomaly_clip_f32.bin", "<f4"), 640)[::128]
    errors, same = [], 0
    async with Emulator(folder) as device:
        source, target = device.build.signature.inputs[0], device.build.signature.outputs[0]
        for window in windows:
            scaled = np.round(window / np.float32(source.scale or 1)) + (source.zero_point or 0)
            sample = np.clip(scaled, -128, 127).astype(np.int8).tobytes()
            output = (await device.infer(sample)).output
            same += output == oracle.run(sample)
            real = (np.frombuffer(output, np.int8).astype(float) - (target.zero_point or 0)) * (target.scale or 1)
            errors.append(np.mean((window - real) ** 2))
    score = float(np.mean(errors))
    return [
        Row("anomaly: clip windows", f"{same} of {len(windows)}", "TensorFlow Lite Micro", same, ">=", 196, "same"),
        Row("anomaly: clip score", f"{score:.4f}", "10.2645", abs(score - 10.2645), "<=", 1e-4, "off"),
    ]


async def _starting(folder: Path) -> list[Row]:
    """Best start to READY, and eight devices side by side."""
    times = []
    for _ in range(STARTS):
        started = time.perf_counter()
        async with Emulator(folder):
            times.append(time.perf_counter() - started)
    devices = [Emulator(folder) for _ in range(DEVICES)]
    sample = bytes(640)
    try:
        await asyncio.gather(*(device.start() for device in devices))
        started = time.perf_counter()
        answers = await asyncio.gather(*(device.infer(sample) for device in devices))
        together_s = time.perf_counter() - started
    finally:
        await asyncio.gather(*(device.stop() for device in devices))
    alike = sum(answer == answers[0] for answer in answers)
    return [
        Row("boot to READY", f"{min(times) * 1e3:.0f} ms", f"best of {STARTS}", min(times), "<=", 0.5, "s"),
        Row(
            f"{DEVICES} devices at once",
            f"{alike} alike",
            f"{together_s * 1e3:.0f} ms for all",
            alike,
            ">=",
            DEVICES,
            "same",
        ),
    ]
