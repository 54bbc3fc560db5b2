"""The device tier for comparisons: build for what is installed, then answer on MQTT."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tierwise.core.errors import DependencyError
from tierwise.device import toolchain
from tierwise.device.boards import DEFAULT_BOARD, BoardProfile, load_board
from tierwise.device.bridge import DEVICE_REQUEST_TOPIC, BridgeSettings, DeviceBridge
from tierwise.device.build import Options, build_for_board
from tierwise.device.emulator import QEMU, Emulator

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from tierwise.core.messages import Prediction
    from tierwise.device.manifest import Build
    from tierwise.messaging.settings import MqttConnectionSettings


@dataclass(frozen=True)
class DeviceTier:
    """A device that answers on ``topic``. ``is_counted``: times and energy are modelled from counted instructions."""

    topic: str
    build: Build
    board: BoardProfile
    is_counted: bool


def can_emulate() -> bool:
    """Whether firmware can be compiled and emulated here."""
    return toolchain.have_arm() and shutil.which(QEMU) is not None


def build_here(
    model: Path, folder: Path, *, board: str = DEFAULT_BOARD, name: str | None = None, version: str = "1"
) -> Build:
    """Builds ``model`` (int8 .tflite) for what is installed: firmware for the emulator, else for this machine.

    Raises like ``build``; ``DependencyError`` where the firmware could be compiled but not run.
    """
    profile = load_board(board)
    options = Options(host=not can_emulate(), name=name, version=version)
    return build_for_board(model, folder, options, profile, required=False)


@contextlib.asynccontextmanager
async def device_tier(
    model: Path,
    folder: Path,
    connection: MqttConnectionSettings,
    *,
    device_id: str,
    topic: str = DEVICE_REQUEST_TOPIC,
    board: str = DEFAULT_BOARD,
    label_of: Callable[[Prediction], str | list[str] | None] | None = None,
    name: str | None = None,
    version: str = "1",
) -> AsyncIterator[DeviceTier]:
    """Builds ``model`` into ``folder``, starts it, and lets it answer requests on ``topic`` while the block lasts.

    Answers carry the modelled ``inference_time_ms``, and the modelled joules as the user property ``energy_device_j``.
    Raises like ``build`` and ``Emulator.start``, ``TransportError`` where the broker is out of reach, and
    ``DependencyError`` where neither an emulator nor a C compiler is installed.
    """
    if not can_emulate() and toolchain.host_compiler() is None:
        raise DependencyError(
            "the device tier needs gcc-arm-none-eabi, libnewlib-arm-none-eabi and qemu-system-arm, or a C compiler"
        )
    report = await asyncio.to_thread(build_here, model, folder, board=board, name=name, version=version)
    profile = load_board(board)
    settings = BridgeSettings(device_id=device_id, serve_topic=topic, board=profile, label_of=label_of)
    async with Emulator(folder) as emulator, DeviceBridge(emulator, connection, settings):
        yield DeviceTier(topic, report, profile, is_counted=report.flash_bytes is not None)
