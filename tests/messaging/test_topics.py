"""Topic names of the contract, and what may be part of one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tierwise.messaging import topics


def test_names_are_those_of_the_contract() -> None:
    assert topics.REQUEST_TOPIC == "ml/inference/request"
    assert topics.CLOUD_REQUEST_TOPIC == "ml/cloud/inference/request"
    assert topics.result_topic("sensor1") == "ml/inference/result/sensor1"
    assert topics.error_topic("sensor1") == "ml/inference/error/sensor1"
    assert topics.error_topic(None) == "ml/inference/error/unknown"
    assert topics.status_topic("edge-1") == "tierwise/edge-1/status"
    assert topics.shared("a/b", "workers") == "$share/workers/a/b"


@pytest.mark.parametrize("device_id", ["s", "sensor 1", "ä", "😀", "x" * 128, "$SYS", "a.b:c-d_e"])
def test_usable_device_ids(device_id: str) -> None:
    assert topics.is_device_id(device_id)


@pytest.mark.parametrize(
    "device_id", ["", "a/b", "+", "a#", "a\x00", "a\n", "a\x7f", "a\x85", "\ud800", "\ufffe", "\U0001ffff", "x" * 129]
)
def test_unusable_device_ids(device_id: str) -> None:
    assert not topics.is_device_id(device_id)


@given(st.text(max_size=140))
def test_device_id_is_one_level_of_a_topic(text: str) -> None:
    if topics.is_device_id(text):
        assert topics.result_topic(text).split("/") == ["ml", "inference", "result", text]
        assert topics.is_topic_name(topics.result_topic(text))


def test_topic_is_limited_in_bytes() -> None:
    assert topics.is_topic_name("a" * 65_535)
    assert not topics.is_topic_name("ä" * 40_000)
