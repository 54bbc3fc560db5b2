"""The ``firmware`` runtime: the common contract on a device."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.components import need
from tierwise.core.errors import InferenceError, InvalidInputError
from tierwise.device.build import Options, build
from tierwise.device.runtime import FirmwareRuntime, encode_sample, encode_samples, open_device
from tierwise.runtimes import load_runtime

need(package="ai_edge_litert")
need(package="tflite_micro")
need(program="cc")

from tests.device.reference_models import MODELS  # noqa: E402 - after the check that its packages are installed
from tests.device.tflite_writer import ModelBuilder  # noqa: E402

if TYPE_CHECKING:
    from pathlib import Path

    from tierwise.core.runtime import Runtime


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("runtime") / "wake-word.tflite"
    path.write_bytes(MODELS["wake-word"]())
    build(path, path.parent / "out", Options(host=True))
    return path


def test_it_gives_what_the_interpreter_gives(model: Path) -> None:
    tflm: Runtime = load_runtime(model, runtime="tflm")
    firmware: Runtime = FirmwareRuntime(model.parent / "out")
    name = firmware.signature.inputs[0].name
    real = np.random.default_rng(1).normal(scale=3, size=(5, 30, 1, 40)).astype(np.float32)
    quantised = np.random.default_rng(2).integers(-128, 128, (2, 30, 1, 40)).astype(np.int8)
    for batch in (real, quantised):
        assert np.array_equal(firmware.run({name: batch})[0], tflm.run({name: batch})[0])
    assert firmware.name == "firmware"
    firmware.close()
    firmware.close()
    with pytest.raises(InferenceError, match="closed"):
        firmware.run({name: real})


def test_inputs_that_do_not_fit_are_refused(model: Path) -> None:
    with open_device(model.parent / "out") as device:
        name = device.signature.inputs[0].name
        with pytest.raises(InvalidInputError, match="got shape"):
            device.run({name: np.zeros((1, 7), np.float32)})
        with pytest.raises(InvalidInputError, match="expected the inputs"):
            device.run({})
        samples, is_batch = encode_samples(np.zeros((2, 1200)), device.signature)
        assert is_batch
        assert [len(sample) for sample in samples] == [1200, 1200]
        with pytest.raises(InvalidInputError, match="batch"):
            encode_sample(np.zeros((2, 1200)), device.signature)


def test_several_inputs_and_outputs_keep_their_order(tmp_path: Path) -> None:
    b = ModelBuilder()
    x, z = b.tensor([1, 4], scale=0.5), b.tensor([1, 2], "float32", scale=None)
    q, y = b.tensor([1, 2], scale=0.25), b.tensor([1, 4], scale=0.5)
    f = b.tensor([1, 2], "float32", scale=None)
    b.operator("QUANTIZE", [z], [q], "Quantize")
    b.operator("RELU", [x], [y])
    b.operator("DEQUANTIZE", [q], [f], "Dequantize")
    path = tmp_path / "model.tflite"
    path.write_bytes(b.finish([x, z], [f, y]))
    build(path, tmp_path / "out", Options(host=True))
    with open_device(tmp_path / "out") as device:
        names = [spec.name for spec in device.signature.inputs]
        batch = {
            names[0]: np.array([[-1, 0.5, 1, 2], [3, -3, 0, 1]], np.float32),
            names[1]: np.array([[0.25, -0.5], [1, 31.6]], np.float32),
        }
        reals, rectified = device.run(batch)
        assert reals.tolist() == [[0.25, -0.5], [1.0, 31.5]]
        assert rectified.tolist() == [[0.0, 0.5, 1.0, 2.0], [3.0, 0.0, 0.0, 1.0]]
