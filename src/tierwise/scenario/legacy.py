"""The earlier three-section form (`simulation`, `network`, `nodes`, optional `ml_inference`), translated.

Sensors become device groups of one, gateways edge nodes, clouds cloud nodes; the links of a direct or latency network
keep their latency and loss; `ml_inference.placement` decides who answers.
"""

from __future__ import annotations

from typing import Any

from tierwise.scenario.document import Document, Location, Problem, ScenarioError

LEGACY_SECTIONS = frozenset({"simulation", "nodes"})
_KNOWN: dict[str, set[str]] = {
    "": {"simulation", "network", "nodes", "ml_inference"},
    "simulation": {"duration_s", "seed", "time_quantum_us"},
    "network": {"model", "default_latency_us", "default_loss_rate", "links"},
    "link": {"src", "dst", "latency_us", "loss_rate"},
    "node": {
        "id", "type", "implementation", "port", "config", "docker",
        "platform", "firmware", "monitor_port", "working_dir", "seed",
    },
    "ml_inference": {"placement", "edge_config", "cloud_config"},
    "edge_config": {"model_path", "broker_host", "broker_port", "threshold"},
    "cloud_config": {"model_path", "latency_ms", "broker_host", "broker_port", "threshold"},
}  # fmt: skip
_EDGE_TYPES = dict.fromkeys(("gateway", "edge", "edge_gateway", "ml_inference", "mqtt_broker"), "edge")
_CLOUD_TYPES = dict.fromkeys(("cloud", "cloud_service", "cloud_ml"), "cloud")
_LARGEST = 1e15
_STATED = "assumed: the earlier form states no service time"


class _Reader:
    """Reads typed values, noting every mistake instead of stopping at the first."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.problems: list[Problem] = []

    def section(self, value: object, where: Location, kind: str) -> dict[str, Any]:
        if value is None:
            return {}
        if not isinstance(value, dict):
            self.problems.append(self.document.problem(where, f"expected a mapping (got {value!r})"))
            return {}
        for key in value.keys() - _KNOWN[kind]:
            self.problems.append(self.document.problem((*where, key), "unknown key", at_key=True))
        return value

    def items(self, value: object, where: Location) -> list[Any]:
        if value is None:
            return []
        if not isinstance(value, list):
            self.problems.append(self.document.problem(where, f"expected a list (got {value!r})"))
            return []
        return value

    def number(self, section: dict[str, Any], key: str, where: Location, default: float | None = None) -> float:
        value = section.get(key, default)
        if value is None:
            self.problems.append(self.document.problem(where, f"`{key}` is missing"))
        elif isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < _LARGEST:
            self.problems.append(self.document.problem((*where, key), f"expected a number (got {value!r})"))
        else:
            return value
        return 1

    def text(self, section: dict[str, Any], key: str, where: Location, default: str | None = None) -> str:
        value = section.get(key, default)
        if value is None:
            self.problems.append(self.document.problem(where, f"`{key}` is missing"))
            return f"?{where}"
        return str(value)


def translate(document: Document) -> dict[str, Any]:
    """The same scenario in the present form, for validation. Raises ``ScenarioError`` with every mistake."""
    reader = _Reader(document)
    data = reader.section(document.data, (), "")
    simulation = reader.section(data.get("simulation"), ("simulation",), "simulation")
    network = reader.section(data.get("network"), ("network",), "network")
    inference = reader.section(data.get("ml_inference"), ("ml_inference",), "ml_inference")
    edge = reader.section(inference.get("edge_config"), ("ml_inference", "edge_config"), "edge_config")
    cloud = reader.section(inference.get("cloud_config"), ("ml_inference", "cloud_config"), "cloud_config")
    places = _places(reader, data)
    placement = reader.text(inference, "placement", ("ml_inference",), "edge")
    if placement not in {"edge", "cloud"}:
        what = f"expected edge or cloud (got {placement!r})"
        reader.problems.append(document.problem(("ml_inference", "placement"), what))
    if not any(tier == "device" for tier, _ in places.values()):
        reader.problems.append(document.problem(("nodes",), "no node is a sensor"))
    gateway = _first(places, "edge") or ("gateway", ("edge", 0.0))
    remote = _first(places, "cloud") or ("cloud", ("cloud", 0.0))
    places |= dict([gateway, remote])
    reader.number(simulation, "time_quantum_us", ("simulation",), 1000)
    cloud_ms = reader.number(cloud, "latency_ms", ("ml_inference", "cloud_config"), 50)
    result = {
        "tierwise": 1,
        "run": {
            "duration": f"{reader.number(simulation, 'duration_s', ('simulation',))}s",
            "seed": int(reader.number(simulation, "seed", ("simulation",))),
        },
        "devices": {
            name: {"traffic": {"pattern": "periodic", "period": f"{1 / rate:.9f}s"}, "features": 32, "answer": "100B"}
            for name, (tier, rate) in places.items()
            if tier == "device"
        },
        "nodes": {name: {"tier": tier} for name, (tier, _) in places.items() if tier != "device"},
        "links": _links(reader, network, places, (gateway[0], remote[0]), cloud_ms),
        "models": {
            "model": {
                "edge": _artifact(edge),
                "cloud": _artifact(cloud),
                "threshold": reader.number(edge, "threshold", ("ml_inference", "edge_config"), 0.5),
            }
        },
        "placement": placement,
    }
    if reader.problems:
        raise ScenarioError(reader.problems)
    return result


def _first(places: dict[str, tuple[str, float]], tier: str) -> tuple[str, tuple[str, float]] | None:
    return next(((name, place) for name, place in places.items() if place[0] == tier), None)


def _artifact(config: dict[str, Any]) -> dict[str, Any]:
    artifact: dict[str, Any] = {"service": "1ms", "source": _STATED}
    return artifact | ({"artifact": str(config["model_path"])} if "model_path" in config else {})


def _places(reader: _Reader, data: dict[str, Any]) -> dict[str, tuple[str, float]]:
    """Each node's tier, and the rate of its samples."""
    places: dict[str, tuple[str, float]] = {}
    for index, item in enumerate(reader.items(data.get("nodes"), ("nodes",))):
        where: Location = ("nodes", index)
        node = reader.section(item, where, "node")
        name, kind = reader.text(node, "id", where), reader.text(node, "type", where)
        if name in places:
            reader.problems.append(reader.document.problem((*where, "id"), f"{name!r} is there twice"))
        config = node.get("config")
        rate = reader.number(config if isinstance(config, dict) else {}, "sample_rate_hz", (*where, "config"), 1)
        places[name] = (_CLOUD_TYPES.get(kind) or _EDGE_TYPES.get(kind) or "device", rate or 1)
    return places


def _links(
    reader: _Reader,
    network: dict[str, Any],
    places: dict[str, tuple[str, float]],
    ends: tuple[str, str],
    cloud_ms: float,
) -> dict[str, Any]:
    """One link for each device to the gateway, and one from there to the cloud."""
    model = reader.text(network, "model", ("network",), "direct")
    if model not in {"direct", "latency"}:
        what = f"expected direct or latency (got {model!r})"
        reader.problems.append(reader.document.problem(("network", "model"), what))
    timed = model == "latency"
    latency = reader.number(network, "default_latency_us", ("network",), 10_000) if timed else 0
    loss = reader.number(network, "default_loss_rate", ("network",), 0) if timed else 0
    stated: dict[frozenset[str], tuple[float, float]] = {}
    for index, item in enumerate(reader.items(network.get("links"), ("network", "links"))):
        where: Location = ("network", "links", index)
        link = reader.section(item, where, "link")
        pair = frozenset({reader.text(link, "src", where), reader.text(link, "dst", where)})
        for name in pair - places.keys():
            reader.problems.append(reader.document.problem(where, f"there is no node {name!r}"))
        figures = (
            reader.number(link, "latency_us", where, latency),
            reader.number(link, "loss_rate", where, loss),
        )
        if timed:
            stated.setdefault(pair, figures)
    gateway, remote = ends
    links = {}
    for name, (tier, _) in places.items():
        if tier == "device":
            own = stated.get(frozenset({name, gateway}), (latency, loss))
            links[f"{name}-{gateway}"] = _link(name, gateway, *own)
    backhaul = stated.get(frozenset({gateway, remote}), (cloud_ms * 1000, 0))
    return links | {f"{gateway}-{remote}": _link(gateway, remote, *backhaul)}


def _link(start: str, end: str, latency_us: float, loss: float) -> dict[str, Any]:
    return {"from": start, "to": end, "latency": f"{latency_us}us", "loss": loss}
