"""Talking to a device over its serial line: one request at a time, each with a deadline and repeated when lost."""

from __future__ import annotations

import asyncio
import struct
from typing import TYPE_CHECKING, Any, Final

import msgspec

from tierwise.core.errors import InvalidInputError, TransportError
from tierwise.device.frames import Decoder, Frame, FrameType, encode

if TYPE_CHECKING:
    from collections.abc import Sequence

_NOT_MEASURED: Final = 0xFFFFFFFF
_READ_BYTES: Final = 65536
_LINE_ERRORS: Final = (1, 2, 3)
"""Error codes that mean a frame was damaged on its way: worth sending again."""
_LENGTH_ERROR: Final = 5
_ANSWER_VALUES: Final = 15
"""The shortest receive buffer of a device holds a payload of 64 bytes."""
_AFTER_DAMAGE_S: Final = 1.0
"""How long an answer may take once the device has reported damage. Its idle timeout is a quarter of a second."""


class DeviceError(TransportError):
    """The device does not answer, has started again, or says that something is wrong."""

    code = "device"


class Ready(msgspec.Struct, frozen=True):
    """What a device says when it has started."""

    protocol: int
    model_crc32: int


class Inference(msgspec.Struct, frozen=True):
    """What one inference gave. ``None`` where the device does not measure."""

    output: bytes
    """All outputs, one behind the other, as they lie in the device's memory."""
    instructions: int | None
    stack_bytes: int | None
    """Largest use of the stack since the device started."""


class DeviceLink:
    """One serial line. Not for use by several tasks at once, except that requests wait for each other."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, timeout_s: float = 30.0, tries: int = 3
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._timeout_s = timeout_s
        self._tries = tries
        self._decoder = Decoder()
        self._frames: list[Frame] = []
        self._sequence = 0
        self._one_at_a_time = asyncio.Lock()
        self._line_problem = ""

    async def wait_ready(self, timeout_s: float) -> Ready:
        """Waits for the device's READY. Raises ``DeviceError`` after ``timeout_s`` seconds."""
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    frame = await self._receive()
                    if frame.type == FrameType.READY:
                        return _ready(frame)
        except TimeoutError:
            raise DeviceError(f"the device was not ready within {timeout_s:g} s") from None

    async def info(self) -> dict[str, Any]:
        """What the device runs: name, version, CRC32, inputs and outputs, clock, memory."""
        frame = await self.request(FrameType.INFO, b"", FrameType.INFO)
        try:
            return msgspec.json.decode(frame.payload, type=dict[str, Any])
        except msgspec.MsgspecError as error:
            raise DeviceError(f"the device's INFO is not readable: {error}") from error

    async def infer(self, inputs: bytes) -> Inference:
        """One inference. ``inputs`` are the bytes of all inputs, one behind the other."""
        frame = await self.request(FrameType.INFER, inputs, FrameType.INFER)
        if len(frame.payload) < 8:  # noqa: PLR2004 - two counters
            raise DeviceError(f"the device's INFER answer has {len(frame.payload)} bytes; at least 8 are expected")
        instructions, stack = struct.unpack_from("<II", frame.payload)
        return Inference(
            output=frame.payload[8:],
            instructions=None if instructions == _NOT_MEASURED else instructions,
            stack_bytes=None if stack == _NOT_MEASURED else stack,
        )

    async def sense(self, inputs: bytes) -> bytes:
        """Gives the device a sensor reading; returns the features with which it asks the edge."""
        return (await self.request(FrameType.SENSE, inputs, FrameType.ASK)).payload

    async def answer(self, values: Sequence[float], *, failed: bool = False) -> int:
        """Brings the edge's answer to the device; returns how many it has received so far.

        The device has room for the first 15 values.
        """
        kept = values[:_ANSWER_VALUES]
        payload = struct.pack(f"<B{len(kept)}f", failed, *kept)
        frame = await self.request(FrameType.ANSWER, payload, FrameType.ANSWER)
        return int.from_bytes(frame.payload[:4], "little")

    async def request(self, kind: FrameType, payload: bytes, expected: FrameType) -> Frame:
        """Sends a frame and returns the answer, repeating what is lost.

        Raises ``InvalidInputError`` where the payload is not as long as the model's inputs, ``DeviceError`` where the
        device refuses, restarts or stays silent.
        """
        async with self._one_at_a_time:
            problem = ""
            for _ in range(self._tries):
                self._sequence = self._sequence % 255 + 1
                self._writer.write(encode(Frame(kind, self._sequence, payload)))
                try:
                    async with asyncio.timeout(self._timeout_s) as limit:
                        await self._writer.drain()
                        return await self._answer_to(self._sequence, expected, limit)
                except TimeoutError:
                    problem = self._line_problem or f"no answer within {self._timeout_s:g} s"
                except OSError as error:
                    raise DeviceError(f"the line to the device is broken: {error}") from error
            raise DeviceError(f"{kind.name} failed {self._tries} times; last: {problem}")

    async def _answer_to(self, sequence: int, expected: FrameType, limit: asyncio.Timeout) -> Frame:
        self._line_problem = ""
        while True:
            frame = await self._receive()
            if frame.type == FrameType.READY:
                raise DeviceError("the device has started again in the middle of a request")
            if frame.type == expected and frame.sequence == sequence:
                return frame
            if frame.type == FrameType.ERROR and frame.sequence in (sequence, 0):
                self._line_problem = _line_problem(frame)
                # Damage from before does not mean that this request was lost: it may still be answered.
                limit.reschedule(asyncio.get_running_loop().time() + min(_AFTER_DAMAGE_S, self._timeout_s))

    async def _receive(self) -> Frame:
        while not self._frames:
            data = await self._reader.read(_READ_BYTES)
            if not data:
                raise DeviceError("the device has ended")
            self._frames = self._decoder.feed(data)
        return self._frames.pop(0)


def _line_problem(frame: Frame) -> str:
    """What was wrong with a frame that was damaged on its way; raises where the device refuses a sound one."""
    code, text = (frame.payload[0], frame.payload[1:].decode("ascii", "replace")) if frame.payload else (0, "")
    if code == _LENGTH_ERROR:
        raise InvalidInputError(f"the device refuses the input: {text}")
    if code not in _LINE_ERRORS:
        raise DeviceError(f"the device refuses with error {code}: {text}")
    return text


def _ready(frame: Frame) -> Ready:
    if len(frame.payload) != 5:  # noqa: PLR2004 - version and CRC32
        raise DeviceError(f"the device's READY has {len(frame.payload)} bytes where 5 are expected")
    version, crc32 = struct.unpack("<BI", frame.payload)
    return Ready(version, crc32)
