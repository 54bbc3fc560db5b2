"""What goes back over MQTT for one request: topic, payload and user properties of its result or error."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from tierwise.core.clocks import epoch_us
from tierwise.core.errors import TierwiseError
from tierwise.core.messages import Answer
from tierwise.messaging.payloads import RAW_CONTENT_TYPE, encode_error, encode_result, salvage_ids
from tierwise.messaging.topics import TIMING, error_topic, is_device_id, is_topic_name, result_topic
from tierwise.serving import traceparent
from tierwise.serving.metrics import OK

if TYPE_CHECKING:
    from mqtt5 import PublishPacket

    from tierwise.messaging.payloads import DeviceRequest
    from tierwise.serving.traceparent import TraceContext

_LONGEST_TIMESTAMP = 19
_NOT_FOR_ANSWERS = ("$", "tierwise/")
"""Beginnings of topics that belong to brokers and to the status of services: no client may have us write there."""


class Sender(NamedTuple):
    """Who asked, as far as the request tells."""

    device_id: str | None
    timestamp_us: int | None
    request_id: str | None = None


class Outgoing(NamedTuple):
    """One message, and the outcome's code for the metrics."""

    code: str
    topic: str
    payload: bytes
    user_properties: list[tuple[str, str]]


def sender_of(packet: PublishPacket, properties: dict[str, str], device: DeviceRequest | None) -> Sender:
    """The sender of a request, also of one that could not be decoded."""
    if device is not None:
        return Sender(device.device_id, device.timestamp_us, device.request.request_id)
    if packet.content_type != RAW_CONTENT_TYPE:
        return Sender(*salvage_ids(packet.payload))
    device_id, timestamp_us = properties.get("device_id", ""), properties.get("timestamp_us", "")
    is_number = timestamp_us.removeprefix("-").isdecimal() and len(timestamp_us) <= _LONGEST_TIMESTAMP
    return Sender(device_id if is_device_id(device_id) else None, int(timestamp_us) if is_number else None)


def result_message(device: DeviceRequest, answer: Answer, told: list[tuple[str, str]]) -> Outgoing:
    """The result of a request. An answer that JSON cannot carry becomes an error."""
    try:
        payload = encode_result(device.device_id, device.timestamp_us, answer)
    except TierwiseError as unfit:
        return error_message(Sender(device.device_id, device.timestamp_us, device.request.request_id), unfit, told)
    return Outgoing(OK, result_topic(device.device_id), payload, told)


def error_message(sender: Sender, error: TierwiseError, told: list[tuple[str, str]]) -> Outgoing:
    """The error of a request."""
    payload = encode_error(sender.device_id, sender.timestamp_us, error, sender.request_id)
    return Outgoing(error.code, error_topic(sender.device_id), payload, told)


def user_properties(
    asked: dict[str, str], outcome: Answer | TierwiseError, trace: TraceContext | None
) -> list[tuple[str, str]]:
    """The trace context for whoever follows the request, and the instants for whoever asked for them."""
    told = [] if trace is None else [(traceparent.HEADER, trace.traceparent)]
    if TIMING in asked and isinstance(outcome, Answer):
        instants = {
            "arrived_us": outcome.received_ns,
            "started_us": outcome.started_ns,
            "finished_us": outcome.finished_ns,
        }
        told += [(name, str(epoch_us(at_ns))) for name, at_ns in instants.items()]
    return told


def may_answer_on(response_topic: str) -> bool:
    """Whether a client's Response Topic is one that answers may go to."""
    return is_topic_name(response_topic) and not response_topic.startswith(_NOT_FOR_ANSWERS)
