"""The ``firmware`` runtime: a built device behind the same Protocol as every other runtime."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
import numpy as np

from tierwise.core.errors import InferenceError, InvalidInputError, TierwiseError
from tierwise.device.emulator import Emulator
from tierwise.device.manifest import TFLM, read_build
from tierwise.runtimes import load_runtime
from tierwise.runtimes.failures import misfit
from tierwise.runtimes.inputs import to_inputs
from tierwise.runtimes.quantization import dequantize, quantize

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping, Sequence
    from pathlib import Path
    from typing import Self

    from numpy.typing import NDArray

    from tierwise.core.tensors import Signature, TensorSpec
    from tierwise.device.link import Inference

T = TypeVar("T")


class Measured(msgspec.Struct, frozen=True):
    """One sample's answer from a device."""

    outputs: tuple[NDArray[Any], ...]
    """Real values, batch dimension of 1 first."""
    raw: tuple[NDArray[Any], ...]
    """The same as the device's own integers."""
    instructions: int | None
    stack_bytes: int | None


class FirmwareRuntime:
    """A device that runs as long as this object is open. One call at a time.

    It lives on an event loop in a thread of its own, so that callers need none. ``measure`` gives what only a device
    knows; ``run`` is the common contract.
    """

    name = "firmware"

    def __init__(self, folder: Path) -> None:
        """Starts the device built in ``folder``. Raises like ``Emulator.start``."""
        self.emulator = Emulator(folder)
        self.signature: Signature = self.emulator.build.signature
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=f"device {folder.name}", daemon=True)
        self._thread.start()
        try:
            self._wait(self.emulator.start())
        except BaseException:
            self._end()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def measure(self, inputs: Mapping[str, NDArray[Any]]) -> list[Measured]:
        """One ``Measured`` for each sample of the batch; inputs as for ``run``."""
        if self._loop.is_closed():
            raise InferenceError("the device is closed")
        if error := misfit(self.signature, inputs):
            raise error
        columns = [_to_device(inputs[spec.name], spec) for spec in self.signature.inputs]
        answers = []
        for at in range(len(columns[0])):
            payload = b"".join(column[at : at + 1].tobytes() for column in columns)
            try:
                answers.append(measured(self._wait(self.emulator.infer(payload)), self.signature))
            except TierwiseError as error:
                raise InferenceError(f"the device failed on sample {at}: {error}") from error
        return answers

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> Sequence[NDArray[Any]]:
        """See ``Runtime.run``."""
        return stack_outputs(self.measure(inputs))

    def info(self) -> dict[str, Any]:
        """What the device says it runs."""
        return self._wait(self.emulator.link.info())

    def close(self) -> None:
        """Ends the device."""
        if not self._loop.is_closed():
            self._wait(self.emulator.stop())
            self._end()

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def _end(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class InterpretedRuntime:
    """TensorFlow Lite Micro in place of a device, where nothing could be compiled. Measures nothing."""

    name = "tflm"

    def __init__(self, folder: Path) -> None:
        build = read_build(folder)
        self.signature: Signature = build.signature
        self._runtime = load_runtime(folder / build.firmware, runtime="tflm")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def measure(self, inputs: Mapping[str, NDArray[Any]]) -> list[Measured]:
        """One ``Measured`` for each sample; instructions and stack are ``None``."""
        outputs = self.run(inputs)
        raw = [_to_device(values, spec) for values, spec in zip(outputs, self.signature.outputs, strict=True)]
        return [
            Measured(tuple(v[at : at + 1] for v in outputs), tuple(r[at : at + 1] for r in raw), None, None)
            for at in range(len(outputs[0]))
        ]

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> Sequence[NDArray[Any]]:
        """See ``Runtime.run``."""
        names = [spec.name for spec in self._runtime.signature.inputs]
        by_position = [inputs[spec.name] for spec in self.signature.inputs]
        return self._runtime.run(dict(zip(names, by_position, strict=True)))

    def close(self) -> None:
        """Frees the interpreter."""
        self._runtime.close()


def open_device(folder: Path) -> FirmwareRuntime | InterpretedRuntime:
    """The device built in ``folder``, started: firmware in QEMU, a process of this machine, or the interpreter."""
    return InterpretedRuntime(folder) if read_build(folder).target == TFLM else FirmwareRuntime(folder)


def stack_outputs(answers: Sequence[Measured]) -> list[NDArray[Any]]:
    """Outputs of all samples as one batch each."""
    return [np.concatenate(column) for column in zip(*(answer.outputs for answer in answers), strict=True)]


def measured(inference: Inference, signature: Signature) -> Measured:
    """What a device answered, as arrays. Raises ``InferenceError`` where its length does not fit."""
    raw, at = [], 0
    for spec in signature.outputs:
        shape = tuple(size or 1 for size in spec.shape)
        count = int(np.prod(shape))
        if at + count * np.dtype(spec.dtype).itemsize > len(inference.output):
            raise InferenceError(f"the device answered {len(inference.output)} bytes, too few for its outputs")
        values = np.frombuffer(inference.output, np.dtype(spec.dtype), count=count, offset=at).reshape(shape)
        raw.append(values)
        at += values.nbytes
    outputs = [v if s.scale is None else dequantize(v, s) for v, s in zip(raw, signature.outputs, strict=True)]
    return Measured(tuple(outputs), tuple(raw), inference.instructions, inference.stack_bytes)


def encode_samples(
    features: NDArray[Any] | Mapping[str, NDArray[Any]], signature: Signature
) -> tuple[list[bytes], bool]:
    """Each sample as the device's bytes (all inputs, one behind the other), and whether the features were a batch.

    Raises ``InvalidInputError`` where they do not fit.
    """
    inputs, is_batch = to_inputs(features, signature)
    columns = [_to_device(inputs[spec.name], spec) for spec in signature.inputs]
    return [b"".join(column[at : at + 1].tobytes() for column in columns) for at in range(len(columns[0]))], is_batch


def encode_sample(features: NDArray[Any] | Mapping[str, NDArray[Any]], signature: Signature) -> bytes:
    """One sample as the device's bytes. Raises ``InvalidInputError`` also for a batch."""
    samples, is_batch = encode_samples(features, signature)
    if is_batch:
        raise InvalidInputError("a sensor senses one sample at a time; the features are a batch")
    return samples[0]


def _to_device(values: NDArray[Any], spec: TensorSpec) -> NDArray[Any]:
    """The integers that the device takes; an array that has them already stays as it is."""
    if spec.scale is None or values.dtype == spec.dtype:
        return np.ascontiguousarray(values)
    return quantize(values, spec)
