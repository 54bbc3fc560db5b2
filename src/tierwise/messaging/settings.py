"""How to reach a broker, and the limits of the connection."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import ssl


@dataclass(frozen=True, slots=True)
class Will:
    """What the broker publishes when the connection breaks without a goodbye."""

    topic: str
    payload: bytes
    qos: Literal[0, 1] = 1
    retain: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class MqttConnectionSettings:
    """Settings of one connection. Durations in seconds, sizes in bytes."""

    host: str = "localhost"
    port: int = 1883
    client_id_prefix: str = "tierwise"
    """The client id is this, a hyphen and 16 random hexadecimal digits, so no two processes ever share one."""
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: ssl.SSLContext | None = None
    """``ssl.create_default_context()`` verifies the broker's certificate and name."""
    will: Will | None = None
    protocol: Literal["auto", "5", "3.1.1"] = "auto"
    """``auto`` speaks MQTT 5 and changes to 3.1.1 where the broker does not know it."""

    keep_alive_s: int = 30
    """A peer that is silent this long is pinged, and dropped when it stays silent for half of it again."""
    connect_timeout_s: float = 10.0
    """For the socket, TLS and the broker's answer together."""
    fail_fast: bool = False
    """``start`` raises when the first try fails; otherwise it is repeated until the broker is there."""
    backoff_base_s: float = 0.2
    backoff_cap_s: float = 30.0
    """Before try n waits a random time between 0 and ``min(cap, base * 2**n)`` ("full jitter")."""

    session_expiry_s: int = 0
    """How long the broker keeps subscriptions and messages for us after the connection broke (MQTT 5 only).

    With 0 it forgets them at once: a message of QoS 1 that was under way is then lost, also to the other members of a
    shared subscription (mosquitto 2.0 does not pass it on). ``stop`` always ends the session.
    """
    receive_max: int = 1024
    """QoS 1 messages that the broker may have on their way to us, unacknowledged."""
    max_inflight: int = 1024
    """QoS 1 messages on their way to the broker, unacknowledged; the broker may ask for fewer."""
    max_queued: int = 10_000
    """Messages that wait for the broker's window or a connection; more are refused."""
    max_packet_size: int = 4 * 2**20
    """Larger packets are not kept: ``on_oversize`` hears of such a message, and gets its beginning."""
    announced_packet_size: int = 16 * 2**20
    """An MQTT 5 broker is told that no larger packets are accepted; it drops them and nobody hears of it.

    Where ``max_packet_size`` is more, that is what it is told.
    """
