"""Host and port as people write them, and the broker's as containers are given it."""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING

from tierwise.core.errors import ConfigurationError
from tierwise.serving.settings import HIGHEST_PORT, OFF, Endpoint

if TYPE_CHECKING:
    from collections.abc import Mapping

_HOST_VARIABLE = "MQTT_BROKER_HOST"
_PORT_VARIABLE = "MQTT_BROKER_PORT"

_host_name = re.compile(r"[\w.-]+")
_scheme = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_kubernetes_port = re.compile(r"tcp://.*:(\d+)")


def parse_endpoint(text: str, *, name: str, default_port: int, lowest_port: int = 1) -> Endpoint | None:
    """``HOST``, ``HOST:PORT`` or ``[IPv6]:PORT``; ``off`` gives ``None``.

    Raises ``ConfigurationError`` that begins with ``name``, the option or variable in which ``text`` stood.
    """
    if text.lower() == OFF:
        return None
    bracket = text.rfind("]")
    host, separator, port_text = text.rpartition(":") if text.rfind(":") > bracket else (text, "", "")
    if (what_to_do := _advice(text, host)) is not None:
        raise ConfigurationError(f"{name}: expected HOST:PORT or '{OFF}'{what_to_do}")
    return Endpoint(
        host.removeprefix("[").removesuffix("]"),
        _port(port_text, name=name, lowest=lowest_port) if separator else default_port,
    )


def broker_from_environment(environment: Mapping[str, str], default: Endpoint) -> Endpoint:
    """The broker as ``MQTT_BROKER_HOST`` and ``MQTT_BROKER_PORT`` name it; ``default`` for what they leave out.

    For a Service with the name ``mqtt-broker`` Kubernetes itself sets ``MQTT_BROKER_PORT`` in every container, as
    ``tcp://ADDRESS:PORT``: of that the port is taken. Raises ``ConfigurationError`` naming the variable.
    """
    host, port = default
    if given := environment.get(_HOST_VARIABLE):
        host = given.removeprefix("[").removesuffix("]")
        if not (_host_name.fullmatch(host) or _is_ipv6(host)):
            raise ConfigurationError(f"{_HOST_VARIABLE}: expected a host name or address, without scheme and port")
    if given := environment.get(_PORT_VARIABLE):
        injected = _kubernetes_port.fullmatch(given)
        port = _port(injected[1] if injected else given, name=_PORT_VARIABLE, lowest=1)
    return Endpoint(host, port)


def _advice(text: str, host: str) -> str | None:
    """What to do about a host that is none; ``None`` for one that is."""
    if "@" in text:  # not repeated: it holds a password
        return " without user and password: these are settings of their own"
    if scheme := _scheme.match(text):
        return f", got {text!r}: leave out {scheme[0]!r} (and what follows the port); TLS is a setting of its own"
    if _is_ipv6(text) or _is_ipv6(host):
        return f", got {text!r}: write an IPv6 address in brackets, as in [::1] or [::1]:8080"
    if text.isdecimal():
        return f", got {text!r}: a port needs its host, as in 127.0.0.1:{text}"
    is_bracketed = host.startswith("[") and host.endswith("]") and _is_ipv6(host[1:-1])
    return None if is_bracketed or _host_name.fullmatch(host) else f", got {text!r}"


def _port(text: str, *, name: str, lowest: int) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= len(str(HIGHEST_PORT))) or not (
        lowest <= int(text) <= HIGHEST_PORT
    ):
        raise ConfigurationError(f"{name}: expected a port from {lowest} to {HIGHEST_PORT}, got {text!r}")
    return int(text)


def _is_ipv6(text: str) -> bool:
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True
