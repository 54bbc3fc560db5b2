"""Framing: whatever the pieces, the packets come out whole; whatever the bytes, nothing breaks."""

from __future__ import annotations

import asyncio
import itertools
import os
from typing import TYPE_CHECKING, Any
from unittest import mock

import mqtt5
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mqtt5 import PublishPacket, QoS

from tierwise.messaging import mqtt311, wire
from tierwise.messaging.codec import MQTT5, MQTT311, Codec
from tierwise.messaging.wire import Wire

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mqtt5 import Packet

MAX_PACKET_SIZE = 2000
HEAD_BYTES = 500


class Transport(asyncio.Transport):
    """Takes what is written, and remembers in how many pieces."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.closed = False

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        self.written.append(bytes(data))

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    abort = close

    def pause_reading(self) -> None:
        pass

    resume_reading = pause_reading


class Received:
    """A wire that was just accepted, and what it has delivered."""

    def __init__(self, codec: Codec) -> None:
        self.messages: list[PublishPacket] = []
        self.oversize: list[tuple[PublishPacket, int]] = []
        self.others: list[Packet] = []
        self.answer: Callable[[PublishPacket], None] = lambda _: None
        self.wire = Wire(
            codec,
            MAX_PACKET_SIZE,
            on_message=self._on_message,
            on_oversize=self._on_oversize,
            on_packet=lambda _, packet: self.others.append(packet),
            on_writable=lambda: None,
        )
        self.transport = Transport()
        self.wire.connection_made(self.transport)
        self.wire.data_received(codec.write(mqtt5.ConnAckPacket()))
        self.wire.begin()

    def _on_oversize(self, packet: PublishPacket, payload_bytes: int, acknowledge: Callable[[], None]) -> None:
        self.oversize.append((packet, payload_bytes))
        acknowledge()

    def _on_message(self, packet: PublishPacket, acknowledge: Callable[[], None]) -> None:
        self.messages.append(packet)
        self.answer(packet)
        acknowledge()


CODECS = pytest.mark.parametrize("codec", [MQTT5, MQTT311], ids=["5", "3.1.1"])


@pytest.fixture(autouse=True, scope="module")
def _short_heads() -> Iterator[None]:
    """So that packets of a few kilobytes have more than a beginning."""
    with mock.patch.object(wire, "HEAD_BYTES", HEAD_BYTES):
        yield


@pytest.fixture(autouse=True, scope="module")
def _quiet_codec() -> Iterator[None]:
    """The codec prints a backtrace for each of its panics."""
    before = os.environ.get("RUST_BACKTRACE")
    os.environ["RUST_BACKTRACE"] = "0"
    yield
    if before is None:
        del os.environ["RUST_BACKTRACE"]
    else:
        os.environ["RUST_BACKTRACE"] = before


@CODECS
@given(
    sizes=st.lists(st.integers(0, 3 * MAX_PACKET_SIZE), max_size=8),
    cuts=st.lists(st.integers(0, 10_000), max_size=12),
)
@settings(max_examples=80)
def test_packets_come_out_whole_or_as_their_beginning_however_they_were_cut(
    codec: Codec, sizes: list[int], cuts: list[int]
) -> None:
    async def run() -> None:
        packets = [
            PublishPacket("t", (b"%d" % index) * size, qos=QoS.AT_LEAST_ONCE, packet_id=index)
            for index, size in enumerate(sizes, 1)
        ]
        encoded = [codec.write(packet) for packet in packets]
        data = b"".join(encoded)
        received = Received(codec)
        edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
        for start, end in itertools.pairwise(edges):
            if start < end:
                received.wire.data_received(data[start:end])
                kept = sum(map(len, received.wire._parts)) + len(received.wire._oversize_head)
                assert kept <= MAX_PACKET_SIZE + end - start, "only beginnings are kept"
        fitting = [p for p, e in zip(packets, encoded, strict=True) if len(e) <= MAX_PACKET_SIZE]
        larger = [p for p, e in zip(packets, encoded, strict=True) if len(e) > MAX_PACKET_SIZE]
        assert received.messages == fitting
        assert [(p.packet_id, size) for p, size in received.oversize] == [(p.packet_id, len(p.payload)) for p in larger]
        for (head, _), packet in zip(received.oversize, larger, strict=True):
            assert packet.payload.startswith(head.payload)
            assert HEAD_BYTES - 20 < len(head.payload) < HEAD_BYTES
        acknowledged = b"".join(received.transport.written)
        assert acknowledged == b"".join(codec.write(mqtt5.PubAckPacket(n)) for n in range(1, len(sizes) + 1))

    asyncio.run(run())


@CODECS
@given(pieces=st.lists(st.binary(min_size=1, max_size=200), max_size=5))
@settings(max_examples=300)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_any_bytes_are_survived(codec: Codec, pieces: list[bytes]) -> None:
    async def run() -> None:
        received = Received(codec)
        for piece in pieces:
            if not received.transport.closed:
                received.wire.data_received(piece)
        assert sum(map(len, received.wire._parts)) <= sum(map(len, pieces))

    asyncio.run(run())


@given(data=st.binary(min_size=1, max_size=50))
@settings(max_examples=200)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_any_first_bytes_are_survived(data: bytes) -> None:
    async def run() -> None:
        fresh = Wire(
            MQTT5,
            MAX_PACKET_SIZE,
            on_message=lambda *_: None,
            on_oversize=lambda *_: None,
            on_packet=lambda *_: None,
            on_writable=lambda: None,
        )
        fresh.connection_made(Transport())
        fresh.data_received(data)
        fresh.connection_lost(None)
        assert fresh.connack.done()
        assert fresh.closed.done()

    asyncio.run(run())


async def test_answers_to_one_read_leave_in_one_write() -> None:
    received = Received(MQTT5)
    reply = MQTT5.write(PublishPacket("r", b"answer"))
    received.answer = lambda _: received.wire.send(reply)
    count = 50
    data = b"".join(
        PublishPacket("q", b"x", qos=QoS.AT_LEAST_ONCE, packet_id=index).write() for index in range(1, count + 1)
    )
    received.wire.data_received(data)
    acknowledgements = [mqtt5.PubAckPacket(index).write() for index in range(1, count + 1)]
    assert b"".join(received.transport.written) == b"".join(reply + ack for ack in acknowledgements)
    # One, unless this machine was so slow that the first answers would have waited a millisecond.
    assert len(received.transport.written) < count / 2


async def test_slow_handler_does_not_hold_back_the_first_answers() -> None:
    received = Received(MQTT5)

    def slow(_: PublishPacket) -> None:
        end = asyncio.get_running_loop().time() + 0.003
        while asyncio.get_running_loop().time() < end:
            pass
        received.wire.send(b"answer")

    received.answer = slow
    received.wire.data_received(PublishPacket("q", b"x").write() * 5)
    assert received.transport.written == [b"answer"] * 5


async def test_sends_outside_of_a_read_are_joined_too() -> None:
    received = Received(MQTT5)
    for _ in range(10):
        received.wire.send(b"x")
    assert received.transport.written == []
    await asyncio.sleep(0)
    assert received.transport.written == [b"x" * 10]


def test_3_1_1_acknowledgement_is_the_same_as_that_of_5() -> None:
    for packet_id in (1, 255, 256, 65_535):
        expected = b"\x40\x02" + packet_id.to_bytes(2)
        assert mqtt5.PubAckPacket(packet_id).write() == mqtt311.write(mqtt5.PubAckPacket(packet_id)) == expected
