"""Creating a model: all of it or nothing, the same every time, with clear errors."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tierwise.core.errors import ConfigurationError, DependencyError, ModelError, ModelFileError
from tierwise.models import create
from tierwise.models.card import load_card
from tierwise.models.create import create_model
from tierwise.runtimes import load_runtime

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tierwise.core.runtime import Runtime


def hashes(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def fail_to_load(path: Path) -> Runtime:
    raise ModelFileError(f"{path}: refused by the test")


class Wrong:
    """A runtime whose answers are a little off."""

    def __init__(self, path: Path) -> None:
        self._runtime = load_runtime(path)
        self.name, self.signature = self._runtime.name, self._runtime.signature

    def run(self, inputs: Mapping[str, Any]) -> Any:
        return [np.array(output) + 2e-5 for output in self._runtime.run(inputs)]

    def close(self) -> None:
        self._runtime.close()


def test_the_same_files_come_out_of_another_process(digits: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from tierwise.models.create import create_model;"
        "from tierwise.runtimes import load_runtime;"
        "create_model('digits', Path(sys.argv[1]), load=load_runtime)"
    )
    again = tmp_path / "again"
    subprocess.run(
        [sys.executable, "-c", code, str(again)],
        check=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONHASHSEED": "12345"},
    )
    assert hashes(again) == hashes(digits)


def test_steps_are_told(tmp_path: Path) -> None:
    steps: list[str] = []
    card = create_model("digits", tmp_path / "new" / "digits", load=load_runtime, on_step=steps.append)
    assert steps[0] == "digits: data"
    assert [step.rpartition(" ")[2] for step in steps if "measuring" in step] == [a.file for a in card.artifacts]
    assert load_card(tmp_path / "new" / "digits") == card
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["digits"], "no temporary folder is left"


def test_an_existing_model_is_replaced(digits: Path, tmp_path: Path) -> None:
    out = copy(digits, tmp_path / "digits")
    (out / "digits.onnx").write_bytes(b"damaged")
    create_model("digits", out, load=load_runtime)
    assert hashes(out) == hashes(digits)
    assert [path.name for path in tmp_path.iterdir()] == ["digits"]


def test_a_link_to_a_model_folder_stays_one(digits: Path, tmp_path: Path) -> None:
    real = copy(digits, tmp_path / "v1")
    (real / "digits.onnx").write_bytes(b"damaged")
    link = tmp_path / "current"
    link.symlink_to(real)
    create_model("digits", link, load=load_runtime)
    assert link.is_symlink()
    assert hashes(real) == hashes(digits)


@pytest.mark.parametrize("existing", [True, False])
def test_a_failure_leaves_all_as_it_was(digits: Path, tmp_path: Path, *, existing: bool) -> None:
    out = copy(digits, tmp_path / "digits") if existing else tmp_path / "digits"
    with pytest.raises(ModelFileError, match="refused by the test"):
        create_model("digits", out, load=fail_to_load)
    assert (hashes(out) == hashes(digits)) if existing else not out.exists()
    assert [path.name for path in tmp_path.iterdir()] == (["digits"] if existing else [])


def test_a_failing_swap_brings_the_previous_model_back(tmp_path: Path) -> None:
    out, previous = tmp_path / "out", tmp_path / "previous"
    out.mkdir()
    (out / "old").touch()
    with pytest.raises(FileNotFoundError):
        create._replace(out, tmp_path / "missing", previous)
    assert (out / "old").exists()
    assert not previous.exists()


def test_an_artifact_that_disagrees_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"digits\.onnx differs by 2(\.\d)?e-05 from the .* model, more than 1e-05"):
        create_model("digits", tmp_path / "digits", load=Wrong)
    assert not list(tmp_path.iterdir())


def test_an_unknown_name_lists_the_known(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="unknown model 'digit'; known models: anomaly-detector, digits"):
        create_model("digit", tmp_path / "x", load=load_runtime)


def test_a_missing_package_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(DependencyError, match=r"sklearn: pip install 'tierwise\[train\]'"):
        create_model("digits", tmp_path / "x", load=load_runtime)


def test_a_folder_with_other_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(ConfigurationError, match="holds other files and no model"):
        create_model("digits", tmp_path, load=load_runtime)
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


def test_other_files_in_a_model_folder_are_left_alone(digits: Path, tmp_path: Path) -> None:
    out = copy(digits, tmp_path / "digits")
    (out / "notes.txt").write_text("mine")
    with pytest.raises(ConfigurationError, match=r"holds more than the model \(notes.txt\)"):
        create_model("digits", out, load=load_runtime)
    assert (out / "notes.txt").read_text() == "mine"


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "digits").write_text("")
    with pytest.raises(ConfigurationError, match="is not a folder"):
        create_model("digits", tmp_path / "digits", load=load_runtime)


def test_an_unwritable_place_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="cannot write the model to"):
        create_model("digits", tmp_path / "file" / "digits", load=load_runtime)


def copy(folder: Path, to: Path) -> Path:
    to.mkdir()
    for path in folder.iterdir():
        (to / path.name).write_bytes(path.read_bytes())
    return to
