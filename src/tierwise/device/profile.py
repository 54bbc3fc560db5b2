"""What a model costs on a microcontroller: counted instructions, and time and energy modelled for a board."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np

from tierwise.core.errors import DependencyError
from tierwise.device.build import Options, build_for_board
from tierwise.device.runtime import open_device, stack_outputs
from tierwise.device.tier import can_emulate
from tierwise.models.card import find_card, sha256_of
from tierwise.models.samples import Samples, class_indices, load_samples
from tierwise.models.scores import accuracy
from tierwise.runtimes.example import random_samples
from tierwise.runtimes.inputs import to_inputs
from tierwise.scenario.measured import service_time
from tierwise.scenario.profile import Emulated, Profile, ProfiledArtifact

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tierwise.core.tensors import Signature
    from tierwise.device.boards import BoardProfile
    from tierwise.device.manifest import Build
    from tierwise.device.runtime import Measured
    from tierwise.device.source import DeviceModel


def profile_on_board(
    source: DeviceModel,
    samples: Samples | None,
    board: BoardProfile,
    folder: Path,
    on_progress: Callable[[float], None] = lambda _: None,
) -> Profile:
    """The profile of an int8 model on a board. Builds its firmware into ``folder``; blocks.

    Samples are those given, else the card's, else random ones, which tell no accuracy. Raises like ``build``
    and ``FirmwareRuntime``, and ``DependencyError`` where firmware cannot be compiled or emulated here.
    """
    if not can_emulate():
        raise DependencyError(
            "a board's profile needs gcc-arm-none-eabi, libnewlib-arm-none-eabi and qemu-system-arm: "
            "nothing else counts the instructions of the firmware"
        )
    options = Options(name=source.name, version=source.version, labels=source.labels, threshold=source.threshold)
    report = build_for_board(source.file, folder, options, board, required=True)
    chosen = _samples(source.file, report.signature) if samples is None else samples
    answers = _answers(chosen, report.signature, folder, on_progress)
    instructions = np.array([answer.instructions for answer in answers], np.float64)
    truth = class_indices(chosen, source.labels) if source.labels else None
    outputs = stack_outputs(answers)[0]
    mean = float(instructions.mean())
    return Profile(
        tierwise_profile=1,
        model=report.model,
        version=report.model_version,
        artifact=ProfiledArtifact(
            file=source.file.name,
            sha256=sha256_of(source.file),
            size_bytes=source.file.stat().st_size,
            dtype="int8",
        ),
        runtime="firmware",
        board=Emulated(
            name=board.name,
            core=board.core,
            instructions=mean,
            flash_bytes=report.flash_bytes or 0,
            ram_bytes=report.ram_bytes or 0,
        ),
        accuracy=None if truth is None else accuracy(outputs.reshape(len(outputs), -1), truth, source.threshold),
        samples=None if truth is None else len(truth),
        energy_uj=float(f"{board.energy_mj(mean) * 1e3:.4g}"),
        service=[service_time(1, [[board.latency_ms(count) * 1e6 for count in instructions]])],
        source=_source(report, board, mean),
    )


def _samples(file: Path, signature: Signature) -> Samples:
    card = find_card(file)
    if card is None or card.samples is None:
        return Samples(random_samples(signature, 1))
    return load_samples(file.parent / card.samples)


def _answers(
    samples: Samples, signature: Signature, folder: Path, on_progress: Callable[[float], None]
) -> list[Measured]:
    inputs, _ = to_inputs(samples.features, signature)
    count = len(next(iter(inputs.values())))
    answers: list[Measured] = []
    with open_device(folder) as device:
        for at in range(count):
            on_progress(at / count)
            answers += device.measure({name: values[at : at + 1] for name, values in inputs.items()})
    return answers


def _source(report: Build, board: BoardProfile, instructions: float) -> str:
    counted = f"{instructions:,.0f} instructions an inference counted on the emulated {report.target}"
    when = f"{datetime.now(UTC):%Y-%m-%d}"
    return f"modelled by tierwise profile on {when}: {counted}, time and energy by the board profile {board.name}"
