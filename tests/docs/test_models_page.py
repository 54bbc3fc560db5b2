"""The lines that docs/models.md shows for one's own model do what it says."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
from docs.generate import FOLDER
from tests.components import need

from tierwise.models.card import load_card

if TYPE_CHECKING:
    from pathlib import Path

PAGE = (FOLDER / "models.md").read_text(encoding="utf-8")


def shown(mark: str) -> str:
    found = re.search(rf"<!-- {mark}: begin -->\n```python\n(.*?)```\n<!-- {mark}: end -->", PAGE, re.DOTALL)
    assert found is not None
    return found[1]


def run(*command: str, cwd: Path) -> str:
    done = subprocess.run([sys.executable, *command], cwd=cwd, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_all_files_of_one_model_and_their_card(tmp_path: Path) -> None:
    for package in ("torch", "safetensors", "onnx", "ai_edge_litert", "ai_edge_quantizer"):
        need(package=package)
    files = run("-c", shown("all files"), cwd=tmp_path).split()
    assert "pump-int8.tflite" in files
    [command] = re.findall(r"^\$ tierwise (model card pump/pump\.onnx .*)$", PAGE, re.MULTILINE)
    run("-m", "tierwise", *shlex.split(command), cwd=tmp_path)
    card = load_card(tmp_path / "pump")
    assert {"pump.onnx", "pump.tflite", "pump-int8.tflite", "pump.pt2"} == {one.file for one in card.artifacts}
    assert card.labels == ("ok", "worn", "broken")

    (tmp_path / "pump" / "pump.tflite").rename(tmp_path / "pump.tflite")
    np.save(tmp_path / "training.npy", np.random.default_rng(1).standard_normal((200, 12)).astype(np.float32))
    run("-c", shown("int8"), cwd=tmp_path)
    told = run("-m", "tierwise", "model", "inspect", "pump-int8.tflite", cwd=tmp_path)
    assert "features int8[?, 12]" in told
