"""Frames: what is encoded is decoded, whatever surrounds it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tierwise.device.frames import LONGEST_PAYLOAD, Decoder, Frame, encode

frames = st.builds(Frame, st.integers(0, 255), st.integers(0, 255), st.binary(max_size=200))


@given(st.lists(frames, max_size=5), st.integers(1, 40))
def test_frames_survive_any_division_of_the_stream(sent: list[Frame], piece: int) -> None:
    stream = b"".join(map(encode, sent))
    decoder = Decoder()
    received = [frame for at in range(0, len(stream), piece) for frame in decoder.feed(stream[at : at + piece])]
    assert received == sent
    assert decoder.errors == 0


@given(frames, st.binary(max_size=50).filter(lambda noise: b"\x7e" not in noise))
def test_noise_before_a_frame_is_passed_over(frame: Frame, noise: bytes) -> None:
    assert Decoder().feed(noise + encode(frame)) == [frame]


@given(frames, st.data())
def test_a_damaged_frame_is_never_taken_for_a_good_one(frame: Frame, data: st.DataObject) -> None:
    damaged = bytearray(encode(frame))
    damaged[data.draw(st.integers(1, len(damaged) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    assert frame not in Decoder(longest=1000).feed(bytes(damaged))


def test_a_false_start_does_not_swallow_the_frame_behind_it() -> None:
    frame = Frame(2, 9, b"hello")
    # A start with a length beyond the limit, then one whose CRC is wrong.
    stream = b"\x7e\x01\x02\xff\xff" + b"\x7e\x01\x02\x01\x00\x00\x00\x00" + encode(frame)
    decoder = Decoder(longest=100)
    assert decoder.feed(stream) == [frame]
    assert decoder.errors == 2


def test_crc_is_ccitt_false() -> None:
    # The standard's check value: 0x29B1 for the text 123456789.
    assert encode(Frame(ord("1"), ord("2"), b""))[0] == 0x7E
    body = encode(Frame(0x01, 0x02, b"\x03"))
    assert body == bytes.fromhex("7e01020100 03") + body[-2:]
    import binascii  # noqa: PLC0415

    assert binascii.crc_hqx(b"123456789", 0xFFFF) == 0x29B1
    assert int.from_bytes(body[-2:], "little") == binascii.crc_hqx(body[1:-2], 0xFFFF)


def test_too_long_a_payload_is_refused() -> None:
    with pytest.raises(ValueError, match="does not fit"):
        encode(Frame(1, 1, bytes(LONGEST_PAYLOAD + 1)))
