"""The MQTT contract from the side that answers: a request out of a message, and its result or error back."""

from __future__ import annotations

import functools
import logging
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from mqtt5 import QoS

from tierwise.core.clocks import epoch_us
from tierwise.core.errors import BrokerError, InferenceError, PayloadTooLargeError, TierwiseError
from tierwise.core.messages import Answer
from tierwise.messaging.payloads import (
    RAW_CONTENT_TYPE,
    decode_raw_request,
    decode_request,
    encode_error,
    encode_result,
    salvage_ids,
)
from tierwise.messaging.topics import TIMING, TRACEPARENT, error_topic, is_device_id, is_topic_name, result_topic

if TYPE_CHECKING:
    from collections.abc import Callable

    from mqtt5 import PublishPacket

    from tierwise.messaging.connection import MqttConnection
    from tierwise.messaging.payloads import DeviceRequest

SESSION_EXPIRY_S: Final = 60
"""How long the broker keeps requests for one who answers and has lost its connection."""
HEADER_BYTES: Final = 65_536
"""Room for topic and properties of the largest request that is read."""

_LONGEST_TIMESTAMP = 19
_NOT_FOR_ANSWERS = ("$", "tierwise/")
"""Beginnings of topics that belong to brokers and to the status of services: no client may have us write there."""

_log = logging.getLogger(__name__)


class Sender(NamedTuple):
    """Who asked, as far as the request tells."""

    device_id: str | None
    timestamp_us: int | None
    request_id: str | None = None


class Outgoing(NamedTuple):
    """One message; ``error`` is what it tells of, ``None`` where it is a result."""

    error: TierwiseError | None
    topic: str
    payload: bytes
    user_properties: list[tuple[str, str]]


def read_request(
    packet: PublishPacket, payload_bytes: int, *, received_ns: int, max_payload_bytes: int
) -> DeviceRequest:
    """The request in ``packet``, JSON or raw. Its deadline is the earlier of its own and the message's expiry.

    ``payload_bytes`` is the payload's true size, where ``packet`` has only its beginning. Raises
    ``PayloadTooLargeError``, ``InvalidRequestError`` and ``InvalidInputError``.
    """
    if payload_bytes > max_payload_bytes:
        limit = f"the limit is {max_payload_bytes} (--max-payload-bytes)"
        raise PayloadTooLargeError(f"the request has {payload_bytes} bytes, {limit}")
    if payload_bytes > len(packet.payload):
        raise PayloadTooLargeError(f"topic and properties have more than {HEADER_BYTES} bytes")
    if packet.content_type == RAW_CONTENT_TYPE:
        device = decode_raw_request(packet.payload, packet.user_properties, received_ns=received_ns)
    else:
        device = decode_request(packet.payload, received_ns=received_ns)
    if packet.message_expiry_interval is not None:
        request = device.request
        expires_ns = received_ns + packet.message_expiry_interval * 1_000_000_000
        request.deadline_ns = expires_ns if request.deadline_ns is None else min(expires_ns, request.deadline_ns)
    return device


def sender_of(packet: PublishPacket, properties: dict[str, str], device: DeviceRequest | None) -> Sender:
    """The sender of a request, also of one that could not be decoded."""
    if device is not None:
        return Sender(device.device_id, device.timestamp_us, device.request.request_id)
    if packet.content_type != RAW_CONTENT_TYPE:
        return Sender(*salvage_ids(packet.payload))
    device_id, timestamp_us = properties.get("device_id", ""), properties.get("timestamp_us", "")
    is_number = timestamp_us.removeprefix("-").isdecimal() and len(timestamp_us) <= _LONGEST_TIMESTAMP
    return Sender(device_id if is_device_id(device_id) else None, int(timestamp_us) if is_number else None)


def answer_message(sender: Sender, outcome: Answer | TierwiseError, told: list[tuple[str, str]]) -> Outgoing:
    """What goes back for ``outcome``. An answer that JSON cannot carry, or for nobody known, becomes an error."""
    if isinstance(outcome, TierwiseError):
        return _error_message(sender, outcome, told)
    if sender.device_id is None or sender.timestamp_us is None:
        return _error_message(sender, InferenceError("an answer without a device"), told)
    try:
        payload = encode_result(sender.device_id, sender.timestamp_us, outcome)
    except TierwiseError as unfit:
        return _error_message(sender, unfit, told)
    return Outgoing(None, result_topic(sender.device_id), payload, told)


def _error_message(sender: Sender, error: TierwiseError, told: list[tuple[str, str]]) -> Outgoing:
    payload = encode_error(sender.device_id, sender.timestamp_us, error, sender.request_id)
    return Outgoing(error, error_topic(sender.device_id), payload, told)


def user_properties(
    asked: dict[str, str], outcome: Answer | TierwiseError, traceparent: str | None
) -> list[tuple[str, str]]:
    """The trace context for whoever follows the request, and the instants for whoever asked for them."""
    told = [] if traceparent is None else [(TRACEPARENT, traceparent)]
    if TIMING in asked and isinstance(outcome, Answer):
        instants = {
            "arrived_us": outcome.received_ns,
            "started_us": outcome.started_ns,
            "finished_us": outcome.finished_ns,
        }
        told += [(name, str(epoch_us(at_ns))) for name, at_ns in instants.items()]
    return told


def publish_answer(
    connection: MqttConnection,
    packet: PublishPacket,
    sender: Sender,
    message: Outgoing,
    acknowledge: Callable[[], None],
) -> TierwiseError | None:
    """Publishes the answer to ``packet``, and acknowledges that once the broker has it. Returns its error, if any.

    It goes to the request's Response Topic too, with its Correlation Data, and at its quality of service. Where one of
    both is too large for the broker, a short error takes its place; the other stays as it is. A request
    whose answer cannot be handed over (the broker is away and too much waits for it) stays unacknowledged: the broker
    keeps it and delivers it again.
    """
    ways = [_Way(message.topic, error_topic(sender.device_id), None)]
    if packet.response_topic is not None and _may_answer_on(packet.response_topic):
        ways.append(_Way(packet.response_topic, packet.response_topic, packet.correlation_data))
    qos: Literal[0, 1] = 0 if packet.qos is QoS.AT_MOST_ONCE else 1
    handover = _Handover(connection, qos, sender, message, left=len(ways), acknowledge=acknowledge)
    failure = message.error
    try:
        for way in ways:
            failure = handover.publish(way) or failure
    except TierwiseError as error:
        handover.tell_unpublished(error)
        return error
    return failure


class _Handover:
    """One answer on its ways to the broker. The request is acknowledged after the last of them."""

    def __init__(
        self,
        connection: MqttConnection,
        qos: Literal[0, 1],
        sender: Sender,
        message: Outgoing,
        *,
        left: int,
        acknowledge: Callable[[], None],
    ) -> None:
        self._connection, self._qos, self._sender, self._message = connection, qos, sender, message
        self._left, self._acknowledge = left, acknowledge

    def publish(self, way: _Way) -> PayloadTooLargeError | None:
        """Publishes the answer, or the error that this returns. Raises what keeps either from being published."""
        try:
            self._publish(way.topic, self._message, way, functools.partial(self._done, way))
        except PayloadTooLargeError as error:
            self._publish_short(way, error)
            return error
        return None

    def tell_unpublished(self, error: TierwiseError) -> None:
        """The broker will deliver the request again."""
        _log.warning("the answer on %s was not published: %s", self._message.topic, error)

    def _publish(
        self, topic: str, message: Outgoing, way: _Way, on_done: Callable[[TierwiseError | None], None]
    ) -> None:
        self._connection.publish(
            topic,
            message.payload,
            qos=self._qos,
            on_done=on_done if self._qos else None,
            user_properties=message.user_properties,
            correlation_data=way.correlation_data,
        )

    def _publish_short(self, way: _Way, error: PayloadTooLargeError) -> None:
        _log.warning("the answer on %s is too large for the broker: %s", way.topic, error)
        try:
            self._publish(way.error_topic, _error_message(self._sender, error, []), way, self._settled)
        except PayloadTooLargeError as even_so:
            self._settled(even_so)

    def _done(self, way: _Way, error: TierwiseError | None) -> None:
        if not isinstance(error, PayloadTooLargeError):
            self._settled(error)
            return
        try:  # it had waited for others, and its size was found out when its turn came
            self._publish_short(way, error)
        except TierwiseError as unpublished:
            self.tell_unpublished(unpublished)

    def _settled(self, error: TierwiseError | None) -> None:
        # What the broker refuses it would refuse again, and the request would occupy its place for ever.
        refused = isinstance(error, BrokerError | PayloadTooLargeError)
        if refused:
            _log.warning("the answer on %s was refused: %s", self._message.topic, error)
        self._left -= error is None or refused
        if not self._left:
            self._acknowledge()


class _Way(NamedTuple):
    """Where an answer goes, and what goes there in its place if it is too large."""

    topic: str
    error_topic: str
    correlation_data: bytes | None


def _may_answer_on(response_topic: str) -> bool:
    """Whether a client's Response Topic is one that answers may go to."""
    return is_topic_name(response_topic) and not response_topic.startswith(_NOT_FOR_ANSWERS)
