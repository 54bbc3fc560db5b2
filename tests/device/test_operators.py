"""Every operator against TensorFlow Lite Micro: random shapes, strides, paddings, zero points and activations."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.components import need
from tierwise.device.build import Options, build
from tierwise.device.emulator import Emulator

need(package="tflite_micro")
need(package="ai_edge_litert")
need(program="cc")

from tests.device.cases import CASES  # noqa: E402 - after the check that its packages are installed
from tests.device.laboratory import Laboratory, Oracle  # noqa: E402
from tests.device.tflite_writer import ModelBuilder  # noqa: E402


@pytest.fixture(scope="module")
def laboratory(tmp_path_factory: pytest.TempPathFactory) -> Laboratory:
    folder: Path = tmp_path_factory.mktemp("laboratory")
    return Laboratory(folder)


def drawn_model(name: str, data: st.DataObject) -> tuple[bytes, Oracle, list[bytes]]:
    """Several independent operators in one model (compiling costs more than running), its oracle, and samples."""
    builder = ModelBuilder()
    inputs: list[int] = []
    outputs: list[int] = []
    for _ in range(data.draw(st.integers(1, 10))):
        some_inputs, some_outputs = CASES[name](data.draw, builder)
        inputs += some_inputs
        outputs += some_outputs
    model = builder.finish(inputs, outputs)
    oracle = Oracle(model, len(inputs), len(outputs))
    rng = np.random.default_rng(7)
    return model, oracle, [oracle.random_sample(rng) for _ in range(4)]


@pytest.mark.parametrize("name", CASES)
@settings(max_examples=6, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(data=st.data())
def test_operator_agrees_bit_for_bit(laboratory: Laboratory, name: str, data: st.DataObject) -> None:
    model, oracle, samples = drawn_model(name, data)
    expected = [oracle.run(sample) for sample in samples]
    for fast in (False, True):
        assert laboratory.run(model, samples, fast=fast) == expected, f"fast={fast}"


@pytest.mark.parametrize("name", CASES)
@settings(max_examples=3, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(data=st.data())
def test_operator_agrees_on_the_cortex_m4(name: str, data: st.DataObject) -> None:
    # The DSP instructions themselves, where the test above runs their arithmetic in C.
    need(program="arm-none-eabi-gcc")
    need(program="qemu-system-arm")
    model, oracle, samples = drawn_model(name, data)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.tflite"
        path.write_bytes(model)
        build(path, Path(folder) / "out", Options(flags=("-Werror",)))

        async def answers() -> list[bytes]:
            async with Emulator(Path(folder) / "out") as device:
                return [(await device.infer(sample)).output for sample in samples]

        assert asyncio.run(answers()) == [oracle.run(sample) for sample in samples]
