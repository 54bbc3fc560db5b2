"""Exported programs (``.pt2``): their signature, and that nothing hidden in one runs."""

from __future__ import annotations

import io
import json
import os
import warnings
import zipfile
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest
from tests.components import need

from tierwise.core.errors import ModelFileError, UntrustedModelError
from tierwise.core.tensors import Signature, TensorSpec
from tierwise.runtimes import load_runtime, warm_up

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

need(package="torch")

import torch  # noqa: E402  after the check that names it when it is missing
from torch import nn  # noqa: E402

from tierwise.runtimes.exported import _is_size  # noqa: E402

LINEAR = "torch.ops.aten.linear.default"


class Intruder:
    """Unpickling it creates a folder."""

    def __init__(self, mark: Path) -> None:
        self.mark = str(mark)

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (self.mark,)


def exported(path: Path, module: nn.Module, *examples: torch.Tensor, dynamic: bool = True, **extra: str) -> Path:
    """Writes the module as ``torch.export.save`` does, with a free batch dimension."""
    shapes = tuple({0: torch.export.Dim("batch", min=1)} for _ in examples) if dynamic else None
    program = torch.export.export(module.eval(), examples, dynamic_shapes=shapes)
    torch.export.save(program, path, extra_files={f"{name}.json": text for name, text in extra.items()})
    return path


@pytest.fixture
def linear(tmp_path: Path) -> Path:
    """A program 4 → 2."""
    return exported(tmp_path / "linear.pt2", nn.Linear(4, 2), torch.zeros(2, 4))


def edited(source: Path, edit: Callable[[dict[str, bytes]], None]) -> Path:
    """A copy whose members ``edit`` has changed; names without the leading folder."""
    with zipfile.ZipFile(source) as archive:
        folder = archive.namelist()[0].partition("/")[0]
        members = {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}
    edit(members)
    target = source.with_name("edited.pt2")
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for name, content in members.items():
            archive.writestr(f"{folder}/{name}", content)
    return target


def replaced(member: str, old: str, new: str) -> Callable[[dict[str, bytes]], None]:
    """An edit of one member's text."""

    def edit(members: dict[str, bytes]) -> None:
        text = members[member].decode()
        assert old in text
        members[member] = text.replace(old, new).encode()

    return edit


def pickled(content: object) -> bytes:
    """What ``torch.save`` writes."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def test_the_signature_is_read_off_the_program(linear: Path) -> None:
    loaded = load_runtime(linear)
    assert str(loaded.signature.inputs[0]) == "input float32[?, 4]"
    assert str(loaded.signature.outputs[0]) == "output float32[?, 2]"
    for batch in (1, 3, 1, 32):
        assert loaded.run({"input": np.zeros((batch, 4), np.float32)})[0].shape == (batch, 2)


def test_a_signature_in_the_file_comes_first(tmp_path: Path) -> None:
    stated = Signature((TensorSpec("x", (None, 4), "float32"),), (TensorSpec("y", (None, 2), "float32"),))
    text = msgspec.json.encode(stated).decode()
    path = exported(tmp_path / "a.pt2", nn.Linear(4, 2), torch.zeros(2, 4), signature=text)
    assert load_runtime(path).signature == stated
    path = exported(tmp_path / "b.pt2", nn.Linear(4, 2), torch.zeros(2, 4), signature='{"inputs": 1}')
    with pytest.raises(ModelFileError, match="its signature is not one"):
        load_runtime(path)


def test_a_fixed_batch_of_one_takes_any_batch(tmp_path: Path) -> None:
    loaded = load_runtime(exported(tmp_path / "one.pt2", nn.Linear(4, 2), torch.zeros(1, 4), dynamic=False))
    assert loaded.signature.inputs[0].shape == (1, 4)
    assert loaded.run({"input": np.zeros((5, 4), np.float32)})[0].shape == (5, 2)


class Pair(nn.Module):
    """Two inputs, two outputs."""

    def forward(self, a: torch.Tensor, b: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return a + b, a - b


def test_several_inputs_and_outputs(tmp_path: Path) -> None:
    path = exported(tmp_path / "pair.pt2", Pair(), torch.zeros(2, 3), torch.zeros(2, 3), dynamic=False)
    loaded = load_runtime(path)
    assert [spec.name for spec in loaded.signature.inputs] == ["a", "b"]
    assert [spec.name for spec in loaded.signature.outputs] == ["output_0", "output_1"]
    sums, differences = loaded.run({"b": np.full((2, 3), 2, np.float32), "a": np.full((2, 3), 5, np.float32)})
    assert (sums[0, 0], differences[0, 0]) == (7, 3)


class Named(nn.Module):
    """An input by keyword only."""

    def forward(self, *, x: torch.Tensor) -> torch.Tensor:
        return x + 1


def test_keyword_inputs_are_told(tmp_path: Path) -> None:
    path = tmp_path / "named.pt2"
    torch.export.save(torch.export.export(Named(), (), {"x": torch.zeros(2, 3)}), path)
    with pytest.raises(ModelFileError, match="keyword arguments; export it with positional ones"):
        load_runtime(path)


def test_operators_with_sizes_and_branches_are_harmless(tmp_path: Path) -> None:
    class Shapes(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            half = x[: x.shape[0] * 2 // 2].reshape(x.shape[0], -1)
            return torch.nn.functional.pad(half, (0, 1)).softmax(-1) * math_ceil(x.shape[0])

    def math_ceil(size: int) -> int:
        return (size + 1) // 2

    path = exported(tmp_path / "shapes.pt2", Shapes(), torch.zeros(4, 3, 2))
    assert warm_up(load_runtime(path), runs=1) > 0


def test_a_symbolic_size_is_not_evaluated_as_code(linear: Path, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    with zipfile.ZipFile(linear) as archive:
        text = next(archive.read(name) for name in archive.namelist() if name.endswith("models/model.json")).decode()
    symbol = next(word for word in text.split('"') if word.startswith("Symbol("))
    attack = f"__import__('os').makedirs('{mark}', exist_ok=True) or {symbol}"
    path = edited(linear, replaced("models/model.json", symbol, attack))
    with pytest.raises(UntrustedModelError, match=r"a symbolic size in it is not arithmetic.*--trust-pickle"):
        load_runtime(path)
    assert not mark.exists()
    # The loader itself does evaluate it: the check above is what stands between.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.load(path)
    assert mark.exists()


@pytest.mark.parametrize(
    "text",
    [
        "Symbol('s97', positive=True, integer=True)", "s0", "2*s0 + 1", "Mod(s0, 2)", "s0//2", "Max(1, s0)", "-1", "u3",
        "Mul(Integer(2), Symbol('s0', positive=True, integer=True))", "FloorDiv(s0, 2)", "Eq(s0, 4)", "s0 <= 16", "2.5",
    ],
)  # fmt: skip
def test_sizes(text: str) -> None:
    assert _is_size(text)


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os')", "eval('1')", "().__class__", "s0.real", "exec", "open('x')", "[s0 for s0 in (1,)]",
        "lambda: 1",
        "Symbol('__import__')", "Symbol(name=open)", "f'{s0}'", "s0[0]", "(s0, 1)", "sympify('s0')", "a := 1", "",
        "s0;s1",
        "Symbol('s0')(1)", "getattr(s0, 's1')", "'s0'.join", "b'x'", "None", "*s0", "Lambda(s0, s0)", 7, None,
    ],
)  # fmt: skip
def test_what_is_no_size(text: object) -> None:
    assert not _is_size(text)


def with_pickled_sample_inputs(mark: Path) -> Callable[[dict[str, bytes]], None]:
    return lambda members: members.update({"data/sample_inputs/model.pt": pickled(Intruder(mark))})


def with_pickled_weight(mark: Path) -> Callable[[dict[str, bytes]], None]:
    def edit(members: dict[str, bytes]) -> None:
        config = json.loads(members["data/weights/model_weights_config.json"])
        for entry in config["config"].values():
            entry["use_pickle"] = True
        members["data/weights/model_weights_config.json"] = json.dumps(config).encode()
        members["data/weights/weight_0"] = pickled(Intruder(mark))

    return edit


def with_legacy_weights(mark: Path) -> Callable[[dict[str, bytes]], None]:
    return lambda members: members.update({"data/weights/model.pt": pickled(Intruder(mark))})


def with_opaque_constant(mark: Path) -> Callable[[dict[str, bytes]], None]:
    def edit(members: dict[str, bytes]) -> None:
        entry = {"path_name": "opaque_obj_0", "is_param": False, "use_pickle": True, "tensor_meta": None}
        members["data/constants/model_constants_config.json"] = json.dumps({"config": {"c": entry}}).encode()
        members["data/constants/opaque_obj_0"] = pickled(Intruder(mark))

    return edit


def with_compiled_code(mark: Path) -> Callable[[dict[str, bytes]], None]:
    return lambda members: members.update({f"data/aotinductor/{mark.name}/wrapper.so": b"\x7fELF"})


def with_file_operator(_: Path) -> Callable[[dict[str, bytes]], None]:
    return replaced("models/model.json", LINEAR, "torch.ops.aten.from_file.default")


def with_python_function(_: Path) -> Callable[[dict[str, bytes]], None]:
    return replaced("models/model.json", LINEAR, "torch.os.system")


def with_imported_class(mark: Path) -> Callable[[dict[str, bytes]], None]:
    def edit(members: dict[str, bytes]) -> None:
        model = json.loads(members["models/model.json"])
        model["graph_module"]["module_call_graph"] = json.dumps(
            [{"__enum__": True, "fqn": f"{mark.name}:X", "name": "Y"}]
        )
        members["models/model.json"] = json.dumps(model).encode()

    return edit


@pytest.mark.parametrize(
    ("attack", "reason"),
    [
        (with_pickled_sample_inputs, "its sample inputs are pickled objects"),
        (with_pickled_weight, "it holds pickled weights"),
        (with_legacy_weights, r"it holds a pickled object \(model.pt\)"),
        (with_opaque_constant, r"it holds a pickled object \(opaque_obj_0\)|it holds pickled weights"),
        (with_compiled_code, "it holds compiled code"),
        (with_file_operator, r"it calls 'torch.ops.aten.from_file.default'"),
        (with_python_function, "it calls 'torch.os.system'"),
        (with_imported_class, "its input structure imports modules"),
    ],
)
def test_what_could_run_code_is_refused_and_does_not_run(
    linear: Path, tmp_path: Path, attack: Callable[[Path], Callable[[dict[str, bytes]], None]], reason: str
) -> None:
    mark = tmp_path / "mark"
    path = edited(linear, attack(mark))
    with pytest.raises(UntrustedModelError, match=reason) as caught:
        load_runtime(path)
    assert "\n" not in str(caught.value)
    assert not mark.exists()


def test_trust_lets_the_loader_do_what_it_does(linear: Path, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    path = edited(linear, with_pickled_sample_inputs(mark))
    with pytest.raises(ModelFileError, match="damaged or unsuitable"):
        load_runtime(path, trust_pickle=True)
    assert mark.exists()


def test_an_archive_without_a_program(linear: Path) -> None:
    def edit(members: dict[str, bytes]) -> None:
        del members["models/model.json"]

    path = edited(linear, edit)
    with pytest.raises(ModelFileError, match="not an exported program"):
        load_runtime(path)


def test_a_damaged_member_is_noticed(linear: Path) -> None:
    content = bytearray(linear.read_bytes())
    at = content.find(b"torch.ops.aten.linear")
    content[at] ^= 1
    linear.write_bytes(content)
    with pytest.raises(ModelFileError, match="Bad CRC-32"):
        load_runtime(linear)


def test_nonsense_in_a_sound_archive_is_one_line_and_logs_nothing(
    linear: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    def edit(members: dict[str, bytes]) -> None:
        model: dict[str, Any] = json.loads(members["models/model.json"])
        model["graph_module"]["graph"]["nodes"][0]["inputs"] = []
        members["models/model.json"] = json.dumps(model).encode()

    with pytest.raises(ModelFileError) as caught:
        load_runtime(edited(linear, edit))
    assert "\n" not in str(caught.value)
    assert caplog.records == []
    assert capfd.readouterr().err == ""
