"""The header ``traceparent`` of W3C Trace Context: which request of whose trace this is.

Read as the specification asks (https://www.w3.org/TR/trace-context/#traceparent-header): what does not conform is
ignored as if it were not there, and versions to come are read by the part that will not change.
"""

from __future__ import annotations

import random
import re
from typing import NamedTuple

from tierwise.messaging.topics import TRACEPARENT

HEADER = TRACEPARENT
SAMPLED = 0x01
_KNOWN_FLAGS = SAMPLED

_form = re.compile(r"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_random = random.SystemRandom()
_ID_BITS = 64


class TraceContext(NamedTuple):
    """Our part of a trace. ``parent_id`` is the caller's span, ``None`` where the trace begins here."""

    trace_id: str
    span_id: str
    parent_id: str | None
    flags: int

    @property
    def sampled(self) -> bool:
        """Whether somebody wants to see this request."""
        return bool(self.flags & SAMPLED)

    @property
    def traceparent(self) -> str:
        """The header for whoever comes after us: the same trace, our span as the parent."""
        return f"00-{self.trace_id}-{self.span_id}-{self.flags:02x}"


def child_of(traceparent: str) -> TraceContext | None:
    """Our span as a child of the caller's; ``None`` where the header is not valid."""
    found = _form.fullmatch(traceparent)
    if found is None:
        return None
    version, trace_id, parent_id, flags, more = found.groups()
    if version == "00" and more is not None:
        return None
    return TraceContext(trace_id, _new_id(_ID_BITS), parent_id, int(flags, 16) & _KNOWN_FLAGS)


def new_trace() -> TraceContext:
    """The first span of a trace that is sampled."""
    return TraceContext(_new_id(2 * _ID_BITS), _new_id(_ID_BITS), None, SAMPLED)


def _new_id(bits: int) -> str:
    return f"{_random.getrandbits(bits) or 1:0{bits // 4}x}"
