"""From an address to an accepted connection, in the newest version of MQTT that both sides speak."""

from __future__ import annotations

import asyncio
import logging
import ssl
from typing import TYPE_CHECKING

import mqtt5
from mqtt5 import ConnAckPacket, ConnAckReasonCode, ConnectPacket, QoS

from tierwise.core.errors import BrokerError, TransportError
from tierwise.messaging.codec import MQTT5, MQTT311, Codec

if TYPE_CHECKING:
    from collections.abc import Callable
    from enum import IntEnum

    from tierwise.messaging.settings import MqttConnectionSettings
    from tierwise.messaging.wire import Wire

_log = logging.getLogger(__name__)

_PATIENCE_WITH_5_S = 3.0
"""Some brokers of 3.1.1 neither answer nor refuse MQTT 5; after this long 3.1.1 is tried."""

_FATAL = (
    ConnAckReasonCode.UNSUPPORTED_PROTOCOL_VERSION,
    ConnAckReasonCode.CLIENT_ID_NOT_VALID,
    ConnAckReasonCode.BAD_USER_NAME_OR_PASSWORD,
    ConnAckReasonCode.NOT_AUTHORIZED,
    ConnAckReasonCode.BANNED,
    ConnAckReasonCode.BAD_AUTHENTICATION_METHOD,
    ConnAckReasonCode.TOPIC_NAME_INVALID,
    ConnAckReasonCode.PACKET_TOO_LARGE,
    ConnAckReasonCode.PAYLOAD_FORMAT_INVALID,
    ConnAckReasonCode.RETAIN_NOT_SUPPORTED,
    ConnAckReasonCode.QUALITY_NOT_SUPPORTED,
)
"""Refusals that another try does not change."""


class _VersionError(TransportError):
    """The broker does not seem to know this version of MQTT; ``refused`` where it has said so."""

    def __init__(self, message: str, *, refused: bool) -> None:
        super().__init__(message)
        self.refused = refused


async def open_wire(
    settings: MqttConnectionSettings,
    known: Codec | None,
    client_id: str,
    make_wire: Callable[[Codec], Wire],
    *,
    clean_start: bool,
) -> tuple[Wire, ConnAckPacket, Codec | None]:
    """An accepted connection, the broker's answer, and the version to begin with next time, if that is known.

    A broker that was silent on the newest version may only have been busy: it is asked again at the next connection.
    ``known`` is the version that is known from the one before. Raises ``TransportError`` where another try may help and
    ``BrokerError`` where none will.
    """
    codecs = {"auto": (MQTT5, MQTT311), "5": (MQTT5,), "3.1.1": (MQTT311,)}[settings.protocol]
    refusal: _VersionError | None = None
    for codec in (known,) if known else codecs:
        wire = make_wire(codec)
        may_fall_back = codec is not codecs[-1] and known is None
        try:
            connack = await _greet(settings, wire, client_id, clean_start=clean_start, may_fall_back=may_fall_back)
        except _VersionError as error:
            refusal = error
            wire.abort()
        except asyncio.CancelledError:
            await wire.leave()  # cut off, the broker would publish the will of a client that was stopped on purpose
            raise
        except BaseException:
            wire.abort()
            raise
        else:
            if refusal is None or refusal.refused:
                return wire, connack, codec
            _log.warning(
                "%s: speaking %s until the next connection, without what only MQTT 5 has; "
                "`--mqtt-protocol %s` spares the wait where the broker knows no other",
                refusal, codec.version, codec.version,
            )  # fmt: skip
            return wire, connack, None
    raise refusal or TransportError(f"cannot reach {where(settings)}")


def where(settings: MqttConnectionSettings) -> str:
    """The broker in words, for messages."""
    return f"the MQTT broker at {settings.host}:{settings.port}"


def in_words(code: IntEnum) -> str:
    """A reason code for people: ``not authorized``."""
    return code.name.lower().replace("_", " ")


async def _greet(
    settings: MqttConnectionSettings, wire: Wire, client_id: str, *, clean_start: bool, may_fall_back: bool
) -> ConnAckPacket:
    broker = where(settings)
    try:
        greeting = wire.codec.write(_connect_packet(settings, client_id, clean_start=clean_start))
    except ValueError as error:  # a field that this version of MQTT does not have, or not in that size
        raise BrokerError(f"cannot connect to {broker} in MQTT {wire.codec.version}: {error}") from error
    try:
        async with asyncio.timeout(settings.connect_timeout_s):
            loop = asyncio.get_running_loop()
            await loop.create_connection(lambda: wire, settings.host, settings.port, ssl=settings.tls)
            wire.send(greeting)
            await asyncio.wait({wire.connack}, timeout=_PATIENCE_WITH_5_S if may_fall_back else None)
    except ssl.SSLCertVerificationError as error:
        raise BrokerError(f"{broker} is not trusted: {error.verify_message}") from error
    except TimeoutError as error:
        raise TransportError(f"{broker} did not answer within {settings.connect_timeout_s:g} s") from error
    except OSError as error:
        raise TransportError(f"cannot reach {broker}: {error.strerror or error}") from error
    if not wire.connack.done():
        raise _VersionError(f"{broker} did not answer MQTT {wire.codec.version}", refused=False)
    answer = wire.connack.result()
    if isinstance(answer, TransportError):
        message = f"{broker}: {answer}"
        silent = may_fall_back and not wire.heard
        raise _VersionError(message, refused=False) if silent else TransportError(message)
    _check(answer, wire.codec, broker, may_fall_back=may_fall_back)
    return answer


def _check(answer: ConnAckPacket, codec: Codec, broker: str, *, may_fall_back: bool) -> None:
    """Raises unless the broker has accepted."""
    code = answer.reason_code
    if code is ConnAckReasonCode.SUCCESS:
        return
    message = f"{broker} refused the connection (MQTT {codec.version}): {answer.reason_str or in_words(code)}"
    if code is ConnAckReasonCode.UNSUPPORTED_PROTOCOL_VERSION and may_fall_back:
        raise _VersionError(message, refused=True)
    raise (BrokerError if code in _FATAL else TransportError)(message)


def _connect_packet(settings: MqttConnectionSettings, client_id: str, *, clean_start: bool) -> ConnectPacket:
    will = settings.will
    return ConnectPacket(
        client_id,
        username=settings.username,
        password=None if settings.password is None else settings.password.encode(),
        clean_start=clean_start,
        will=None
        if will is None
        else mqtt5.Will(
            will.topic,
            payload=will.payload,
            qos=QoS.AT_LEAST_ONCE if will.qos else QoS.AT_MOST_ONCE,
            retain=will.retain,
        ),
        keep_alive=settings.keep_alive_s,
        session_expiry_interval=settings.session_expiry_s,
        receive_max=settings.receive_max,
        max_packet_size=max(settings.max_packet_size, settings.announced_packet_size),
    )
