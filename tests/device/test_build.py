"""Builds: what they write, what they refuse, and that they repeat."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.components import need
from tests.waiting import until
from tierwise.core.errors import ConfigurationError, DependencyError, ModelFileError
from tierwise.device import toolchain
from tierwise.device.boards import load_board
from tierwise.device.build import BoardTooSmallError, Options, build, build_for_board
from tierwise.device.emulator import Emulator
from tierwise.device.graph import UnsupportedModelError
from tierwise.device.manifest import read_build

need(package="ai_edge_litert")

from tests.device.reference_models import MODELS  # noqa: E402 - after the check that its package is installed
from tests.device.tflite_writer import ModelBuilder  # noqa: E402


def one_operator(name: str, kind: str = "", *, dtype: str = "int8", out_scale: float = 0.1, **options: Any) -> bytes:
    builder = ModelBuilder()
    x = builder.tensor([1, 8], dtype, scale=None if dtype == "float32" else 0.1)
    y = builder.tensor([1, 8], dtype, scale=None if dtype == "float32" else out_scale)
    builder.operator(name, [x], [y], kind, **options)
    return builder.finish([x], [y])


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "wake-word.tflite"
    path.write_bytes(MODELS["wake-word"]())
    return path


def test_two_builds_give_the_same_firmware(model: Path, tmp_path: Path) -> None:
    need(program="arm-none-eabi-gcc")
    reports = [build(model, tmp_path / folder) for folder in ("one", "another/place")]
    assert reports[0].firmware_sha256 == reports[1].firmware_sha256
    binaries = [(tmp_path / folder / "firmware.bin").read_bytes() for folder in ("one", "another/place")]
    assert binaries[0] == binaries[1]


def test_generated_c_is_readable_and_complete(model: Path, tmp_path: Path) -> None:
    need(program="arm-none-eabi-gcc")
    report = build(model, tmp_path / "out", Options(flags=("-Werror",)))
    source = (tmp_path / "out" / "src" / "model.c").read_text()
    assert "DEPTHWISE_CONV_2D (operator 0)" in source
    assert "malloc" not in source
    assert report == read_build(tmp_path / "out")
    assert report.macs == 432_832
    for block in report.memory:
        assert block.offset + block.bytes <= report.arena_bytes
    for a in report.memory:
        for b in report.memory:
            apart = a.last < b.first or b.last < a.first
            beside = a.offset + a.bytes <= b.offset or b.offset + b.bytes <= a.offset
            assert a is b or apart or beside, (a, b)


def test_a_second_build_replaces_the_first(model: Path, tmp_path: Path) -> None:
    need(program="cc")
    out = tmp_path / "out"
    build(model, out, Options(host=True))
    (out / "notes.txt").write_text("mine")
    build(model, out, Options(host=True, version="2"))
    assert read_build(out).model_version == "2"
    assert (out / "notes.txt").read_text() == "mine"
    assert not list(tmp_path.glob(".tierwise-device-*"))


def test_a_folder_of_something_else_is_left_alone(model: Path, tmp_path: Path) -> None:
    out = tmp_path / "project"
    (out / "src").mkdir(parents=True)
    (out / "src" / "main.c").write_text("mine")
    with pytest.raises(ConfigurationError, match="holds other files and no device build"):
        build(model, out, Options(host=True))
    assert [path.name for path in out.rglob("*")] == ["src", "main.c"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (one_operator("ELU"), r"operator 0 \(builtin operator 111\) cannot run on the device: there is no kernel"),
        (one_operator("RELU", dtype="float32"), r"operator 0 \(RELU\).* is not int8"),
        (one_operator("RELU", dtype="uint8"), "neither quantised int8 nor float32"),
        (one_operator("SOFTMAX", "Softmax", beta=1.0), r"operator 0 \(SOFTMAX\).*scale 1/256"),
        (one_operator("RELU6", out_scale=0.2), "different scales"),
        (one_operator("RESHAPE", out_scale=0.2), "different scales"),
    ],
)
def test_unsupported_models_are_refused_before_anything_is_written(
    tmp_path: Path, content: bytes, message: str
) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(content)
    with pytest.raises(UnsupportedModelError, match=message):
        build(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_unsupported_operator_is_named_by_its_index(tmp_path: Path) -> None:
    builder = ModelBuilder()
    tensors = [builder.tensor([1, 8]) for _ in range(4)]
    builder.operator("RELU", tensors[:1], tensors[1:2])
    builder.operator("RELU", tensors[1:2], tensors[2:3])
    builder.operator("ABS", tensors[2:3], tensors[3:])
    path = tmp_path / "model.tflite"
    path.write_bytes(builder.finish(tensors[:1], tensors[3:]))
    with pytest.raises(UnsupportedModelError, match=r"operator 2 \(builtin operator 101\)"):
        build(path, tmp_path / "out")


def test_a_model_that_does_not_fit_the_board_is_refused_with_the_numbers(model: Path, tmp_path: Path) -> None:
    need(program="arm-none-eabi-gcc")
    import msgspec  # noqa: PLC0415

    board = load_board("nucleo-l4r5zi")
    small = msgspec.structs.replace(board, ram_bytes=4096)
    with pytest.raises(BoardTooSmallError, match=r"it needs \d+ bytes of RAM, the board has 4096"):
        build_for_board(model, tmp_path / "out", Options(), small, required=True)
    assert not (tmp_path / "out").exists()
    small = msgspec.structs.replace(board, flash_bytes=4096)
    with pytest.raises(BoardTooSmallError, match=r"it needs \d+ bytes of flash, the board has 4096"):
        build_for_board(model, tmp_path / "out", Options(), small, required=True)
    assert build_for_board(model, tmp_path / "out", Options(), small, required=False).board is None
    assert build_for_board(model, tmp_path / "out", Options(), board, required=True).board == "nucleo-l4r5zi"


async def test_a_large_model_runs_on_the_larger_machine(tmp_path: Path) -> None:
    need(program="arm-none-eabi-gcc")
    need(program="qemu-system-arm")
    need(package="tflite_micro")
    from tests.device.laboratory import Oracle  # noqa: PLC0415 - only where its package is installed

    builder = ModelBuilder()
    x = builder.tensor([1, 160, 160, 4])
    y = builder.tensor([1, 1, 1, 4])
    z = builder.tensor([1, 160, 160, 4])
    builder.operator("RELU", [x], [z])
    builder.operator(
        "MAX_POOL_2D", [z], [y], "Pool2D", padding=1, filterHeight=160, filterWidth=160, strideH=1, strideW=1
    )
    path = tmp_path / "model.tflite"
    path.write_bytes(builder.finish([x], [y]))
    with pytest.raises(UnsupportedModelError, match="inputs take 102400 bytes; a frame"):
        build(path, tmp_path / "out")
    builder = ModelBuilder()
    x = builder.tensor([1, 100, 100, 4])
    y = builder.tensor([1, 100, 100, 16])
    z = builder.tensor([1, 1, 1, 16])
    weights = builder.tensor([16, 1, 1, 4], data=np.ones((16, 1, 1, 4)))
    builder.operator("CONV_2D", [x, weights], [y], "Conv2D", padding=0, strideH=1, strideW=1)
    builder.operator(
        "MAX_POOL_2D", [y], [z], "Pool2D", padding=1, filterHeight=100, filterWidth=100, strideH=1, strideW=1
    )
    path.write_bytes(builder.finish([x], [z]))
    report = build(path, tmp_path / "out")
    assert report.target == "mps2-an386"
    oracle = Oracle(path.read_bytes(), 1, 1)
    sample = oracle.random_sample(np.random.default_rng(3))
    async with Emulator(tmp_path / "out") as device:
        first, second = await device.infer(sample), await device.infer(sample)
    assert first.output == second.output == oracle.run(sample)
    assert first.instructions is not None
    assert second.instructions is not None
    assert first.instructions > report.macs / 4
    assert abs(first.instructions - second.instructions) <= 40  # a tick of its timer


@pytest.mark.parametrize("missing", ["arm-none-eabi-gcc", "arm-none-eabi-objcopy", "arm-none-eabi-size"])
def test_a_missing_toolchain_is_named_with_what_to_do(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    need(program="arm-none-eabi-gcc")
    which = shutil.which
    monkeypatch.setattr(shutil, "which", lambda program: None if program == missing else which(program))
    assert not toolchain.have_arm()
    with pytest.raises(DependencyError, match=f"{missing} is not on the PATH.*--host"):
        build(model, tmp_path / "out")


def compiler(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Puts a host compiler of the test's own in the place of the machine's."""
    program = folder / "cc-of-the-test"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("CC", str(program))


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("echo broken >&2; exit 3", "failed with exit code 3:\nbroken"),
        ('case "$1" in --version) exit 4;; esac; : > ../firmware-host', "failed with exit code 4"),
        ("exec sleep 600", "did not end within 0.5 s"),
    ],
)
def test_a_compiler_that_fails_is_a_typed_error(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, message: str
) -> None:
    compiler(tmp_path, script, monkeypatch)
    if "sleep" in script:
        monkeypatch.setattr(toolchain, "_TIMEOUT_S", 0.5)
    with pytest.raises(DependencyError, match="cc-of-the-test") as caught:
        build(model, tmp_path / "out", Options(host=True))
    assert message in str(caught.value)


def test_a_compiler_ends_with_the_build_that_is_killed(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiler(
        tmp_path, f"echo $$ > {tmp_path / 'new'}; mv {tmp_path / 'new'} {tmp_path / 'pid'}; exec sleep 600", monkeypatch
    )
    command = [
        sys.executable,
        "-m",
        "tierwise",
        "device",
        "build",
        str(model),
        "--out",
        str(tmp_path / "out"),
        "--host",
    ]
    with subprocess.Popen(command) as run:
        asyncio.run(until((tmp_path / "pid").exists, timeout_s=60))
        run.kill()
    compiling = int((tmp_path / "pid").read_text())
    asyncio.run(until(lambda: not is_running(compiling)))
    assert not (tmp_path / "out" / "build.json").exists()


def is_running(process: int) -> bool:
    """Whether a process is there that has not ended; one that waits for its parent's notice has."""
    try:
        status = Path(f"/proc/{process}/stat").read_text(encoding="ascii")
    except OSError:
        return False
    return status.rpartition(") ")[2][:1] not in {"Z", "X"}


def test_without_any_compiler_the_interpreter_answers(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    need(package="tflite_micro")
    need(program="cc")
    from tierwise.device.runtime import open_device, stack_outputs  # noqa: PLC0415

    inputs = np.random.default_rng(5).integers(-128, 128, (3, 30, 1, 40)).astype(np.int8)
    build(model, tmp_path / "compiled", Options(host=True))
    monkeypatch.setattr(shutil, "which", lambda _: None)
    report = build(model, tmp_path / "interpreted", Options(host=True))
    monkeypatch.undo()
    assert report.target == "tflm"
    assert (tmp_path / "interpreted" / "src" / "model.c").exists()
    name = report.signature.inputs[0].name
    with open_device(tmp_path / "compiled") as compiled, open_device(tmp_path / "interpreted") as interpreted:
        expected, answers = compiled.measure({name: inputs}), interpreted.measure({name: inputs})
        assert [a.raw[0].tolist() for a in answers] == [e.raw[0].tolist() for e in expected]
        assert answers[0].instructions is None
        assert np.array_equal(stack_outputs(answers)[0], compiled.run({name: inputs})[0])


def test_wrong_options_and_files_are_refused(model: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="optimize"):
        build(model, tmp_path / "out", Options(optimize="O9"))
    with pytest.raises(ModelFileError, match="cannot read"):
        build(tmp_path / "none.tflite", tmp_path / "out")
    model.write_bytes(b"not a model")
    with pytest.raises(ModelFileError, match="TFL3"):
        build(model, tmp_path / "out")


def test_a_file_that_is_no_report_is_refused(tmp_path: Path) -> None:
    (tmp_path / "build.json").write_text("{}")
    with pytest.raises(ConfigurationError, match="not a build report"):
        read_build(tmp_path)
