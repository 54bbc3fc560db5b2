"""Networks of other shapes than the two models: both formats compute what torch does, or say what they cannot."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from torch import nn

from tierwise.core.errors import ModelError
from tierwise.core.tensors import TensorSpec
from tierwise.models.from_torch import from_torch
from tierwise.models.onnx import to_onnx
from tierwise.models.tflite import to_int8, to_tflite
from tierwise.models.training import reproducible, train
from tierwise.runtimes import load_runtime

if TYPE_CHECKING:
    from pathlib import Path

    from tierwise.models.layers import Network

IMAGE = TensorSpec("image", (None, 12, 6, 3), "float32")
ROW = TensorSpec("row", (None, 5), "float32")


def network(module: nn.Sequential, source: TensorSpec) -> Network:
    return from_torch("net", module, source, TensorSpec("answer", (None, 4), "float32"))


def convolutional() -> nn.Sequential:
    """Not square, several channels, an even kernel, no ReLU after the second convolution."""
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Conv2d(3, 5, (3, 5), padding="same"),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(5, 7, 3, padding="same", bias=False),
        nn.MaxPool2d(3),
        nn.Flatten(),
        nn.Linear(7 * 2 * 1, 6),
        nn.ReLU(),
        nn.Linear(6, 4),
        nn.Softmax(dim=1),
    )


def dense() -> nn.Sequential:
    torch.manual_seed(2)
    return nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 4), nn.Sigmoid())


@pytest.mark.parametrize("suffix", [".onnx", ".tflite"])
@pytest.mark.parametrize(("module", "source"), [(convolutional(), IMAGE), (dense(), ROW)], ids=["image", "row"])
def test_other_networks_compute_what_torch_does(
    tmp_path: Path, module: nn.Sequential, source: TensorSpec, suffix: str
) -> None:
    net = network(module, source)
    path = tmp_path / f"net{suffix}"
    path.write_bytes(to_onnx(net, "1") if suffix == ".onnx" else to_tflite(net))
    inputs = np.random.default_rng(3).normal(size=(9, *net.sample_shape)).astype(np.float32)
    runtime = load_runtime(path)
    [found] = runtime.run({source.name: inputs})
    axes = (0, 3, 1, 2) if inputs.ndim == 4 else (0, 1)
    with torch.inference_mode():
        expected = module(torch.from_numpy(inputs.transpose(axes).copy())).numpy()
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)
    runtime.close()


def test_calibration_needs_the_whole_range_of_the_data(tmp_path: Path) -> None:
    """What lies outside of the range is cut off, so all data goes in as one batch."""
    net = network(dense(), ROW)
    rng = np.random.default_rng(4)
    inputs = (rng.normal(size=(500, 5)) * rng.lognormal(0, 1, size=(500, 1))).astype(np.float32)
    errors = []
    for calibration in (inputs, inputs[:1]):
        path = tmp_path / "net.tflite"
        float_model = to_tflite(net)
        path.write_bytes(float_model)
        [expected] = load_runtime(path).run({"row": inputs})
        path.write_bytes(to_int8(float_model, calibration))
        [found] = load_runtime(path).run({"row": inputs})
        errors.append(np.abs(np.array(found) - np.array(expected)).max())
    assert errors[0] < 0.05
    assert errors[0] < errors[1] / 3


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(3, 4, 3),
        nn.Conv2d(3, 4, 3, padding="same", dilation=2),
        nn.Conv2d(3, 3, 3, padding="same", groups=3),
        nn.MaxPool2d(3, stride=2),
        nn.MaxPool2d(2, ceil_mode=True),
        nn.BatchNorm2d(3),
        nn.Softmax(dim=0),
    ],
    ids=repr,
)
def test_what_has_no_counterpart_is_refused(layer: nn.Module) -> None:
    with pytest.raises(ModelError, match="net: layer 0 cannot be exported"):
        network(nn.Sequential(layer), IMAGE)


@pytest.mark.parametrize("layers", [[nn.ReLU()], [nn.Linear(5, 4), nn.Sigmoid(), nn.ReLU()]])
def test_a_relu_must_follow_weights(layers: list[nn.Module]) -> None:
    with pytest.raises(ModelError, match="ReLU cannot be exported"):
        network(nn.Sequential(*layers), ROW)


def test_training_leaves_no_global_state_behind() -> None:
    torch.manual_seed(11)
    before = (torch.random.get_rng_state(), torch.get_num_threads(), torch.are_deterministic_algorithms_enabled())
    with reproducible(5):
        assert torch.get_num_threads() == 1
        torch.rand(3)
    after = (torch.random.get_rng_state(), torch.get_num_threads(), torch.are_deterministic_algorithms_enabled())
    assert torch.equal(before[0], after[0])
    assert before[1:] == after[1:]


def test_training_learns_and_its_seed_decides() -> None:
    rng = np.random.default_rng(5)
    features = rng.normal(size=(400, 5)).astype(np.float32)
    labels = (features[:, 0] > 0).astype(np.int64) + 2 * (features[:, 1] > 0)

    def build() -> nn.Module:
        return nn.Sequential(nn.Linear(5, 16), nn.ReLU(), nn.Linear(16, 4), nn.Softmax(dim=1))

    def weights(seed: int) -> tuple[nn.Module, torch.Tensor]:
        module = train(build, features, labels, seed=seed, epochs=40, batch_size=50, learning_rate=0.02)
        return module, torch.cat([parameter.ravel() for parameter in module.parameters()])

    module, first = weights(1)
    assert not module.training
    assert not first.requires_grad
    accuracy = (module(torch.from_numpy(features)).argmax(dim=1).numpy() == labels).mean()
    assert accuracy > 0.95
    assert torch.equal(first, weights(1)[1])
    assert not torch.equal(first, weights(2)[1])
