"""What a build has made: the report ``build.json`` beside the firmware."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from tierwise.core.errors import ConfigurationError
from tierwise.core.tensors import Signature  # noqa: TC001 - msgspec resolves it when it decodes
from tierwise.device.machines import MACHINES, Machine
from tierwise.models.labels import label_of

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from tierwise.core.messages import Prediction

BUILD_FILE: Final = "build.json"
HOST: Final = "host"
"""Target of a build that runs as a process of this machine."""
TFLM: Final = "tflm"
"""Target where no compiler is installed: TensorFlow Lite Micro interprets the model itself."""


class StepReport(msgspec.Struct, frozen=True, omit_defaults=True):
    """One kernel call, as the report shows it."""

    operator: str
    index: int
    kernel: str
    macs: int = 0
    flash_bytes: int = 0
    note: str = ""


class BlockReport(msgspec.Struct, frozen=True):
    """One piece of the arena: in use from the step ``first`` to the step ``last``."""

    label: str
    offset: int
    bytes: int
    first: int
    last: int


class Build(msgspec.Struct, frozen=True, kw_only=True):
    """What a build has made; written as ``build.json``. Sizes in bytes, ``None`` for host builds."""

    model: str
    model_version: str
    model_crc32: str
    target: str
    """A QEMU machine, ``host`` or ``tflm``."""
    board: str | None
    optimize: str
    compiler: str
    signature: Signature
    flash_bytes: int | None
    ram_bytes: int | None
    """Variables, arena and reserved stack."""
    stack_bytes: int | None
    """Reserved for the stack."""
    arena_bytes: int
    macs: int
    firmware: str
    firmware_sha256: str
    steps: tuple[StepReport, ...]
    memory: tuple[BlockReport, ...]
    labels: tuple[str, ...] = ()
    threshold: float | None = None

    def label_of(self, prediction: Prediction | NDArray[Any]) -> str | list[str] | None:
        """The card's word for a prediction, where the card has labels. Raises ``InferenceError``."""
        return label_of(prediction, self.labels, self.threshold, model=self.model)


def read_build(folder: Path) -> Build:
    """The report of the build in ``folder``. Raises ``ConfigurationError`` where there is none."""
    try:
        return msgspec.json.decode((folder / BUILD_FILE).read_bytes(), type=Build)
    except OSError as error:
        raise ConfigurationError(f"{folder} holds no device build ({error.strerror}: {BUILD_FILE})") from error
    except msgspec.MsgspecError as error:
        raise ConfigurationError(f"{folder / BUILD_FILE} is not a build report: {error}") from error


def machine_of(report: Build) -> Machine | None:
    """The QEMU machine of a build, ``None`` for a host build."""
    if report.target == HOST:
        return None
    if report.target not in MACHINES:
        raise ConfigurationError(f"the build is for {report.target!r}, which is not one of {', '.join(MACHINES)}")
    return MACHINES[report.target]
