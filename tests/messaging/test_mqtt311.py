"""The 3.1.1 codec: what it writes it reads, and what it reads is MQTT 3.1.1."""

from __future__ import annotations

from typing import TYPE_CHECKING

import mqtt5
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mqtt5 import ConnAckReasonCode, QoS, SubAckReasonCode

from tierwise.messaging import mqtt311

if TYPE_CHECKING:
    from mqtt5 import Packet

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=50)
topics = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="+#"), min_size=1, max_size=50)
payloads = st.binary(max_size=300)
packet_ids = st.integers(1, 65_535)
qualities = st.sampled_from([QoS.AT_MOST_ONCE, QoS.AT_LEAST_ONCE, QoS.EXACTLY_ONCE])
wills = st.builds(mqtt5.Will, topics, payload=payloads, qos=qualities, retain=st.booleans())
levels = st.text("ab ü", min_size=1, max_size=5) | st.just("+")
patterns = st.lists(levels, min_size=1, max_size=4).map("/".join)
filters = st.builds(mqtt5.TopicFilter, patterns, max_qos=qualities)
suback_codes = st.sampled_from(
    [
        SubAckReasonCode.GRANTED_QOS_AT_MOST_ONCE,
        SubAckReasonCode.GRANTED_QOS_AT_LEAST_ONCE,
        SubAckReasonCode.GRANTED_QOS_EXACTLY_ONCE,
        SubAckReasonCode.UNSPECIFIED_ERROR,
    ]
)
connack_codes = st.sampled_from(
    [
        ConnAckReasonCode.SUCCESS,
        ConnAckReasonCode.UNSUPPORTED_PROTOCOL_VERSION,
        ConnAckReasonCode.CLIENT_ID_NOT_VALID,
        ConnAckReasonCode.SERVER_UNAVAILABLE,
        ConnAckReasonCode.BAD_USER_NAME_OR_PASSWORD,
        ConnAckReasonCode.NOT_AUTHORIZED,
    ]
)


@st.composite
def connects(draw: st.DrawFn) -> mqtt5.ConnectPacket:
    username = draw(st.none() | texts)
    return mqtt5.ConnectPacket(
        draw(texts),
        username=username,
        password=None if username is None else draw(st.none() | payloads),
        clean_start=draw(st.booleans()),
        will=draw(st.none() | wills),
        keep_alive=draw(st.integers(0, 65_535)),
    )


publishes = st.one_of(
    st.builds(mqtt5.PublishPacket, topics, payloads, retain=st.booleans()),
    st.builds(
        mqtt5.PublishPacket,
        topics,
        payloads,
        qos=st.sampled_from([QoS.AT_LEAST_ONCE, QoS.EXACTLY_ONCE]),
        packet_id=packet_ids,
        retain=st.booleans(),
        duplicate=st.booleans(),
    ),
)
packets: st.SearchStrategy[Packet] = st.one_of(
    connects(),
    publishes,
    st.builds(mqtt5.ConnAckPacket, session_present=st.booleans(), reason_code=connack_codes),
    st.builds(mqtt5.PubAckPacket, packet_ids),
    st.builds(mqtt5.PubRecPacket, packet_ids),
    st.builds(mqtt5.PubRelPacket, packet_ids),
    st.builds(mqtt5.PubCompPacket, packet_ids),
    st.builds(mqtt5.SubscribePacket, packet_ids, st.lists(filters, min_size=1, max_size=5)),
    st.builds(mqtt5.SubAckPacket, packet_ids, st.lists(suback_codes, min_size=1, max_size=5)),
    st.builds(mqtt5.UnsubscribePacket, packet_ids, st.lists(patterns, min_size=1, max_size=5)),
    st.builds(mqtt5.UnsubAckPacket, packet_ids, st.just([])),
    st.builds(mqtt5.PingReqPacket),
    st.builds(mqtt5.PingRespPacket),
    st.builds(mqtt5.DisconnectPacket),
)


@given(packets, st.binary(max_size=10))
def test_what_is_written_is_read(packet: Packet, rest: bytes) -> None:
    data = mqtt311.write(packet)
    assert mqtt311.read(memoryview(data + rest)) == (packet, len(data))


@given(packets, st.data())
def test_part_of_a_packet_asks_for_more(packet: Packet, data: st.DataObject) -> None:
    encoded = mqtt311.write(packet)
    cut = data.draw(st.integers(0, len(encoded) - 1))
    with pytest.raises(IndexError):
        mqtt311.read(memoryview(encoded[:cut]))


@given(st.binary(max_size=100))
def test_any_bytes_are_a_packet_or_a_plain_error(data: bytes) -> None:
    try:
        packet, length = mqtt311.read(memoryview(data))
    except (IndexError, ValueError):
        return
    assert 2 <= length <= len(data)
    assert mqtt311.read(memoryview(mqtt311.write(packet)))[0] == packet


@pytest.mark.parametrize(
    ("packet", "expected"),
    [
        # The examples of the standard and of brokers' captures.
        (mqtt5.ConnectPacket("a", clean_start=True, keep_alive=60), "10 0d 0004 4d515454 04 02 003c 0001 61"),
        (mqtt5.PublishPacket("a/b", b"hi"), "30 07 0003 612f62 6869"),
        (mqtt5.PublishPacket("a", b"", qos=QoS.AT_LEAST_ONCE, packet_id=10, duplicate=True), "3a 05 0001 61 000a"),
        (mqtt5.SubscribePacket(1, [mqtt5.TopicFilter("a", max_qos=QoS.AT_LEAST_ONCE)]), "82 06 0001 0001 61 01"),
        (mqtt5.UnsubscribePacket(2, ["a"]), "a2 05 0002 0001 61"),
        (mqtt5.PubRelPacket(3), "62 02 0003"),
        (mqtt5.PingReqPacket(), "c0 00"),
        (mqtt5.DisconnectPacket(), "e0 00"),
    ],
)
def test_bytes_are_those_of_the_standard(packet: Packet, expected: str) -> None:
    assert mqtt311.write(packet) == bytes.fromhex(expected)


@pytest.mark.parametrize(
    ("packet", "reason"),
    [
        (mqtt5.AuthPacket(), "AuthPacket"),
        (mqtt5.ConnectPacket("a", password=b"x"), "password"),
    ],
)
def test_what_3_1_1_cannot_say_is_refused(packet: Packet, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        mqtt311.write(packet)


def test_large_payload_needs_a_longer_length() -> None:
    for size in (120, 121, 130, 16_380, 16_390, 2_100_000):
        packet = mqtt5.PublishPacket("a", bytes(size))
        data = mqtt311.write(packet)
        assert mqtt311.read(memoryview(data)) == (packet, len(data))
