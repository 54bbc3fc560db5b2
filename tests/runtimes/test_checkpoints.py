"""PyTorch checkpoints: what is loaded, and that nothing in a file runs unless that was allowed."""

from __future__ import annotations

import os
import pickle
import sys
import types
from importlib.metadata import EntryPoint
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest
from tests.components import need

from tierwise.core.errors import InferenceError, InvalidInputError, ModelFileError, UntrustedModelError
from tierwise.core.tensors import Signature, TensorSpec
from tierwise.runtimes import load_runtime, warm_up

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

need(package="torch")
need(package="safetensors")

import safetensors.torch  # noqa: E402  after the check that names them when they are missing
import torch  # noqa: E402
from torch import nn  # noqa: E402

NAMED = Signature((TensorSpec("x", (None, 4), "float32"),), (TensorSpec("y", (None, 2), "float32"),))


POOLED = (nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
FLATTENED = (nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(2 * 26 * 26, 5))


class Intruder:
    """Unpickling it creates a file."""

    def __init__(self, mark: Path) -> None:
        self.mark = str(mark)

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (self.mark,)


@pytest.fixture
def architectures(monkeypatch: pytest.MonkeyPatch) -> dict[str, Callable[[], object]]:
    """Architectures that a test registers by name."""
    registered: dict[str, Callable[[], object]] = {}
    module = types.ModuleType("registered_architectures")
    module.__getattr__ = lambda name: registered[name]  # type: ignore[method-assign]
    monkeypatch.setitem(sys.modules, module.__name__, module)

    def entry_points(*, group: str, name: str | None = None) -> list[EntryPoint]:
        points = [EntryPoint(known, f"{module.__name__}:{known}", group) for known in registered]
        return [point for point in points if name in {None, point.name}]

    monkeypatch.setattr("tierwise.runtimes.architectures.entry_points", entry_points)
    return registered


def linear(signature: Signature | None = NAMED) -> nn.Module:
    """4 → 2, stating its signature or not."""
    module = nn.Linear(4, 2)
    if signature is not None:
        module.signature = signature  # type: ignore[assignment]  # any attribute is a module or a tensor to it
    return module


def saved(path: Path, content: object, **options: Any) -> Path:
    """Writes the content with ``torch.save``."""
    torch.save(content, path, **options)
    return path


@pytest.mark.parametrize("zipped", [True, False])
def test_a_checkpoint_names_its_architecture(architectures: dict[str, Any], tmp_path: Path, *, zipped: bool) -> None:
    architectures["tiny"] = linear
    module = linear()
    content = {"architecture": "tiny", "state_dict": module.state_dict()}
    loaded = load_runtime(saved(tmp_path / "tiny.pth", content, _use_new_zipfile_serialization=zipped))
    assert loaded.signature == NAMED
    x = np.ones((3, 4), np.float32)
    np.testing.assert_allclose(loaded.run({"x": x})[0], module(torch.from_numpy(x)).detach().numpy(), atol=1e-6)


def test_a_signature_in_the_checkpoint_comes_first(architectures: dict[str, Any], tmp_path: Path) -> None:
    architectures["tiny"] = linear
    other = Signature((TensorSpec("bands", (None, 4), "float32"),), (TensorSpec("scores", (None, 2), "float32"),))
    content = {"architecture": "tiny", "state_dict": linear().state_dict(), "signature": msgspec.to_builtins(other)}
    assert load_runtime(saved(tmp_path / "tiny.pt", content)).signature == other
    path = tmp_path / "tiny.safetensors"
    metadata = {"architecture": "tiny", "signature": msgspec.json.encode(other).decode()}
    path.write_bytes(safetensors.torch.save(linear().state_dict(), metadata))
    assert load_runtime(path).signature == other


def test_a_signature_that_is_none_is_told(architectures: dict[str, Any], tmp_path: Path) -> None:
    architectures["tiny"] = linear
    content = {"architecture": "tiny", "state_dict": linear().state_dict(), "signature": {"inputs": 3}}
    with pytest.raises(ModelFileError, match="its signature is not one"):
        load_runtime(saved(tmp_path / "tiny.pt", content))
    content["signature"] = msgspec.to_builtins(Signature((TensorSpec("x", (None,), "bfloat16"),), NAMED.outputs))
    with pytest.raises(ModelFileError, match=r"x bfloat16\[\?\] cannot be served"):
        load_runtime(saved(tmp_path / "tiny.pt", content))


def test_dropout_is_off(architectures: dict[str, Any], tmp_path: Path) -> None:
    def dropping() -> nn.Module:
        module = nn.Sequential(nn.Dropout(0.5), nn.Linear(4, 2))
        module.signature = NAMED  # type: ignore[assignment]  # as above
        return module

    architectures["dropping"] = dropping
    content = {"architecture": "dropping", "state_dict": dropping().state_dict()}
    loaded = load_runtime(saved(tmp_path / "dropping.pt", content))
    x = np.ones((1, 4), np.float32)
    np.testing.assert_array_equal(loaded.run({"x": x})[0], loaded.run({"x": x})[0])


def test_an_unknown_architecture_lists_the_known_ones(architectures: dict[str, Any], tmp_path: Path) -> None:
    architectures["b"] = architectures["a"] = linear
    with pytest.raises(
        ModelFileError, match=r"unknown architecture 'c'; known are a, b \(.*'tierwise\.architectures"
    ) as caught:
        load_runtime(saved(tmp_path / "c.pt", {"architecture": "c", "state_dict": {}}))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", [7, None, ["a"]])
def test_an_architecture_that_is_no_name(tmp_path: Path, name: object) -> None:
    with pytest.raises(ModelFileError, match="its architecture must be a name"):
        load_runtime(saved(tmp_path / "c.pt", {"architecture": name, "state_dict": {}}))


def test_an_architecture_that_cannot_be_built(architectures: dict[str, Any], tmp_path: Path) -> None:
    architectures["broken"] = lambda: 1 / 0
    architectures["number"] = lambda: 7
    with pytest.raises(ModelFileError, match=r"'broken' \(registered_architectures:broken\) cannot be built: division"):
        load_runtime(saved(tmp_path / "x.pt", {"architecture": "broken", "state_dict": {}}))
    with pytest.raises(ModelFileError, match="builds a int, not a module"):
        load_runtime(saved(tmp_path / "x.pt", {"architecture": "number", "state_dict": {}}))


@pytest.mark.parametrize(
    "weights", [{}, nn.Linear(5, 2).state_dict(), nn.Linear(4, 2, bias=False).state_dict(), {"w": 3}]
)
def test_weights_of_another_architecture(
    architectures: dict[str, Any], tmp_path: Path, weights: dict[str, Any]
) -> None:
    architectures["tiny"] = linear
    with pytest.raises(ModelFileError, match="its weights do not fit the architecture 'tiny'") as caught:
        load_runtime(saved(tmp_path / "x.pt", {"architecture": "tiny", "state_dict": weights}))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("trust_pickle", [False, True])
def test_weights_alone_are_told_how_to_be_saved(tmp_path: Path, *, trust_pickle: bool) -> None:
    expected = r'torch.save\(\{"architecture": NAME, "state_dict": model.state_dict\(\)\}, FILE\), NAME being one of'
    with pytest.raises(ModelFileError, match=expected):
        load_runtime(saved(tmp_path / "x.pt", linear().state_dict()), trust_pickle=trust_pickle)
    path = tmp_path / "x.safetensors"
    path.write_bytes(safetensors.torch.save(linear().state_dict()))
    with pytest.raises(ModelFileError, match=r"weights without the name .* \{\"architecture\": NAME\}"):
        load_runtime(path)


@pytest.mark.parametrize("content", [torch.zeros(3), [1, 2], "text", 5, None])
def test_what_is_no_model(tmp_path: Path, content: object) -> None:
    with pytest.raises(ModelFileError, match=f"holds a {type(content).__name__}, not a model"):
        load_runtime(saved(tmp_path / "x.pt", content))


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickled_module_is_refused_with_what_to_do(tmp_path: Path, *, zipped: bool) -> None:
    path = saved(tmp_path / "module.pt", nn.Sequential(nn.Linear(4, 2)), _use_new_zipfile_serialization=zipped)
    with pytest.raises(UntrustedModelError) as caught:
        load_runtime(path)
    line = str(caught.value)
    assert "\n" not in line
    assert all(word in line for word in ("torch.nn.modules", "state_dict", ".pt2", ".onnx", "--trust-pickle"))


@pytest.mark.parametrize("suffix", [".pt", ".pth"])
@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("nested", [True, False])
def test_code_in_a_pickle_does_not_run(tmp_path: Path, suffix: str, *, zipped: bool, nested: bool) -> None:
    mark = tmp_path / "mark"
    content: object = Intruder(mark)
    if nested:
        content = {"architecture": "anomaly-detector", "state_dict": {}, "extra": Intruder(mark)}
    path = saved(tmp_path / f"evil{suffix}", content, _use_new_zipfile_serialization=zipped)
    with pytest.raises(UntrustedModelError, match=r"(posix|os)\.mkdir"):
        load_runtime(path)
    assert not mark.exists()


def test_code_in_a_bare_pickle_does_not_run(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    for suffix in (".pt", ".pth", ".pt2", ".safetensors"):
        path = tmp_path / f"evil{suffix}"
        path.write_bytes(pickle.dumps(Intruder(mark)))
        with pytest.raises((UntrustedModelError, ModelFileError)):
            load_runtime(path)
        assert not mark.exists()


def test_a_trusted_pickle_is_loaded_with_the_code_that_it_runs(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    path = saved(tmp_path / "evil.pt", Intruder(mark))
    with pytest.raises(ModelFileError, match="holds a NoneType, not a model"):
        load_runtime(path, trust_pickle=True)
    assert mark.is_dir()


def test_a_trusted_module_states_its_signature_or_it_is_found(tmp_path: Path) -> None:
    assert load_runtime(saved(tmp_path / "a.pt", linear()), trust_pickle=True).signature == NAMED
    found = load_runtime(saved(tmp_path / "b.pt", nn.Sequential(nn.Linear(4, 2))), trust_pickle=True)
    assert [str(spec) for spec in (*found.signature.inputs, *found.signature.outputs)] == [
        "input float32[?, 4]",
        "output float32[?, 2]",
    ]
    assert found.run({"input": np.zeros((3, 4), np.float32)})[0].shape == (3, 2)


class Homeless(nn.Module):
    """A class that the test takes away before its file is loaded."""


def test_a_trusted_module_whose_class_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path / "gone.pt", Homeless())
    monkeypatch.delattr(sys.modules[__name__], "Homeless")
    with pytest.raises(
        ModelFileError, match=r"class of the pickled module cannot be imported here.*Homeless.*PYTHONPATH"
    ):
        load_runtime(path, trust_pickle=True)


def test_a_trusted_file_may_be_damaged_as_well(tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    path.write_bytes(pickle.dumps([1] * 100)[:-20])
    with pytest.raises(ModelFileError, match="truncated, damaged or not a PyTorch file"):
        load_runtime(path, trust_pickle=True)


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
def test_torchscript_needs_trust(tmp_path: Path) -> None:
    path = tmp_path / "script.pt"
    torch.jit.save(torch.jit.script(nn.Sequential(nn.Linear(4, 2))), path)
    with pytest.raises(UntrustedModelError, match=r"TorchScript archive.*torch.export.*--trust-pickle"):
        load_runtime(path)
    loaded = load_runtime(path, trust_pickle=True)
    assert loaded.run({"input": np.zeros((2, 4), np.float32)})[0].shape == (2, 2)


@pytest.mark.parametrize(
    ("module", "inputs", "outputs"),
    [
        (nn.Sequential(nn.Linear(6, 3)), "float32[?, 6]", "float32[?, 3]"),
        (nn.Sequential(nn.Conv1d(2, 3, 3)), "float32[?, 2, ?]", "float32[?, 3, ?]"),
        (nn.Sequential(*POOLED), "float32[?, 3, ?, ?]", "float32[?, 2]"),
        (nn.Sequential(*FLATTENED), "float32[?, 1, 28, 28]", "float32[?, 5]"),
        (nn.Sequential(nn.Flatten(), nn.Linear(64, 5)), "float32[?, 64]", "float32[?, 5]"),
        (nn.Sequential(nn.Conv2d(4, 8, 3, groups=4)), "float32[?, 4, ?, ?]", "float32[?, 8, ?, ?]"),
        (nn.Sequential(nn.Embedding(10, 4)), "int64[?, ?]", "float32[?, ?, 4]"),
        (nn.Sequential(nn.Linear(6, 3)).double(), "float64[?, 6]", "float64[?, 3]"),
    ],
)  # fmt: skip
def test_signatures_are_found_by_trial(tmp_path: Path, module: nn.Module, inputs: str, outputs: str) -> None:
    loaded = load_runtime(saved(tmp_path / "module.pt", module), trust_pickle=True)
    assert str(loaded.signature.inputs[0]) == f"input {inputs}"
    assert str(loaded.signature.outputs[0]) == f"output {outputs}"
    assert warm_up(loaded, runs=1) > 0


def test_a_module_that_tells_nothing_of_its_input(tmp_path: Path) -> None:
    with pytest.raises(
        ModelFileError, match="cannot tell which input the module takes; give it an attribute `signature`"
    ):
        load_runtime(saved(tmp_path / "relu.pt", nn.ReLU()), trust_pickle=True)


class Both(nn.Module):
    """Two inputs; outputs in the given form."""

    def __init__(self, form: str) -> None:
        super().__init__()
        self.form = form
        self.signature = Signature(
            (TensorSpec("a", (None, 2), "float32"), TensorSpec("b", (None, 2), "float32")),
            (TensorSpec("sum", (None, 2), "float32"), TensorSpec("difference", (None, 2), "float32")),
        )

    def forward(self, a: torch.Tensor, b: torch.Tensor) -> object:
        if self.form == "one":
            return a + b
        if self.form == "text":
            return "sum", "difference"
        both = {"difference": a - b, "sum": a + b}
        return both if self.form == "mapping" else (both["sum"], both["difference"])


@pytest.mark.parametrize("form", ["mapping", "tuple"])
def test_several_inputs_and_outputs(tmp_path: Path, form: str) -> None:
    loaded = load_runtime(saved(tmp_path / "both.pt", Both(form)), trust_pickle=True)
    sums, differences = loaded.run({"b": np.full((1, 2), 2, np.float32), "a": np.full((1, 2), 5, np.float32)})
    assert (sums.tolist(), differences.tolist()) == ([[7, 7]], [[3, 3]])
    with pytest.raises(InvalidInputError, match=r"batches of one size, got \[1, 2\]"):
        loaded.run({"a": np.zeros((1, 2), np.float32), "b": np.zeros((2, 2), np.float32)})


@pytest.mark.parametrize("form", ["one", "text"])
def test_outputs_that_are_not_the_ones_promised(tmp_path: Path, form: str) -> None:
    loaded = load_runtime(saved(tmp_path / "both.pt", Both(form)), trust_pickle=True)
    with pytest.raises(InferenceError, match="instead of tensors for sum, difference"):
        loaded.run({"a": np.zeros((1, 2), np.float32), "b": np.zeros((1, 2), np.float32)})


def test_the_thread_count_of_the_process_is_given_back(artifacts: Mapping[str, Path]) -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        loaded = load_runtime(artifacts[".pt"], threads=1)
        assert torch.get_num_threads() == 1
        loaded.close()
        assert torch.get_num_threads() == 3
        loaded = load_runtime(artifacts[".pt"], threads=3)
        torch.set_num_threads(2)  # the host program's own choice stays
        loaded.close()
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
