"""Emulated firmware as an external node: ``command: [python, -m, tierwise.sim.firmware_node]``.

Each period the device takes the next sample, runs its real firmware on it, and sends a request where the answer is too
unsure; the rest stays on the device. The firmware's instructions become virtual time. Options come with ``INIT``:

``build``: folder of a built device · ``samples``: ``.npz`` with ``x`` · ``period_us`` · ``threshold`` (0 to 1; answers
of less confidence are sent) · ``clock_hz`` (default 80e6) and ``cycles_per_instruction`` (default 1) ·
``inference_us`` where the device cannot count instructions · ``size_bytes`` of a request. They are checked at the
first ``ADVANCE``, before the device starts.
"""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import numpy as np

from tierwise.core.errors import ConfigurationError, TierwiseError
from tierwise.device.runtime import open_device
from tierwise.messaging.features import locate
from tierwise.runtimes.inputs import to_inputs
from tierwise.sim.answers import classes
from tierwise.sim.node import Events, message, run_node

if TYPE_CHECKING:
    from tierwise.device.runtime import FirmwareRuntime, InterpretedRuntime

_MICRO = 1e6


class FirmwareConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What ``INIT`` says of a device; other keys belong to the protocol."""

    build: str
    samples: str
    period_us: Annotated[int, msgspec.Meta(ge=1)] = 1_000_000
    threshold: Annotated[float, msgspec.Meta(ge=0)] = 0.5
    clock_hz: Annotated[float, msgspec.Meta(gt=0)] = 80e6
    cycles_per_instruction: Annotated[float, msgspec.Meta(gt=0)] = 1.0
    inference_us: Annotated[int, msgspec.Meta(ge=0)] | None = None
    size_bytes: Annotated[int, msgspec.Meta(ge=0)] = 0


def read_config(config: dict[str, Any]) -> FirmwareConfig:
    """The options in ``config``. Raises ``ConfigurationError`` naming the one that is missing or cannot be."""
    try:
        return msgspec.convert(config, FirmwareConfig, strict=False)
    except msgspec.ValidationError as error:
        raise ConfigurationError(f"the firmware node's config: {locate(error)}") from error


class FirmwareDevice:
    """One device: samples in, requests out."""

    def __init__(self, device: FirmwareRuntime | InterpretedRuntime, config: FirmwareConfig) -> None:
        self.device = device
        self.config = config
        self.samples = _samples(Path(config.samples))
        self.microseconds = _MICRO * config.cycles_per_instruction / config.clock_hz
        """An instruction takes as long."""
        self.due_us = self.count = 0
        self.free_us = 0
        self.held: Events = []

    def step(self, until_us: int) -> Events:
        """Requests up to a time. An inference that ends later sends its request in a later step."""
        while self.due_us < until_us:
            self._infer(self.due_us)
            self.due_us += self.config.period_us
        ready = [event for event in self.held if event["time_us"] < until_us]
        self.held = [event for event in self.held if event["time_us"] >= until_us]
        return ready

    def _infer(self, at_us: int) -> None:
        sample = self.samples[self.count % len(self.samples)]
        self.count += 1
        inputs, _ = to_inputs(sample, self.device.signature)
        answer = self.device.measure(inputs)[0]
        labels, sure = classes(answer.outputs[0].reshape(1, -1).astype(np.float64), 0.5)
        self.free_us = max(at_us, self.free_us) + self._duration_us(answer.instructions)
        if sure[0] < self.config.threshold:
            payload = {"label": int(labels[0]), "confidence": float(sure[0]), "instructions": answer.instructions}
            self.held.append(message(self.free_us, "request", payload, size_bytes=self.config.size_bytes))

    def _duration_us(self, instructions: int | None) -> int:
        if instructions is not None:
            return round(instructions * self.microseconds)
        if self.config.inference_us is None:
            raise ConfigurationError("this build counts no instructions; state `inference_us` in the config")
        return self.config.inference_us


def _samples(path: Path) -> np.ndarray[Any, Any]:
    try:
        with np.load(path, allow_pickle=False) as file:
            samples = np.asarray(file["x"])
    except (OSError, ValueError, KeyError) as error:
        raise ConfigurationError(f"cannot read the samples {path}: {error}") from error
    if samples.ndim == 0 or not samples.size:
        raise ConfigurationError(f"{path} holds no samples")
    return samples


def main() -> int:
    """Speaks the protocol on standard input and output; 1 with one line on standard error where the device fails."""
    with ExitStack() as stack:

        def step(until_us: int, events: Events, state: dict[str, Any]) -> Events:
            del events  # an answer changes nothing on the device
            if "device" not in state:
                config = read_config(state["config"])
                device = open_device(Path(config.build))
                stack.callback(device.close)
                state["device"] = FirmwareDevice(device, config)
            found: Events = state["device"].step(until_us)
            return found

        try:
            run_node(step)
        except TierwiseError as error:
            sys.stderr.write(f"firmware node: {error}\n")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
