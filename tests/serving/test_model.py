"""Finding the model that the settings name."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tierwise.core.errors import ModelFileError
from tierwise.serving.model import find_artifact
from tierwise.serving.settings import ModelSettings

if TYPE_CHECKING:
    from collections.abc import Iterator

NOBODY = 65534


@contextlib.contextmanager
def ordinary_user() -> Iterator[None]:
    """Root may enter every folder: for the length of the block it is somebody else."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


def find(path: Path) -> None:
    find_artifact(ModelSettings(path=path), tier="edge")


@pytest.mark.parametrize("path", ["/nowhere/model.onnx", f"{__file__}/model.onnx", "/dev/null/model.yaml"])
def test_what_is_not_there_is_told_with_what_to_do(path: str) -> None:
    with pytest.raises(ModelFileError, match=f"no model at {path}: give an artifact or a model folder with --model"):
        find(Path(path))


def test_a_name_that_is_too_long_is_told() -> None:
    with pytest.raises(ModelFileError, match=r"cannot read the model at m{300}.onnx: File name too long"):
        find(Path("m" * 300 + ".onnx"))


def test_a_name_with_a_nul_byte_is_told() -> None:
    with pytest.raises(ModelFileError, match="not a file name"):
        find(Path("model\0.onnx"))


@pytest.mark.parametrize("name", ["model.onnx", "model.yaml", ""])
def test_a_folder_without_permission_is_told(tmp_path: Path, name: str) -> None:
    closed = tmp_path / "closed"
    folder = closed / "folder"
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(b"x")
    closed.chmod(0)
    try:
        with ordinary_user(), pytest.raises(ModelFileError, match=f"cannot read the model at {folder}.*Permission"):
            find(folder / name)
    finally:
        closed.chmod(0o700)
