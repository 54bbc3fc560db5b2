"""The versions of MQTT that are spoken, each as a pair of functions between packets and bytes."""

from __future__ import annotations

from operator import methodcaller
from typing import TYPE_CHECKING, NamedTuple

import mqtt5

from tierwise.messaging import mqtt311

if TYPE_CHECKING:
    from collections.abc import Callable

    from mqtt5 import Packet


class Codec(NamedTuple):
    """One version of MQTT. ``read`` raises ``IndexError`` for a part of a packet and ``ValueError`` for nonsense."""

    version: str
    read: Callable[[memoryview], tuple[Packet, int]]
    write: Callable[[Packet], bytes]


MQTT5 = Codec("5", mqtt5.read, methodcaller("write"))
MQTT311 = Codec("3.1.1", mqtt311.read, mqtt311.write)


def read_old_form(data: bytes) -> Packet | None:
    """The packet, where it is one of MQTT 3.1.1: brokers that know no other answer a CONNECT of MQTT 5 in that form."""
    try:
        packet, _ = MQTT311.read(memoryview(data))
    except (IndexError, ValueError):
        return None
    return packet
