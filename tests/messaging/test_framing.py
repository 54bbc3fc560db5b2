"""The beginning of a message is a message: same topic, id and properties, less payload."""

from __future__ import annotations

import mqtt5
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mqtt5 import PublishPacket, QoS

from tierwise.messaging.codec import MQTT5, MQTT311, Codec
from tierwise.messaging.framing import HEAD_BYTES, packet_size, shortened

CODECS = pytest.mark.parametrize("codec", [MQTT5, MQTT311], ids=["5", "3.1.1"])
QOS = [QoS.AT_MOST_ONCE, QoS.AT_LEAST_ONCE]


@CODECS
@given(topic=st.text("abc/", min_size=1, max_size=200), size=st.integers(0, 50_000), cut=st.integers(400, 50_000))
@pytest.mark.parametrize("qos", QOS)
def test_beginning_is_a_packet_with_the_size_of_the_whole(
    codec: Codec, qos: QoS, topic: str, size: int, cut: int
) -> None:
    packet_id = 7 if qos is QoS.AT_LEAST_ONCE else None
    properties = {"user_properties": [("device_id", "d")]} if codec is MQTT5 else {}
    packet = PublishPacket(topic, b"x" * size, qos=qos, packet_id=packet_id, **properties)  # type: ignore[arg-type]  # fields by name
    data = codec.write(packet)
    assert packet_size(data) == packet_size(data[:5]) == len(data)
    short, payload_bytes = shortened(data[:cut], has_properties=codec is MQTT5)
    read, length = codec.read(memoryview(short))
    assert payload_bytes == size
    assert isinstance(read, PublishPacket)
    assert length == len(short) <= min(cut, len(data))
    assert (read.topic, read.qos, read.packet_id) == (topic, qos, packet_id)
    assert read.user_properties == packet.user_properties
    assert len(read.payload) == size - max(0, len(data) - cut)


def test_properties_beyond_the_beginning_are_left_out() -> None:
    properties = [("k", "v" * 60_000)] * 4
    data = PublishPacket(
        "t" * 65_535, b"payload", qos=QoS.AT_LEAST_ONCE, packet_id=9, user_properties=properties
    ).write()
    short, payload_bytes = shortened(data[:HEAD_BYTES], has_properties=True)
    assert payload_bytes == len(b"payload")
    expected = PublishPacket("t" * 65_535, b"", qos=QoS.AT_LEAST_ONCE, packet_id=9)
    assert mqtt5.read(memoryview(short)) == (expected, len(short))


@pytest.mark.parametrize(
    ("head", "has_properties", "said"),
    [
        (b"\x30\x03\x00\x09t", False, "topic"),
        (b"\x32\x03\x00\x01t", False, "topic"),
        (b"\x30\x03\x00\x01t", True, "topic"),
        (b"\x30\x04\x00\x01t\x05", True, "properties"),
    ],
)
def test_fields_beyond_the_packet_are_refused(head: bytes, has_properties: bool, said: str) -> None:  # noqa: FBT001 -- a parameter of the test
    with pytest.raises(ValueError, match=said):
        shortened(head, has_properties=has_properties)
