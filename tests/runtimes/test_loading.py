"""Which runtime loads which file, and one clear line for every file that none can load."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.runtimes.conftest import SUFFIXES

from tierwise.core.errors import ConfigurationError, DependencyError, ModelFileError, TierwiseError
from tierwise.runtimes import load_runtime, runtimes_for

if TYPE_CHECKING:
    from collections.abc import Mapping

RUNTIME_OF = {".onnx": "onnx", ".tflite": "litert"}

EXPECTED = {
    ".onnx": "not a usable ONNX model",
    ".tflite": " .tflite file",
    ".pt": "not a PyTorch checkpoint",
    ".pth": "not a PyTorch checkpoint",
    ".pt2": " .pt2 file",
    ".safetensors": " .safetensors file",
}
"""What a file is told not to be, by its suffix."""


def told(path: Path, **options: str | bool | int) -> str:
    """The one line that loading ``path`` fails with."""
    with pytest.raises(ModelFileError) as caught:
        load_runtime(path, **options)  # type: ignore[arg-type]  # one option of three types
    line = str(caught.value)
    assert "\n" not in line
    assert str(path) in line
    assert "Traceback" not in line
    return line


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_suffix_chooses_the_runtime(artifacts: Mapping[str, Path], suffix: str) -> None:
    runtime = load_runtime(artifacts[suffix])
    assert runtime.name == RUNTIME_OF.get(suffix, "torch")
    assert [spec.name for spec in runtime.signature.inputs] == ["features"]
    assert [spec.name for spec in runtime.signature.outputs] == ["probability"]
    assert runtime.signature.inputs[0].shape == (None, 32)
    runtime.close()


def test_upper_case_suffixes_and_strings_are_fine(artifacts: Mapping[str, Path], tmp_path: Path) -> None:
    path = tmp_path / "MODEL.ONNX"
    path.write_bytes(artifacts[".onnx"].read_bytes())
    assert load_runtime(path).name == "onnx"
    assert runtimes_for(path) == ["onnx"]


def test_tflm_loads_tflite_when_it_is_asked_for(artifacts: Mapping[str, Path]) -> None:
    assert runtimes_for(artifacts["int8"]) == ["litert", "tflm"]
    assert load_runtime(artifacts["int8"], runtime="tflm").name == "tflm"


@pytest.mark.parametrize(
    ("suffix", "runtime", "fits"),
    [
        (".onnx", "torch", "onnx"),
        (".tflite", "onnx", "litert or tflm"),
        (".pt", "litert", "torch"),
        (".pt2", "tflm", "torch"),
    ],
)
def test_a_wrong_combination_lists_what_fits(
    artifacts: Mapping[str, Path], suffix: str, runtime: str, fits: str
) -> None:
    with pytest.raises(ConfigurationError, match=f"for {suffix} use {fits}$"):
        load_runtime(artifacts[suffix], runtime=runtime)


def test_an_unknown_runtime_lists_the_known_ones(artifacts: Mapping[str, Path]) -> None:
    with pytest.raises(ConfigurationError, match="unknown runtime 'tensorrt'; known are onnx, litert, torch, tflm"):
        load_runtime(artifacts[".onnx"], runtime="tensorrt")


def test_threads_must_be_positive(artifacts: Mapping[str, Path]) -> None:
    with pytest.raises(ConfigurationError, match="threads must be at least 1, got 0"):
        load_runtime(artifacts[".onnx"], threads=0)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_missing_file(tmp_path: Path, suffix: str) -> None:
    assert told(tmp_path / f"none{suffix}").endswith("no such model file")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_directory(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"folder{suffix}"
    path.mkdir()
    assert "is a directory" in told(path)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_an_empty_file(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"model{suffix}"
    path.touch()
    assert "is empty" in told(path)


def test_what_is_no_regular_file_is_not_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "pipe.onnx"
    os.mkfifo(path)
    assert "not a regular file" in told(path)


def test_a_name_that_no_file_can_have() -> None:
    with pytest.raises(ModelFileError, match="not a file name"):
        load_runtime(Path("a\0b.onnx"))


def test_an_unreadable_file(artifacts: Mapping[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(artifacts[".onnx"].read_bytes())
    path.chmod(0)
    if os.access(path, os.R_OK):  # root may read every file

        def refuse(*_: object, **__: object) -> None:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(Path, "open", refuse)
    assert "cannot read the model file: Permission denied" in told(path)


def test_a_path_through_a_file_is_told_with_the_reason(artifacts: Mapping[str, Path]) -> None:
    assert "Not a directory" in told(artifacts[".onnx"] / "model.onnx")


def test_a_suffix_of_no_model_lists_the_known_ones(tmp_path: Path) -> None:
    path = tmp_path / "model.h5"
    path.write_bytes(b"x")
    line = told(path)
    assert all(suffix in line for suffix in SUFFIXES)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("part", [0.02, 0.3, 0.6, 0.9, 0.999])
def test_a_truncated_file(artifacts: Mapping[str, Path], tmp_path: Path, suffix: str, part: float) -> None:
    content = artifacts[suffix].read_bytes()
    path = tmp_path / f"cut{suffix}"
    path.write_bytes(content[: int(len(content) * part)])
    assert EXPECTED[suffix] in told(path)


def test_a_truncated_file_on_the_micro_runtime(artifacts: Mapping[str, Path], tmp_path: Path) -> None:
    content = artifacts["int8"].read_bytes()
    path = tmp_path / "cut.tflite"
    path.write_bytes(content[: len(content) // 2])
    assert "truncated or damaged .tflite file" in told(path, runtime="tflm")


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("content", [b"this is a text file, not a model\n" * 40, bytes(4096), b"<html>404</html>"])
def test_a_file_of_another_format(tmp_path: Path, suffix: str, content: bytes) -> None:
    path = tmp_path / f"other{suffix}"
    path.write_bytes(content)
    assert EXPECTED[suffix] in told(path)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("other", SUFFIXES)
def test_a_model_with_another_formats_suffix(
    artifacts: Mapping[str, Path], tmp_path: Path, suffix: str, other: str
) -> None:
    if {suffix, other} == {".pt", ".pth"} or suffix == other:
        assert runtimes_for(artifacts[suffix]) == runtimes_for(artifacts[other])
        return
    path = tmp_path / f"renamed{other}"
    path.write_bytes(artifacts[suffix].read_bytes())
    is_known = suffix == ".pt2" and other in {".pt", ".pth"}  # zip archives all, so PyTorch tells what it really is
    assert ("this is an exported program; name it renamed.pt2" if is_known else EXPECTED[other]) in told(path)


@pytest.mark.parametrize("suffix", [".pt", ".pt2", ".safetensors"])
def test_any_zip_archive_is_not_a_model(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"archive{suffix}"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data.txt", "x" * 1000)
    assert EXPECTED[suffix] in told(path)


@pytest.mark.parametrize(
    ("package", "runtime", "extra"),
    [
        ("onnxruntime", "onnx", "edge"),
        ("ai_edge_litert", "litert", "edge"),
        ("torch", "torch", "cloud"),
        ("tflite_micro", "tflm", "device"),
    ],
)
def test_a_missing_library_is_told_with_its_extra(
    artifacts: Mapping[str, Path], package: str, runtime: str, extra: str
) -> None:
    suffix = {"onnx": ".onnx", "litert": ".tflite", "torch": ".pt", "tflm": ".tflite"}[runtime]
    program = (
        f"import sys; sys.modules[{package!r}] = None\n"
        "from pathlib import Path\n"
        "from tierwise.core.errors import DependencyError\n"
        "from tierwise.runtimes import load_runtime\n"
        f"try: load_runtime(Path({str(artifacts[suffix])!r}), runtime={runtime!r})\n"
        "except DependencyError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert f"the {runtime} runtime needs the Python package {package}" in done.stdout
    assert f"pip install 'tierwise[{extra}]'" in done.stdout
    assert issubclass(DependencyError, TierwiseError)


def test_a_runtimes_library_is_imported_only_when_it_is_needed(artifacts: Mapping[str, Path]) -> None:
    program = (
        "import sys\n"
        "from pathlib import Path\n"
        "from tierwise.runtimes import load_runtime\n"
        "heavy = {'torch', 'onnxruntime', 'ai_edge_litert', 'tflite_micro', 'safetensors'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
        f"load_runtime(Path({str(artifacts['.onnx'])!r}))\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.splitlines() == ["[]", "['onnxruntime']"]
