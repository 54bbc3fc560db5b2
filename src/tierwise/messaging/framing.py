"""Where a packet ends, which MQTT 5 and 3.1.1 say alike, and the beginning of one that is too large to be kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

HEAD_BYTES = 2**17
"""How much of a packet that is too large is kept: any topic fits, and properties of everyday length."""

_MAX_LENGTH_BYTES = 4
_MAX_REMAINING = 268_435_455
_MORE = 0x80
"""Bit of a length byte that says another one follows."""
_PUBLISH = 0x30
_QOS_BITS = 0x06


def frame(head: int, *parts: bytes) -> bytes:
    """A whole packet: ``head`` is its first byte, ``parts`` are its body. Raises ``ValueError`` beyond 256 MiB."""
    body = b"".join(parts)
    remaining = len(body)
    if remaining > _MAX_REMAINING:
        raise ValueError(f"a packet of {remaining} bytes is too large for MQTT")
    encoded = bytearray((head,))
    while remaining >= _MORE:
        encoded.append(remaining & 0x7F | _MORE)
        remaining >>= 7
    encoded.append(remaining)
    return bytes(encoded) + body


def read_length(buffer: Sequence[int], at: int = 1) -> tuple[int, int]:
    """Offset behind the length that is written at ``at``, and the length. ``IndexError`` where bytes are missing."""
    length = 0
    for index in range(_MAX_LENGTH_BYTES):
        byte = buffer[at + index]
        length |= (byte & 0x7F) << 7 * index
        if byte < _MORE:
            return at + index + 1, length
    raise ValueError("invalid remaining length")


def packet_size(data: bytes) -> int:
    """Bytes of the packet that begins in ``data``, 0 where its header is not complete."""
    try:
        start, length = read_length(data)
    except IndexError:
        return 0
    return start + length


def is_publish(head: bytes) -> bool:
    """Whether the packet that begins with ``head`` is a PUBLISH."""
    return head[0] & 0xF0 == _PUBLISH


def shortened(head: bytes, *, has_properties: bool) -> tuple[bytes, int]:
    """A PUBLISH whose payload is cut off where ``head`` ends, and how many bytes the payload really has.

    ``head`` is its first ``HEAD_BYTES`` bytes, or all of it. Properties that reach beyond it (MQTT 5 only) are left
    out. Raises ``ValueError`` where topic or properties reach beyond the packet.
    """
    start, remaining = read_length(head)
    size = start + remaining
    at = start + 2 + int.from_bytes(head[start : start + 2])
    if head[0] & _QOS_BITS:
        at += 2
    if at + has_properties > size:
        raise ValueError("a topic reaches beyond its packet")
    if not has_properties:
        return frame(head[0], head[start:]), size - at
    properties_at, length = read_length(head, at)
    payload_at = properties_at + length
    if payload_at > size:
        raise ValueError("properties reach beyond their packet")
    if payload_at > len(head):
        return frame(head[0], head[start:at], b"\x00"), size - payload_at
    return frame(head[0], head[start:]), size - payload_at
