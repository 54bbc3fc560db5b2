"""The architectures of all five MLPerf Tiny reference models, as converters write them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.components import need
from tierwise.device.build import Options, build
from tierwise.device.emulator import Emulator

need(package="tflite_micro")
need(package="ai_edge_litert")
need(program="cc")

from tests.device.laboratory import Oracle  # noqa: E402 - after the check that its packages are installed
from tests.device.reference_models import MODELS  # noqa: E402

if TYPE_CHECKING:
    from pathlib import Path

TARGETS = {
    "host": Options(host=True, flags=("-Werror",)),
    "firmware": Options(flags=("-Werror",)),
    "portable firmware": Options(fast=False, flags=("-Werror",)),
}


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", MODELS)
async def test_architecture_agrees_bit_for_bit(tmp_path: Path, name: str, target: str) -> None:
    if target != "host":
        need(program="arm-none-eabi-gcc")
        need(program="qemu-system-arm")
    path = tmp_path / f"{name}.tflite"
    path.write_bytes(MODELS[name]())
    report = build(path, tmp_path / "out", TARGETS[target])
    # Nothing but the layers themselves is left of what computes a shape.
    assert not {"SHAPE", "STRIDED_SLICE", "PACK"} & {step.operator for step in report.steps}
    assert all(not step.note for step in report.steps)
    oracle = Oracle(path.read_bytes(), 1, 1)
    rng = np.random.default_rng(11)
    async with Emulator(tmp_path / "out") as device:
        for _ in range(3):
            sample = oracle.random_sample(rng)
            assert (await device.infer(sample)).output == oracle.run(sample)


@pytest.mark.parametrize("name", MODELS)
def test_fast_kernels_are_worth_it(tmp_path: Path, name: str) -> None:
    need(program="arm-none-eabi-gcc")
    path = tmp_path / f"{name}.tflite"
    path.write_bytes(MODELS[name]())
    kernels = {step.kernel for step in build(path, tmp_path / "out").steps if step.macs}
    assert kernels <= {"tw_conv2d_fast", "tw_depthwise_fast"}
