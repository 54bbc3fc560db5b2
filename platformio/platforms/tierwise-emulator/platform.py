"""A PlatformIO platform without packages: compiler and emulator are the system's."""

from __future__ import annotations

from platformio.public import PlatformBase


class TierwiseemulatorPlatform(PlatformBase):
    """Everything is in ``builder/main.py``."""
