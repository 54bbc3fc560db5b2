"""Damaged PyTorch files are told before PyTorch is imported."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tierwise.core.errors import ModelFileError
from tierwise.runtimes.containers import check_container

if TYPE_CHECKING:
    from pathlib import Path

SUFFIXES = [".pt", ".pt2", ".safetensors"]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_whole_files_pass(anomaly_detector: Path, suffix: str) -> None:
    (whole,) = anomaly_detector.glob(f"*{suffix}")
    check_container(whole)  # raises where it does not pass
    assert whole.stat().st_size > 0


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("share", [0.0, 0.01, 0.5])
def test_cut_files_do_not(anomaly_detector: Path, tmp_path: Path, suffix: str, share: float) -> None:
    content = next(anomaly_detector.glob(f"*{suffix}")).read_bytes()
    cut = tmp_path / f"cut{suffix}"
    cut.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(ModelFileError, match=r"truncated"):
        check_container(cut)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_it_is_told_without_importing_pytorch(tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"bad{suffix}").write_bytes(b"something else entirely")
    code = (
        "import sys, pathlib\nfrom tierwise.runtimes import load_runtime\n"
        "from tierwise.core.errors import ModelFileError\n"
        "try: load_runtime(pathlib.Path(sys.argv[1]))\nexcept ModelFileError: print('torch' in sys.modules)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / f"bad{suffix}")]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == "False"
