"""The device tier of a demonstration: the same samples, answered by int8 firmware on an emulated microcontroller.

It stands for inference on the sensor's own board. So nothing travels: no bytes, no messaging, no queue, and the answer
is there when the inference has ended. The answers are those of the real firmware; times and energy are modelled for a
board from the counted instructions. How long the emulator or the messages to it took says nothing about a board and
is in no row: a row's instants are modelled, from the one at which its sample was due, each sample by itself.
"""

from __future__ import annotations

import contextlib
import math
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from tierwise.core.errors import ConfigurationError, DependencyError, TierwiseError
from tierwise.device.graph import UnsupportedModelError
from tierwise.device.tier import device_tier
from tierwise.live.sensor import ANSWERED, Pace, Sensor, Target
from tierwise.models.card import verify
from tierwise.report.summary import TierFacts

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Sequence
    from pathlib import Path

    from tierwise.core.trace import TraceRow
    from tierwise.device.boards import BoardProfile
    from tierwise.device.tier import DeviceTier
    from tierwise.live.sensor import Sample
    from tierwise.messaging.settings import MqttConnectionSettings
    from tierwise.models.card import ModelCard

TIER = "device"
_AT_ONCE = 16
"""Samples that wait at the device; the next ones come when these are answered."""
_PACE = Pace(rate_hz=100_000, window=_AT_ONCE, deadline_s=60)
"""As fast as it answers: the emulator's time is not looked at, but a device that hangs must not hang the run."""


class NoDeviceError(TierwiseError):
    """This model has no device tier here; the message says why, and what to do about it, in one line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnBoard:
    """A device that answers. Without ``is_counted`` its answers are real and its times are not known."""

    target: Target
    board: BoardProfile
    artifact: str
    is_counted: bool

    async def ask(
        self,
        samples: Sequence[Sample],
        connection: MqttConnectionSettings,
        *,
        device_id: str,
        model: str,
        on_row: Callable[[TraceRow], None],
    ) -> list[TraceRow]:
        """One row a sample. Ends early where the device answers nothing any more."""
        rows: list[TraceRow] = []

        def keep(seen: TraceRow) -> None:
            rows.append(self.row(seen))
            on_row(rows[-1])

        async with Sensor(connection, device_id=device_id, model=model, on_row=keep) as sensor:
            for start in range(0, len(samples), _AT_ONCE):
                batch = await sensor.send(samples[start : start + _AT_ONCE], [self.target], _PACE)
                if all(row.outcome != ANSWERED for row in batch):
                    break
        return rows

    def row(self, row: TraceRow) -> TraceRow:
        """What a sensor saw as a row of the sensor's own board: instants, inference and energy are modelled."""
        inference_us = row.inference_us if self.is_counted else None
        begin = None if inference_us is None else row.created_us
        # Rounded up: an inference takes time, however little.
        end = None if inference_us is None else row.created_us + math.ceil(inference_us)
        energy = row.energy_device_j
        if energy is None and inference_us is not None:  # MQTT 3.1.1 has no user properties to tell it in
            energy = self.board.active_mw / 1e3 * inference_us / 1e6
        return msgspec.structs.replace(
            row,
            sent_us=None,
            arrived_us=begin,
            started_us=begin,
            finished_us=end,
            answered_us=end,
            bytes_up=0,
            bytes_down=0,
            energy_device_j=energy,
            inference_us=inference_us,
        )

    def facts(self, rows: Iterable[TraceRow]) -> TierFacts:
        """What is known of the tier after ``rows``."""
        # The board's time is proportional to the counted instructions, so it tells how many they were.
        us_each = self.board.latency_ms(1) * 1e3
        counts = [
            round(row.inference_us / us_each) for row in rows if row.tier == TIER and row.inference_us is not None
        ]
        return TierFacts(
            runtime="firmware" if self.is_counted else "host build",
            artifact=self.artifact,
            basis="modelled",
            board=self.board.name,
            instructions=sum(counts) / len(counts) if counts else None,
        )


@contextlib.asynccontextmanager
async def own_board(
    card: ModelCard,
    folder: Path,
    build: Path,
    connection: MqttConnectionSettings,
    *,
    device_id: str,
    topic: str,
    board: str,
) -> AsyncIterator[OwnBoard]:
    """The int8 model of ``folder`` built into ``build``, and answering on ``topic`` while the block lasts.

    ``board`` is the name of a profile, or the path of one. Raises ``NoDeviceError`` where the model has no int8 form,
    cannot run on the device or does not fit the board, and where no compiler is installed; ``ModelIntegrityError``
    where the file is not that of the card, ``ConfigurationError`` where ``build`` cannot be written, and what else
    ``device_tier`` raises.
    """
    artifact = next((one for one in card.artifacts if one.format == "tflite" and one.dtype == "int8"), None)
    if artifact is None:
        raise NoDeviceError(
            f"{card.name} has no int8 .tflite: docs/models.md shows how to make one; put it beside the others and run "
            f"`tierwise model card {shlex.quote(str(folder))}`"
        )
    verify(card, folder / artifact.file)
    async with contextlib.AsyncExitStack() as stack:
        try:
            tier = await stack.enter_async_context(
                device_tier(
                    folder / artifact.file, build, connection, device_id=device_id, topic=topic, board=board,
                    label_of=card.label_of, name=card.name, version=card.version,
                )
            )  # fmt: skip
        except (DependencyError, UnsupportedModelError) as error:
            raise NoDeviceError(" ".join(str(error).split())) from error
        except OSError as error:
            raise ConfigurationError(f"cannot build the firmware in {build} (--out): {error.strerror}") from error
        _check_fits(tier)
        yield OwnBoard(target=Target(TIER, topic), board=tier.board, artifact=artifact.file, is_counted=tier.is_counted)


def _check_fits(tier: DeviceTier) -> None:
    """Figures for a board that the model does not fit would mislead."""
    board, needed = tier.board, (tier.build.flash_bytes, tier.build.ram_bytes)
    for name, size, limit in zip(("flash", "RAM"), needed, (board.flash_bytes, board.ram_bytes), strict=True):
        if size is not None and size > limit:
            raise NoDeviceError(
                f"{tier.build.model} needs {size:,} bytes of {name}, {board.name} has {limit:,} (another: --board)"
            )
