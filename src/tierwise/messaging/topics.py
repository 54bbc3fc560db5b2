"""The names of the MQTT contract, and what may be part of a name."""

from __future__ import annotations

import re
from functools import lru_cache

from tierwise.core.errors import InvalidRequestError

REQUEST_TOPIC = "ml/inference/request"
"""Where sensors ask. Edge and cloud on this one topic would both answer."""
CLOUD_REQUEST_TOPIC = "ml/cloud/inference/request"
"""Where the cloud listens behind an edge gateway."""
TIMING = "tierwise-timing"
"""Request with this user property: the answer tells ``arrived_us``, ``started_us``, ``finished_us`` (epoch)."""
TRACEPARENT = "traceparent"
"""User property that names the trace of a request (W3C Trace Context); it is passed on with the answer."""
RESULT_PREFIX = "ml/inference/result"
ERROR_PREFIX = "ml/inference/error"
UNKNOWN_DEVICE = "unknown"
"""Stands for the device where no usable id could be read from the request."""
MAX_DEVICE_ID_LENGTH = 128
_MAX_STRING_BYTES = 65_535

# Wildcards, control characters, surrogates, noncharacters: brokers drop the client that sends one (MQTT 5, 1.5.4).
_name_pattern = re.compile(
    "[^+#\x00-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef"
    + "".join(chr(plane << 16 | end) for plane in range(17) for end in (0xFFFE, 0xFFFF))
    + "]+"
)


def result_topic(device_id: str) -> str:
    """Topic of the answers for one device."""
    return f"{RESULT_PREFIX}/{device_id}"


def error_topic(device_id: str | None) -> str:
    """Topic of the errors for one device; ``None`` where its id could not be read."""
    return f"{ERROR_PREFIX}/{device_id or UNKNOWN_DEVICE}"


def status_topic(service_id: str) -> str:
    """Retained topic that says ``online``, ``stopped`` or ``offline`` of one service."""
    return f"tierwise/{service_id}/status"


def shared(topic_filter: str, group: str) -> str:
    """Filter of a shared subscription: each message goes to one member of the group."""
    return f"$share/{group}/{topic_filter}"


@lru_cache(maxsize=4096)
def is_topic_name(name: str) -> bool:
    """Whether a message can be published to ``name``: not empty, no wildcard, only characters that brokers take."""
    return _name_pattern.fullmatch(name) is not None and len(name.encode()) <= _MAX_STRING_BYTES


@lru_cache(maxsize=4096)
def is_device_id(device_id: str) -> bool:
    """Whether ``device_id`` can be one level of a topic and is at most 128 characters long."""
    return len(device_id) <= MAX_DEVICE_ID_LENGTH and "/" not in device_id and is_topic_name(device_id)


def check_device_id(device_id: str) -> None:
    """Raises ``InvalidRequestError`` unless ``is_device_id``."""
    if not is_device_id(device_id):
        raise InvalidRequestError(
            f"device_id: must be 1 to {MAX_DEVICE_ID_LENGTH} characters without '/', '+', '#' or control characters"
        )
