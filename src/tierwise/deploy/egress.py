"""What a service must reach outside its namespace; where network policies are enforced, nothing else can be reached."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from tierwise.core.errors import ConfigurationError
from tierwise.serving.endpoints import broker_from_environment, parse_endpoint
from tierwise.serving.settings import OFF, Endpoint

if TYPE_CHECKING:
    from tierwise.deploy.options import DeployOptions

OWN_BROKER = Endpoint("mosquitto", 1883)
OWN_HOSTS = {"mosquitto", "influxdb"}
"""Services of the manifests, which their network policies name."""

_DEFAULT_PORTS = {"http": 80, "https": 443}
_URL_SETTINGS = ("TIERWISE_INFLUX", "TIERWISE_OTLP")


def broker(options: DeployOptions) -> Endpoint | None:
    """The broker that the service will use; ``None`` for none. Raises ``ConfigurationError``."""
    if text := options.settings.get("TIERWISE_MQTT"):
        return parse_endpoint(text, name="--set TIERWISE_MQTT", default_port=OWN_BROKER.port)
    return broker_from_environment(options.settings, OWN_BROKER)


def egress_ports(options: DeployOptions) -> list[int]:
    """TCP ports, ascending, of every server outside that the settings and the model's URL name.

    Raises ``ConfigurationError`` for an address that is none, and for a loopback one: in a pod that is the pod.
    """
    urls = {f"--set {name}": options.settings[name] for name in _URL_SETTINGS if name in options.settings}
    if options.model_url is not None:
        urls["--model-url"] = options.model_url
    endpoints = {_broker_setting(options): broker(options)} | {name: _endpoint(name, url) for name, url in urls.items()}
    outside = {name: one for name, one in endpoints.items() if one is not None and one.host not in OWN_HOSTS}
    if inside := [
        f"{name}: in a pod {one.host} is the pod itself" for name, one in outside.items() if _is_loopback(one)
    ]:
        raise ConfigurationError(f"{'; '.join(inside)}; give the address by which the cluster's nodes reach it")
    return sorted({endpoint.port for endpoint in outside.values()})


def _broker_setting(options: DeployOptions) -> str:
    return "--set TIERWISE_MQTT" if options.settings.get("TIERWISE_MQTT") else "--set MQTT_BROKER_HOST"


def _is_loopback(endpoint: Endpoint) -> bool:
    try:
        address = ipaddress.ip_address(endpoint.host)
    except ValueError:  # a name
        return endpoint.host.lower().rstrip(".") == "localhost" or endpoint.host.lower().endswith(".localhost")
    address = getattr(address, "ipv4_mapped", None) or address
    return address.is_loopback or address.is_unspecified  # to connect to 0.0.0.0 or :: is to connect to oneself


def _endpoint(name: str, url: str) -> Endpoint | None:
    if url == OFF:
        return None
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port or _DEFAULT_PORTS[parts.scheme]
    except (ValueError, KeyError) as error:
        raise ConfigurationError(f"{name}: expected http(s)://HOST[:PORT][/PATH], got {url!r}") from error
    if not host:
        raise ConfigurationError(f"{name}: expected http(s)://HOST[:PORT][/PATH], got {url!r}")
    return Endpoint(host, port)
