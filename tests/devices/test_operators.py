"""Every operator against TensorFlow Lite Micro: random shapes, strides, paddings, zero points and activations."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.components import need

need(package="tflite_micro")
need(package="ai_edge_litert")
need(program="cc")

from tests.devices.cases import CASES  # noqa: E402 - after the check that its packages are installed
from tests.devices.laboratory import Laboratory, Oracle  # noqa: E402
from tests.devices.tflite_writer import ModelBuilder  # noqa: E402

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def laboratory(tmp_path_factory: pytest.TempPathFactory) -> Laboratory:
    folder: Path = tmp_path_factory.mktemp("laboratory")
    return Laboratory(folder)


@pytest.mark.parametrize("name", CASES)
@settings(max_examples=6, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(data=st.data())
def test_operator_agrees_bit_for_bit(laboratory: Laboratory, name: str, data: st.DataObject) -> None:
    # Several independent operators in one model: compiling costs more than running.
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
    samples = [oracle.random_sample(rng) for _ in range(4)]
    expected = [oracle.run(sample) for sample in samples]
    for fast in (False, True):
        assert laboratory.run(model, samples, fast=fast) == expected, f"fast={fast}"
