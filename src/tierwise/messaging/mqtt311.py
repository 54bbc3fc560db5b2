"""MQTT 3.1.1 on the wire, with the packet objects of the ``mqtt5`` codec.

A broker that does not speak MQTT 5 is spoken to in 3.1.1; everything above stays the same. The older form has no
properties, so response topics, correlation data, expiry, content types and user properties do not travel, and an
acknowledgement carries no reason. ``read`` and ``write`` behave like their counterparts of ``mqtt5``: ``IndexError``
says that the buffer holds no whole packet yet, ``ValueError`` that it is not MQTT 3.1.1 (OASIS standard, 2014).
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

from mqtt5 import (
    ConnAckPacket,
    ConnAckReasonCode,
    ConnectPacket,
    DisconnectPacket,
    PingReqPacket,
    PingRespPacket,
    PubAckPacket,
    PubCompPacket,
    PublishPacket,
    PubRecPacket,
    PubRelPacket,
    QoS,
    SubAckPacket,
    SubAckReasonCode,
    SubscribePacket,
    TopicFilter,
    UnsubAckPacket,
    UnsubscribePacket,
    Will,
)

from tierwise.messaging.framing import frame, read_length

if TYPE_CHECKING:
    from collections.abc import Callable

    from mqtt5 import Packet

_QOS = (QoS.AT_MOST_ONCE, QoS.AT_LEAST_ONCE, QoS.EXACTLY_ONCE)
_MAX_FIELD = 65_535

_CONNACK_CODES = {
    0: ConnAckReasonCode.SUCCESS,
    1: ConnAckReasonCode.UNSUPPORTED_PROTOCOL_VERSION,
    2: ConnAckReasonCode.CLIENT_ID_NOT_VALID,
    3: ConnAckReasonCode.SERVER_UNAVAILABLE,
    4: ConnAckReasonCode.BAD_USER_NAME_OR_PASSWORD,
    5: ConnAckReasonCode.NOT_AUTHORIZED,
}
_SERVER_UNAVAILABLE = 3
_CONNACK_BYTES = {reason.value: code for code, reason in _CONNACK_CODES.items()}
_SUBACK_CODES = {
    0: SubAckReasonCode.GRANTED_QOS_AT_MOST_ONCE,
    1: SubAckReasonCode.GRANTED_QOS_AT_LEAST_ONCE,
    2: SubAckReasonCode.GRANTED_QOS_EXACTLY_ONCE,
    0x80: SubAckReasonCode.UNSPECIFIED_ERROR,
}
_PUBLISH = 0x30
_BARE: dict[int, Callable[[], Packet]] = {0xC0: PingReqPacket, 0xD0: PingRespPacket, 0xE0: DisconnectPacket}
_IDENTIFIED: dict[int, Callable[[int], Packet]] = {
    0x40: PubAckPacket,
    0x50: PubRecPacket,
    0x62: PubRelPacket,
    0x70: PubCompPacket,
    0xB0: lambda packet_id: UnsubAckPacket(packet_id, []),
}


def write(packet: Packet) -> bytes:
    """The packet in the 3.1.1 form. Raises ``ValueError`` where 3.1.1 cannot say it."""
    writer = _writers.get(type(packet))
    if writer is None:
        raise ValueError(f"MQTT 3.1.1 has no {type(packet).__name__}")
    return writer(packet)


def read(buffer: memoryview) -> tuple[Packet, int]:
    """The first packet in ``buffer`` and its length in bytes."""
    start, length = read_length(buffer)
    end = start + length
    if len(buffer) < end:
        raise IndexError("not enough bytes")
    try:
        return _read_body(buffer[0], bytes(buffer[start:end])), end
    except struct.error as error:
        raise ValueError(f"truncated packet: {error}") from error
    except IndexError as error:
        raise ValueError("truncated packet") from error


def _read_body(head: int, body: bytes) -> Packet:
    if head & 0xF0 == _PUBLISH:
        return _read_publish(head, body)
    if head in _BARE:
        _exactly(body, 0)
        return _BARE[head]()
    if head in _IDENTIFIED:
        _exactly(body, 2)
        return _IDENTIFIED[head](_packet_id(body))
    reader = _readers.get(head)
    if reader is None:
        raise ValueError(f"invalid packet type or flags 0x{head:02x}")
    return reader(body)


def _write_publish(packet: PublishPacket) -> bytes:
    head = 0x30 | packet.duplicate << 3 | packet.qos.value << 1 | packet.retain
    if packet.qos is QoS.AT_MOST_ONCE:
        return frame(head, _text(packet.topic), packet.payload)
    if packet.packet_id is None:
        raise ValueError("a publish at QoS 1 or 2 needs a packet id")
    return frame(head, _text(packet.topic), packet.packet_id.to_bytes(2), packet.payload)


def _write_connack(packet: ConnAckPacket) -> bytes:
    code = _CONNACK_BYTES.get(packet.reason_code.value, _SERVER_UNAVAILABLE)
    return frame(0x20, bytes((packet.session_present, code)))


def _write_subscribe(packet: SubscribePacket) -> bytes:
    entries = (_text(entry.pattern) + bytes((entry.max_qos.value,)) for entry in packet.topic_filters)
    return frame(0x82, packet.packet_id.to_bytes(2), *entries)


def _write_suback(packet: SubAckPacket) -> bytes:
    codes = bytes(min(code.value, 0x80) for code in packet.reason_codes)
    return frame(0x90, packet.packet_id.to_bytes(2), codes)


def _write_unsubscribe(packet: UnsubscribePacket) -> bytes:
    return frame(0xA2, packet.packet_id.to_bytes(2), *map(_text, packet.patterns))


def _write_identified(head: int) -> Callable[[Any], bytes]:
    return lambda packet: frame(head, packet.packet_id.to_bytes(2))


def _read_publish(head: int, body: bytes) -> PublishPacket:
    qos = _qos(head >> 1 & 3)
    topic, at = _read_text(body, 0)
    packet_id = None
    if qos is not QoS.AT_MOST_ONCE:
        packet_id = _packet_id(body[at : at + 2])
        at += 2
    return PublishPacket(
        topic, body[at:], qos=qos, packet_id=packet_id, retain=bool(head & 1), duplicate=bool(head & 8)
    )


def _write_connect(packet: ConnectPacket) -> bytes:
    will = packet.will
    flags = packet.clean_start << 1
    fields = [_text(packet.client_id)]
    if will is not None:
        flags |= 0x04 | will.qos.value << 3 | will.retain << 5
        fields += [_text(will.topic), _binary(will.payload or b"")]
    if packet.username is not None:
        flags |= 0x80
        fields.append(_text(packet.username))
        if packet.password is not None:
            flags |= 0x40
            fields.append(_binary(packet.password))
    elif packet.password is not None:
        raise ValueError("MQTT 3.1.1 takes no password without a user name")
    return frame(0x10, b"\x00\x04MQTT\x04", bytes((flags,)), packet.keep_alive.to_bytes(2), *fields)


def _read_connect(body: bytes) -> ConnectPacket:
    protocol, at = _read_text(body, 0)
    level, flags, keep_alive = struct.unpack_from("!BBH", body, at)
    if protocol != "MQTT" or level != 4:  # noqa: PLR2004  (the level of 3.1.1)
        raise ValueError(f"protocol {protocol!r} level {level} is not MQTT 3.1.1")
    if flags & 1 or (flags & 0x40 and not flags & 0x80) or (flags & 0x38 and not flags & 0x04):
        raise ValueError(f"invalid connect flags 0x{flags:02x}")
    client_id, at = _read_text(body, at + 4)
    will = username = password = None
    if flags & 0x04:
        topic, at = _read_text(body, at)
        payload, at = _read_binary(body, at)
        will = Will(topic, payload=payload, qos=_qos(flags >> 3 & 3), retain=bool(flags & 0x20))
    if flags & 0x80:
        username, at = _read_text(body, at)
    if flags & 0x40:
        password, at = _read_binary(body, at)
    _exactly(body, at)
    return ConnectPacket(
        client_id,
        username=username,
        password=password,
        clean_start=bool(flags & 0x02),
        will=will,
        keep_alive=keep_alive,
    )


def _read_connack(body: bytes) -> ConnAckPacket:
    _exactly(body, 2)
    flags, code = body
    if flags > 1 or code not in _CONNACK_CODES:
        raise ValueError(f"invalid connect acknowledgement 0x{body.hex()}")
    return ConnAckPacket(session_present=bool(flags), reason_code=_CONNACK_CODES[code])


def _read_subscribe(body: bytes) -> SubscribePacket:
    filters, at = [], 2
    while at < len(body):
        pattern, at = _read_text(body, at)
        filters.append(TopicFilter(pattern, max_qos=_qos(body[at])))
        at += 1
    if not filters:
        raise ValueError("a subscription without a topic filter")
    return SubscribePacket(_packet_id(body[:2]), filters)


def _read_suback(body: bytes) -> SubAckPacket:
    packet_id, codes = _packet_id(body[:2]), body[2:]
    if not codes or any(code not in _SUBACK_CODES for code in codes):
        raise ValueError(f"invalid subscribe return codes 0x{codes.hex()}")
    return SubAckPacket(packet_id, [_SUBACK_CODES[code] for code in codes])


def _read_unsubscribe(body: bytes) -> UnsubscribePacket:
    patterns, at = [], 2
    while at < len(body):
        pattern, at = _read_text(body, at)
        patterns.append(pattern)
    if not patterns:
        raise ValueError("an unsubscription without a topic filter")
    return UnsubscribePacket(_packet_id(body[:2]), patterns)


def _text(text: str) -> bytes:
    return _binary(text.encode())


def _binary(data: bytes) -> bytes:
    if len(data) > _MAX_FIELD:
        raise ValueError(f"a field of {len(data)} bytes, at most {_MAX_FIELD} fit")
    return len(data).to_bytes(2) + data


def _read_text(body: bytes, at: int) -> tuple[str, int]:
    data, at = _read_binary(body, at)
    return data.decode(), at


def _read_binary(body: bytes, at: int) -> tuple[bytes, int]:
    (length,) = struct.unpack_from("!H", body, at)
    end = at + 2 + length
    if end > len(body):
        raise ValueError("a field reaches beyond its packet")
    return body[at + 2 : end], end


def _packet_id(data: bytes) -> int:
    (packet_id,) = struct.unpack("!H", data)
    if not packet_id:
        raise ValueError("packet id 0")
    return int(packet_id)


def _qos(value: int) -> QoS:
    if value >= len(_QOS):
        raise ValueError(f"invalid QoS {value}")
    return _QOS[value]


def _exactly(body: bytes, size: int) -> None:
    if len(body) != size:
        raise ValueError(f"a packet body of {len(body)} bytes, expected {size}")


_readers: dict[int, Callable[[bytes], Packet]] = {
    0x10: _read_connect,
    0x20: _read_connack,
    0x82: _read_subscribe,
    0x90: _read_suback,
    0xA2: _read_unsubscribe,
}
_writers: dict[type, Callable[[Any], bytes]] = {
    ConnectPacket: _write_connect,
    ConnAckPacket: _write_connack,
    PublishPacket: _write_publish,
    PubAckPacket: _write_identified(0x40),
    PubRecPacket: _write_identified(0x50),
    PubRelPacket: _write_identified(0x62),
    PubCompPacket: _write_identified(0x70),
    SubscribePacket: _write_subscribe,
    SubAckPacket: _write_suback,
    UnsubscribePacket: _write_unsubscribe,
    UnsubAckPacket: _write_identified(0xB0),
    PingReqPacket: lambda _: frame(0xC0),
    PingRespPacket: lambda _: frame(0xD0),
    DisconnectPacket: lambda _: frame(0xE0),
}
