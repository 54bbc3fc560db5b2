"""Board profiles: what turns measured instructions into modelled milliseconds and millijoules.

A profile says how many cycles an instruction takes on average and what power the board draws; both are calibrated
against published MLPerf Tiny results, and the file says how and with which error. Nothing here is measured.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Final

import msgspec
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from tierwise.core.errors import ConfigurationError


class CalibrationPoint(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One published result and what the profile models for it."""

    model: str
    instructions: int
    """Of this project's firmware for the same architecture."""
    published_ms: float
    published_uj: float
    modelled_ms: float
    modelled_uj: float


class BoardProfile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One board. Every figure comes with its ``source``."""

    name: str
    title: str
    core: str
    """Cortex-M core."""
    clock_hz: float
    cycles_per_instruction: float
    active_mw: float
    """While it infers."""
    sleep_mw: float
    """In the deepest sleep that keeps RAM; for reference, no figure here contains it."""
    flash_bytes: int
    ram_bytes: int
    source: dict[str, str]
    """Where each figure is from; a key for each."""
    calibration: tuple[CalibrationPoint, ...] = ()
    calibration_error: str = ""
    """In words: how far the model is from what was published."""

    def latency_ms(self, instructions: float) -> float:
        """Modelled time: instructions · cycles an instruction / clock."""
        return instructions * self.cycles_per_instruction / self.clock_hz * 1e3

    def energy_mj(self, instructions: float) -> float:
        """Modelled energy of the inference itself: active power · time."""
        return self.active_mw * self.latency_ms(instructions) / 1e3


DEFAULT_BOARD: Final = "nucleo-l4r5zi"
"""The board with the core that is emulated."""
_SOURCED: Final = (
    "clock_hz", "cycles_per_instruction", "active_mw", "sleep_mw", "flash_bytes", "ram_bytes",
)  # fmt: skip


def board_names() -> list[str]:
    """Names of the profiles that come with the package."""
    return sorted(item.name.removesuffix(".yaml") for item in files("tierwise.device").joinpath("profiles").iterdir())


def load_board(name: str) -> BoardProfile:
    """A profile by its name, or a file of your own by its path (``.yaml``).

    Raises ``ConfigurationError`` where it is unknown, unreadable or incomplete.
    """
    if name.endswith((".yaml", ".yml")):
        try:
            return _parse(Path(name).read_text(encoding="utf-8"), name)
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigurationError(f"cannot read the board profile {name}: {error}") from error
    if name not in board_names():
        raise ConfigurationError(f"unknown board {name!r}; known are {', '.join(board_names())}, or a path to a .yaml")
    return _parse(files("tierwise.device").joinpath("profiles", f"{name}.yaml").read_text(encoding="utf-8"), name)


def _parse(text: str, source: str) -> BoardProfile:
    try:
        profile = msgspec.convert(YAML(typ="safe", pure=True).load(text), BoardProfile)
    except (YAMLError, msgspec.ValidationError) as error:
        raise ConfigurationError(f"board profile {source}: {error}") from error
    wrong = [field for field in _SOURCED if not getattr(profile, field) > 0]
    if wrong:
        raise ConfigurationError(f"board profile {source}: {', '.join(wrong)} must be above 0")
    unsourced = [field for field in _SOURCED if field not in profile.source]
    if unsourced:
        raise ConfigurationError(f"board profile {source}: source: lacks {', '.join(unsourced)}")
    return profile
