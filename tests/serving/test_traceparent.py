"""``traceparent``: read as W3C Trace Context asks, ignored where it does not conform."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tierwise.serving.traceparent import child_of, new_trace

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


def test_a_valid_header_makes_us_a_child() -> None:
    trace = child_of(f"00-{TRACE}-{SPAN}-01")
    assert trace is not None
    assert (trace.trace_id, trace.parent_id, trace.sampled) == (TRACE, SPAN, True)
    assert trace.span_id != SPAN
    assert trace.traceparent == f"00-{TRACE}-{trace.span_id}-01"


def test_the_sampled_flag_is_kept_and_unknown_flags_are_not_passed_on() -> None:
    unsampled = child_of(f"00-{TRACE}-{SPAN}-fe")
    assert unsampled is not None
    assert not unsampled.sampled
    assert unsampled.traceparent.endswith("-00")
    sampled = child_of(f"00-{TRACE}-{SPAN}-ff")
    assert sampled is not None
    assert sampled.traceparent.endswith("-01")


@pytest.mark.parametrize("header", [f"01-{TRACE}-{SPAN}-01", f"cc-{TRACE}-{SPAN}-01-what-is-to-come"])
def test_versions_to_come_are_read_and_answered_in_ours(header: str) -> None:
    trace = child_of(header)
    assert trace is not None
    assert trace.traceparent.startswith(f"00-{TRACE}-")


@pytest.mark.parametrize(
    "header",
    [
        "",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{TRACE[:-1]}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}0-01",
        f"00-{TRACE}-{SPAN}-1",
        f"00-{TRACE}-{SPAN}-01-more",
        f"00-{TRACE}-{SPAN}-01-",
        f"01-{TRACE}-{SPAN}-01.more",
        f"00-{TRACE}-{SPAN}-01\n",
        f" 00-{TRACE}-{SPAN}-01",
        f"0x-{TRACE}-{SPAN}-01",
        f"00-{TRACE[:-1]}g-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-0\N{ARABIC-INDIC DIGIT ONE}",
    ],
)
def test_what_does_not_conform_is_ignored(header: str) -> None:
    assert child_of(header) is None


@given(st.text(alphabet="0123456789abcdef-", max_size=60) | st.text(max_size=60))
def test_whatever_is_read_is_written_in_the_form_of_the_specification(header: str) -> None:
    trace = child_of(header)
    if trace is not None:
        assert child_of(trace.traceparent) is not None


def test_a_trace_of_our_own_is_sampled_and_valid() -> None:
    traces = [new_trace() for _ in range(100)]
    assert len({trace.trace_id for trace in traces}) == len({trace.span_id for trace in traces}) == 100
    for trace in traces:
        assert re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-01", trace.traceparent)
        assert trace.parent_id is None
