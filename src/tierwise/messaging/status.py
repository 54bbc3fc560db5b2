"""The retained status of one who answers: ``online`` while connected, then ``stopped``; ``offline`` is the will."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from tierwise.core.errors import TransportError
from tierwise.messaging.settings import Will
from tierwise.messaging.topics import status_topic

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from tierwise.messaging.connection import MqttConnection

GOODBYE_S: Final = 3.0
"""How long one that stops waits for each answer of the broker."""

_log = logging.getLogger(__name__)


def offline_will(service_id: str) -> Will:
    """What the broker says of ``service_id`` when its connection breaks without a goodbye."""
    return Will(status_topic(service_id), b"offline")


def say_online(connection: MqttConnection, service_id: str) -> None:
    """Says that ``service_id`` answers. Call it whenever the connection stands, for the will may have been sent."""
    connection.publish(status_topic(service_id), b"online", qos=1, retain=True)


async def leave(connection: MqttConnection, service_id: str) -> None:
    """Says ``stopped`` and ends the connection. Call it when nothing is under way any more."""
    loop = asyncio.get_running_loop()
    until = loop.time() + GOODBYE_S
    if connection.connected:
        await in_time(connection.publish_and_wait(status_topic(service_id), b"stopped", retain=True), "saying stopped")
    await connection.stop(drain_s=max(0.0, until - loop.time()))


async def in_time(goodbye: Awaitable[None], what: str) -> None:
    """Gives a broker that does not answer a moment, and no more: who stops does so all the same."""
    try:
        async with asyncio.timeout(GOODBYE_S):
            await goodbye
    except (TimeoutError, TransportError) as error:
        _log.warning("the broker did not answer to %s: %s", what, str(error) or f"within {GOODBYE_S:g} s")
