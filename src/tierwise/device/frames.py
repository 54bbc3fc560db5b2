"""Frames on the serial line, as ``c/firmware/frames.h`` defines them.

0x7E, type, sequence, length (2), payload, CRC-16/CCITT-FALSE (2) of all after the 0x7E; numbers little-endian.
"""

from __future__ import annotations

import binascii
import struct
from enum import IntEnum
from typing import Final, NamedTuple

START: Final = 0x7E
LONGEST_PAYLOAD: Final = 0xFFFF
_HEAD: Final = struct.Struct("<BBBH")
_CRC: Final = struct.Struct("<H")


class FrameType(IntEnum):
    """What a frame is about. A device answers with the type it was asked with, or with ERROR."""

    READY = 1
    INFO = 2
    INFER = 3
    SENSE = 4
    ASK = 5
    ANSWER = 6
    ERROR = 0x7F


class Frame(NamedTuple):
    """One frame. ``type`` may be a number that ``FrameType`` does not know."""

    type: int
    sequence: int
    payload: bytes


def encode(frame: Frame) -> bytes:
    """The bytes of ``frame`` on the line. Raises ``ValueError`` where the payload has more than 65,535 bytes."""
    if len(frame.payload) > LONGEST_PAYLOAD:
        raise ValueError(f"a payload of {len(frame.payload)} bytes does not fit a frame")
    head = _HEAD.pack(START, frame.type, frame.sequence, len(frame.payload))
    body = head[1:] + frame.payload
    return head[:1] + body + _CRC.pack(binascii.crc_hqx(body, 0xFFFF))


class Decoder:
    """Finds frames in a stream of bytes. Noise and broken frames are passed over and counted in ``errors``."""

    def __init__(self, longest: int = LONGEST_PAYLOAD) -> None:
        self.longest = longest
        self.errors = 0
        self._bytes = bytearray()

    def feed(self, data: bytes) -> list[Frame]:
        """Takes received bytes; returns the frames that are complete now."""
        self._bytes += data
        frames = []
        while (frame := self._next()) is not None:
            frames.append(frame)
        return frames

    def _next(self) -> Frame | None:
        while self._synchronise() and len(self._bytes) >= _HEAD.size:
            _, kind, sequence, length = _HEAD.unpack_from(self._bytes)
            end = _HEAD.size + length
            if length <= self.longest and len(self._bytes) < end + _CRC.size:
                return None
            if length <= self.longest and self._crc_fits(end):
                frame = Frame(kind, sequence, bytes(self._bytes[_HEAD.size : end]))
                del self._bytes[: end + _CRC.size]
                return frame
            self.errors += 1
            del self._bytes[0]
        return None

    def _crc_fits(self, end: int) -> bool:
        (crc,) = _CRC.unpack_from(self._bytes, end)
        return binascii.crc_hqx(bytes(self._bytes[1:end]), 0xFFFF) == int(crc)

    def _synchronise(self) -> bool:
        """Drops what comes before the next start; whether anything is left."""
        at = self._bytes.find(START)
        del self._bytes[: at if at >= 0 else len(self._bytes)]
        return bool(self._bytes)
