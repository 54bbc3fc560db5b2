"""What can be chosen for a deployment, and whether it can be meant."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import msgspec

from tierwise.core.errors import ConfigurationError
from tierwise.core.suggest import did_you_mean
from tierwise.serving import environment
from tierwise.serving.settings import fields

if TYPE_CHECKING:
    from pathlib import Path

TARGETS = ("k3s", "dev", "minimal", "compose")
"""Overlays of ``kubernetes/``, and the compose file."""

DELIVERIES = ("configmap", "pvc", "url")
"""How a pod gets its model: with the manifests, from a claim that you fill, or by a download."""

MAX_CONFIGMAP_BYTES = 900_000
"""An API server takes 1 MiB in one ConfigMap, names and labels included."""

MAX_REPLICAS = 1000

_KUBERNETES_ONLY = ("tier", "image", "replicas", "max_replicas", "namespace", "delivery", "model_url")

_DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_IMAGE = re.compile(r"[a-z0-9][a-z0-9._/:-]*(:[A-Za-z0-9_][\w.-]{0,127}|@sha256:[0-9a-f]{64})")
_COMPOSE_SETS = {
    "MQTT_BROKER_HOST",
    "MQTT_BROKER_PORT",
    "TIERWISE_CLOUD_LATENCY_MS",
    "TIERWISE_INFLUX",
    "TIERWISE_MQTT",
    "TIERWISE_REQUEST_TOPIC",
    "TIERWISE_SHARE_GROUP",
}
_OURS = {
    "MODEL_PATH": "the MODEL argument says it",
    "TIERWISE_HTTP": "the manifests say it",
    "TIERWISE_INFLUX_TOKEN_FILE": "the password is in the rendered folder: influxdb.env, or docker/influxdb.env",
    "TIERWISE_INFLUX_USERNAME": "the user is in the rendered folder: influxdb.env, or docker/influxdb.env",
    "TIERWISE_MQTT_PASSWORD_FILE": "the password is in the rendered folder: mqtt.env, or docker/mqtt-password",
    "TIERWISE_MQTT_USERNAME": "the user is in the rendered folder: mqtt.env, or MQTT_USERNAME in docker/.env",
    "TIERWISE_SERVICE_ID": "each replica has its own",
    "TIERWISE_TIER": "--tier says it",
}
_CHANGED_ON_THE_WAY = re.compile(r"[$\"'\\`\x00-\x1f\x7f]|^\s|\s$|\s#|^#")
"""What Compose or kustomize reads as something else: variables, quotes, comments, line breaks, spaces at the ends."""


class DeployOptions(msgspec.Struct, frozen=True, kw_only=True):
    """One deployment. ``image`` and ``replicas`` default to what the manifests say."""

    model: Path
    out: Path
    target: str = "k3s"
    tier: str = "edge"
    image: str | None = None
    replicas: int | None = None
    max_replicas: int | None = None
    namespace: str = "tierwise"
    delivery: str = "configmap"
    model_url: str | None = None
    settings: dict[str, str] = {}
    """Environment of the service beside what the manifests set: ``TIERWISE_QUEUE_SIZE`` → ``200``."""


def known_settings() -> set[str]:
    """Environment variables that a deployment may set."""
    return {field.setting.env for field in fields()} - _OURS.keys() | {"MQTT_BROKER_HOST", "MQTT_BROKER_PORT"}


def check(options: DeployOptions) -> None:
    """Raises ``ConfigurationError`` with everything that cannot be meant."""
    problems = [*_choices(options), *_numbers(options), *_delivery(options), *_settings(options)]
    if not _DNS_LABEL.fullmatch(options.namespace):
        problems.append(f"--namespace: expected lower-case letters, digits and -, got {options.namespace!r}")
    if options.image is not None and not _IMAGE.fullmatch(options.image):
        problems.append(f"--image: expected NAME:VERSION or NAME@sha256:…, got {options.image!r}")
    if options.target == "compose":
        problems += [f"{name} is for Kubernetes" for name in _changed(options, _KUBERNETES_ONLY)]
    if problems:
        raise ConfigurationError("; ".join(problems))


def _choices(options: DeployOptions) -> list[str]:
    allowed = {
        "--target": (options.target, TARGETS),
        "--tier": (options.tier, ("edge", "cloud")),
        "--delivery": (options.delivery, DELIVERIES),
    }
    return [
        f"{name}: expected {', '.join(words)}, got {word!r}"
        for name, (word, words) in allowed.items()
        if word not in words
    ]


def _numbers(options: DeployOptions) -> list[str]:
    problems = []
    for name, value in (("--replicas", options.replicas), ("--max-replicas", options.max_replicas)):
        if value is not None and not 1 <= value <= MAX_REPLICAS:
            problems.append(f"{name}: expected 1 to {MAX_REPLICAS}, got {value}")
    if options.max_replicas is not None and options.target in {"dev", "minimal"}:
        problems.append(f"--max-replicas: the target {options.target} has no autoscaler")
    if options.replicas and options.max_replicas and options.replicas > options.max_replicas:
        problems.append(f"--replicas {options.replicas} is more than --max-replicas {options.max_replicas}")
    return problems


def _settings(options: DeployOptions) -> list[str]:
    problems = []
    known = known_settings()
    for name, value in options.settings.items():
        if name in _OURS:
            problems.append(f"--set {name} cannot be set here: {_OURS[name]}")
        elif name not in known:
            problems.append(f"--set {name} cannot be set here{did_you_mean(name, known)}; see docs/settings.md")
        elif options.target == "compose" and name in _COMPOSE_SETS:
            problems.append(f"--set {name} cannot be set here: docker/compose.yaml sets it for each service")
        if found := _CHANGED_ON_THE_WAY.search(value):
            problems.append(f"--set {name}: {found[0]!r} is not possible here (quotes, $, \\, comments, line breaks)")
    return problems + [f"--set {told}" for told in environment.problems(options.settings)]


def _changed(options: DeployOptions, names: tuple[str, ...]) -> list[str]:
    plain = DeployOptions(model=options.model, out=options.out)
    return [f"--{name.replace('_', '-')}" for name in names if getattr(options, name) != getattr(plain, name)]


def _delivery(options: DeployOptions) -> list[str]:
    if (options.delivery == "url") != (options.model_url is not None):
        return ["--delivery url and --model-url belong together"]
    if options.model_url is not None and not re.fullmatch(r"https?://[^\s$]+", options.model_url):
        return [f"--model-url: expected http(s)://…, got {options.model_url!r}"]
    return []
