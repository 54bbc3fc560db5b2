"""A model made in a process of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.components import need
from tests.conftest import TRAINING_PACKAGES

from tierwise.core.errors import TierwiseError
from tierwise.live.training import train_in_child

if TYPE_CHECKING:
    from pathlib import Path


async def test_what_the_process_says_is_wrong_is_the_error(tmp_path: Path) -> None:
    with pytest.raises(TierwiseError, match="cannot create the model nonsense: unknown model 'nonsense'"):
        await train_in_child("nonsense", tmp_path / "nonsense", on_step=lambda _: None)


async def test_a_folder_with_other_files_is_left_alone(tmp_path: Path) -> None:
    for package in TRAINING_PACKAGES:
        need(package=package)
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(TierwiseError, match="holds other files"):
        await train_in_child("anomaly-detector", tmp_path, on_step=lambda _: None)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"
