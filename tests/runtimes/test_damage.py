"""Damaged files: always one clear error or a model that runs, never a crash of the process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.runtimes.conftest import SUFFIXES

from tierwise.core.errors import TierwiseError
from tierwise.runtimes import load_runtime

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT = Path(__file__).parents[2]
COPIES = 40


@pytest.mark.parametrize("form", [*SUFFIXES, "int8", "tflm"])
def test_damaged_copies_never_end_the_process(artifacts: Mapping[str, Path], tmp_path: Path, form: str) -> None:
    file = f"{artifacts['int8']}:tflm" if form == "tflm" else str(artifacts[form])
    command = [sys.executable, "-W", "error", "-m", "tests.runtimes.damage", str(tmp_path), str(COPIES), file]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=240)
    last = done.stdout.splitlines()[-1]
    assert done.returncode == 0, f"ended with {done.returncode} at {last}: {done.stderr[-2000:]}"
    assert last.startswith("loaded ")
    assert int(last.split()[-1]) >= COPIES // 4, "most damage must be noticed"


@pytest.mark.parametrize("suffix", [".onnx", ".pt", ".pt2", ".safetensors"])
@settings(max_examples=25)
@given(content=st.binary(min_size=1, max_size=200))
def test_random_bytes_are_refused(tmp_path: Path, suffix: str, content: bytes) -> None:
    path = tmp_path / f"random{suffix}"
    path.write_bytes(content)
    with pytest.raises(TierwiseError) as caught:
        load_runtime(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("runtime", ["litert", "tflm"])
@settings(max_examples=40)
@given(root=st.integers(0, 2**32 - 1) | st.integers(0, 300), content=st.binary(max_size=300))
def test_random_flatbuffers_are_refused_before_the_interpreter_sees_them(
    tmp_path: Path, runtime: str, root: int, content: bytes
) -> None:
    path = tmp_path / "random.tflite"
    path.write_bytes(root.to_bytes(4, "little") + b"TFL3" + content)
    with pytest.raises(TierwiseError, match="truncated or damaged"):
        load_runtime(path, runtime=runtime)
