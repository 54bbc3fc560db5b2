"""Board profiles: complete, sourced, and honest about their error."""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING

import pytest

from tierwise.core.errors import ConfigurationError
from tierwise.device.boards import DEFAULT_BOARD, BoardProfile, board_names, load_board

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(params=board_names())
def board(request: pytest.FixtureRequest) -> BoardProfile:
    return load_board(str(request.param))


def test_the_calibrated_boards_are_there() -> None:
    assert {"nucleo-l4r5zi", "nucleo-u575zi-q", "nucleo-h7a3zi-q"} <= set(board_names())
    assert DEFAULT_BOARD in board_names()


def test_what_is_written_down_is_what_the_profile_models(board: BoardProfile) -> None:
    assert len(board.calibration) >= 4
    for point in board.calibration:
        assert board.latency_ms(point.instructions) == pytest.approx(point.modelled_ms, rel=0.01)
        assert board.energy_mj(point.instructions) * 1e3 == pytest.approx(point.modelled_uj, rel=0.01)
        error = round((board.latency_ms(point.instructions) / point.published_ms - 1) * 100)
        assert f"{error:+d} % ({point.model})" in board.calibration_error


def test_a_profile_of_ones_own_is_read_from_a_file(tmp_path: Path) -> None:
    text = files("tierwise.device").joinpath("profiles", f"{DEFAULT_BOARD}.yaml").read_text()
    path = tmp_path / "mine.yaml"
    path.write_text(text.replace(f"name: {DEFAULT_BOARD}", "name: mine"))
    assert load_board(str(path)).name == "mine"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("active_mw: ", "power: ", "power"),
        ("  sleep_mw: ", "  nap_mw: ", "lacks sleep_mw"),
        ("clock_hz: 120000000", "clock_hz: 0", "clock_hz must be above 0"),
        ("name: nucleo", "name: [", "board profile"),
    ],
)
def test_incomplete_profiles_are_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    text = files("tierwise.device").joinpath("profiles", f"{DEFAULT_BOARD}.yaml").read_text()
    path = tmp_path / "mine.yaml"
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(ConfigurationError, match=message):
        load_board(str(path))


def test_unknown_boards_are_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"unknown board 'abacus'; known are .*nucleo-l4r5zi"):
        load_board("abacus")
    with pytest.raises(ConfigurationError, match="cannot read"):
        load_board("nowhere.yaml")
