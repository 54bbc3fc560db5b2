"""The MLPerf Tiny reference models, bit for bit against TensorFlow Lite Micro."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tests.components import need
from tierwise.device.emulator import Emulator

need(package="tflite_micro")

from tests.device.laboratory import Oracle  # noqa: E402 - after the check that its package is installed

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tierwise.device.manifest import Build

    Built = Callable[..., tuple[Path, Build]]

MOST_INSTRUCTIONS = {"anomaly": 700_000, "keyword": 8_000_000}
MOST_RAM = {"anomaly": 5_000, "keyword": 19_300}


@pytest.fixture(params=["anomaly", "keyword"])
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("fast", [False, True], ids=["portable", "fast"])
async def test_host_build_agrees_on_random_inputs(built: Built, mlperf_tiny: Path, name: str, *, fast: bool) -> None:
    folder, _ = built(name, host=True, fast=fast)
    oracle = Oracle((mlperf_tiny / f"{name}_int8.tflite").read_bytes(), 1, 1)
    rng = np.random.default_rng(2024)
    async with Emulator(folder) as device:
        for _ in range(1000):
            sample = oracle.random_sample(rng)
            assert (await device.infer(sample)).output == oracle.run(sample)


async def test_firmware_agrees_and_meets_the_bars(built: Built, mlperf_tiny: Path, name: str) -> None:
    need(program="qemu-system-arm")
    folder, build = built(name)
    oracle = Oracle((mlperf_tiny / f"{name}_int8.tflite").read_bytes(), 1, 1)
    rng = np.random.default_rng(7)
    async with Emulator(folder) as device:
        for _ in range(50):
            sample = oracle.random_sample(rng)
            answer = await device.infer(sample)
            assert answer.output == oracle.run(sample)
            assert answer.instructions is not None
            assert answer.instructions <= MOST_INSTRUCTIONS[name]
            assert answer.stack_bytes is not None
            assert build.stack_bytes is not None
            assert 0 < answer.stack_bytes < build.stack_bytes
    assert build.ram_bytes is not None
    assert build.ram_bytes <= MOST_RAM[name]


async def test_clip_gives_the_known_anomaly_score(built: Built, mlperf_tiny: Path) -> None:
    folder, build = built("anomaly", host=True, fast=True)
    oracle = Oracle((mlperf_tiny / "anomaly_int8.tflite").read_bytes(), 1, 1)
    frames = np.fromfile(mlperf_tiny / "anomaly_clip_f32.bin", "<f4")
    windows = np.lib.stride_tricks.sliding_window_view(frames, 640)[::128]
    assert len(windows) == 196
    source, target = build.signature.inputs[0], build.signature.outputs[0]
    assert source.scale is not None
    assert source.zero_point is not None
    assert target.scale is not None
    assert target.zero_point is not None
    errors = []
    async with Emulator(folder) as device:
        for window in windows:
            sample: np.ndarray[Any, Any] = np.round(window / np.float32(source.scale)) + source.zero_point
            quantised = np.clip(sample, -128, 127).astype(np.int8)
            output = (await device.infer(quantised.tobytes())).output
            assert output == oracle.run(quantised.tobytes())
            real = (np.frombuffer(output, np.int8).astype(np.float64) - target.zero_point) * target.scale
            errors.append(np.mean((window - real) ** 2))
    assert np.mean(errors) == pytest.approx(10.2645, abs=1e-4)
