"""The earlier three-section form (`simulation`, `network`, `nodes`, optional `ml_inference`), translated.

Sensors become devices, gateways edge nodes, clouds cloud nodes; brokers pass on and serve nobody. Equal sensors become
one group with a link each. A sensor sends to the gateway that its links name, else to the first; a way over a broker
takes the time of both its links. An unknown name is an error. Ports, containers, firmware, broker addresses and what a
node's `config` says of its program told the earlier simulator what to start; in virtual time nothing is started, and
they are not used.
"""

from __future__ import annotations

import difflib
import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from tierwise.scenario.document import Document, Location, Problem, ScenarioError
from tierwise.scenario.units import format_ns, parse_ns

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

_SECTIONS = frozenset({"simulation", "network", "ml_inference"})
_KNOWN: dict[str, tuple[str, ...]] = {
    "": ("simulation", "network", "nodes", "ml_inference"),
    "simulation": ("duration_s", "seed", "time_quantum_us"),
    "network": ("model", "default_latency_us", "default_loss_rate", "links"),
    "link": ("src", "dst", "latency_us", "loss_rate"),
    "node": (
        "id", "type", "implementation", "port", "config", "docker",
        "platform", "firmware", "monitor_port", "working_dir", "seed",
    ),
    "ml_inference": ("placement", "edge_config", "cloud_config"),
    "edge_config": ("model_path", "broker_host", "broker_port", "threshold"),
    "cloud_config": ("model_path", "latency_ms", "broker_host", "broker_port", "threshold"),
}  # fmt: skip
_BROKER = "broker"
_TIERS = {
    **dict.fromkeys(("sensor", "sensor_model", "device", "renode"), "device"),
    **dict.fromkeys(("gateway", "gateway_model", "edge", "edge_gateway", "ml_inference"), "edge"),
    **dict.fromkeys(("cloud", "cloud_model", "cloud_service", "cloud_ml"), "cloud"),
    **dict.fromkeys(("mqtt_broker", "broker"), _BROKER),
}
_STATED = "assumed: the earlier form states no service time"
_CLOUD_MS = 50
_DAY_US = 86_400e6


def is_earlier_form(data: dict[str, Any]) -> bool:
    """Whether a document is meant to be of the earlier form, also one with mistakes."""
    return "tierwise" not in data and (isinstance(data.get("nodes"), list) or not _SECTIONS.isdisjoint(data))


class _Place(NamedTuple):
    tier: str
    rate: float
    """Samples a second."""


class _Figures(NamedTuple):
    """Of a way between two nodes."""

    latency_us: float
    loss: float

    def then(self, other: _Figures) -> _Figures:
        return _Figures(self.latency_us + other.latency_us, 1 - (1 - self.loss) * (1 - other.loss))


@dataclass
class _Network:
    """The links that the file states."""

    default: _Figures
    stated: dict[frozenset[str], tuple[_Figures, Location]] = field(default_factory=dict)
    used: set[frozenset[str]] = field(default_factory=set)

    def between(self, one: str, other: str) -> _Figures | None:
        pair = frozenset({one, other})
        if pair not in self.stated:
            return None
        self.used.add(pair)
        return self.stated[pair][0]

    def neighbours(self, name: str, among: Collection[str]) -> list[str]:
        """Those of ``among`` to which a link leads, in the order of the file."""
        ends = [pair - {name} for pair in self.stated if name in pair]
        return [other for end in ends for other in end if other in among]


class _Reader:
    """Reads typed values, noting every mistake instead of stopping at the first."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.problems: list[Problem] = []

    def wrong(self, where: Location, what: str, *, at_key: bool = False) -> None:
        self.problems.append(self.document.problem(where, what, at_key=at_key))

    def section(self, value: object, where: Location, kind: str) -> dict[str, Any]:
        if value is None:
            return {}
        if not isinstance(value, dict):
            self.wrong(where, f"expected a mapping (got {value!r})")
            return {}
        for key in value.keys() - set(_KNOWN[kind]):
            close = difflib.get_close_matches(key, _KNOWN[kind], n=1, cutoff=0.75)
            hint = f" (did you mean `{close[0]}`?)" if close else f" (known: {', '.join(_KNOWN[kind])})"
            self.wrong((*where, key), f"unknown key{hint}", at_key=True)
        return value

    def items(self, value: object, where: Location) -> list[Any]:
        if value is None:
            return []
        if not isinstance(value, list):
            self.wrong(where, f"expected a list (got {value!r})")
            return []
        return value

    def number(
        self,
        section: dict[str, Any],
        where: Location,
        key: str,
        default: float | None = None,
        *,
        least: float = 0,
        most: float = 1e9,
        whole: bool = False,
    ) -> float:
        """The number under a key of ``section``, which stands at ``where``; the least one where it is wrong."""
        value = section.get(key, default)
        if value is None:
            self.wrong(where, f"`{key}` is missing")
        elif isinstance(value, bool) or not isinstance(value, int | float):
            self.wrong((*where, key), f"expected a number (got {value!r})")
        elif not least <= value <= most:
            self.wrong((*where, key), f"must lie between {least:g} and {most:g} (got {value!r})")
        elif whole and value != int(value):
            self.wrong((*where, key), f"expected a whole number (got {value!r})")
        else:
            return value
        return least

    def text(self, section: dict[str, Any], where: Location, key: str, default: str | None = None) -> str:
        value = section.get(key, default)
        if value is None:
            self.wrong(where, f"`{key}` is missing")
            return f"?{where}"
        return str(value)

    def choice(
        self, section: dict[str, Any], where: Location, key: str, known: Collection[str], default: str | None = None
    ) -> str:
        value = self.text(section, where, key, default)
        if value not in known and not value.startswith("?"):
            self.wrong((*where, key), f"expected one of {', '.join(known)} (got {value!r})")
        return value


def translate(document: Document) -> dict[str, Any]:
    """The same scenario in the present form, for validation. Raises ``ScenarioError`` with every mistake."""
    reader = _Reader(document)
    data = reader.section(document.data, (), "")
    simulation = reader.section(data.get("simulation"), ("simulation",), "simulation")
    inference = reader.section(data.get("ml_inference"), ("ml_inference",), "ml_inference")
    configs = {
        tier: reader.section(inference.get(f"{tier}_config"), ("ml_inference", f"{tier}_config"), f"{tier}_config")
        for tier in ("edge", "cloud")
    }
    placement = reader.choice(inference, ("ml_inference",), "placement", ("edge", "cloud"), "edge")
    places = _places(reader, data)
    network = _network(reader, data, places)
    reader.number(simulation, ("simulation",), "time_quantum_us", 1000, least=1)
    duration = reader.number(simulation, ("simulation",), "duration_s", least=1e-6)
    seed = reader.number(simulation, ("simulation",), "seed", most=2**62, whole=True)
    thresholds = {
        tier: reader.number(config, ("ml_inference", f"{tier}_config"), "threshold", 0.5, most=1)
        for tier, config in configs.items()
    }
    cloud_us = None
    if "latency_ms" in configs["cloud"]:
        cloud_us = 1000 * reader.number(configs["cloud"], ("ml_inference", "cloud_config"), "latency_ms", most=1e8)
    devices, links = _fleet(places, network, placement, cloud_us)
    for pair, (_, where) in network.stated.items():
        if pair not in network.used:
            reader.wrong(where, f"no request would take this link; links join {_JOINED}, and a sensor has one gateway")
    if reader.problems:
        raise ScenarioError(reader.problems)
    return {
        "tierwise": 1,
        "run": {"duration": f"{duration}s", "seed": int(seed)},
        "devices": devices,
        "nodes": {name: {"tier": place.tier} for name, place in places.items() if place.tier in {"edge", "cloud"}},
        "links": links,
        "models": {
            "model": {
                **{tier: _artifact(config) for tier, config in configs.items()},
                "threshold": thresholds.get(placement, 0.5),
            }
        },
        "placement": placement,
    }


_JOINED = "sensors, gateways, clouds and the brokers between them"


def _artifact(config: dict[str, Any]) -> dict[str, Any]:
    artifact: dict[str, Any] = {"service": "1ms", "source": _STATED}
    return artifact | ({"artifact": str(config["model_path"])} if "model_path" in config else {})


def _places(reader: _Reader, data: dict[str, Any]) -> dict[str, _Place]:
    """Each node's tier, and the rate of its samples. A gateway and a cloud are there in any case."""
    places: dict[str, _Place] = {}
    for index, item in enumerate(reader.items(data.get("nodes"), ("nodes",))):
        where: Location = ("nodes", index)
        node = reader.section(item, where, "node")
        name = reader.text(node, where, "id")
        tier = _TIERS.get(reader.choice(node, where, "type", _TIERS), "device")
        if name in places:
            reader.wrong((*where, "id"), f"{name!r} is there twice")
        config = node.get("config")
        own = config if isinstance(config, dict) and tier == "device" else {}
        places[name] = _Place(tier, reader.number(own, (*where, "config"), "sample_rate_hz", 1, least=1e-6, most=1e6))
    if not any(place.tier == "device" for place in places.values()):
        reader.wrong(("nodes",), "no node is a sensor")
    for tier, name in (("edge", "gateway"), ("cloud", "cloud")):
        if not _of_tier(places, tier):
            places[_unused(name, places)] = _Place(tier, 1)
    return places


def _network(reader: _Reader, data: dict[str, Any], places: dict[str, _Place]) -> _Network:
    here: Location = ("network",)
    section = reader.section(data.get("network"), here, "network")
    timed = reader.choice(section, here, "model", ("direct", "latency"), "direct") == "latency"
    latency = reader.number(section, here, "default_latency_us", 10_000, most=_DAY_US)
    loss = reader.number(section, here, "default_loss_rate", 0, most=1)
    network = _Network(_Figures(latency, loss) if timed else _Figures(0, 0))
    links = reader.items(section.get("links"), (*here, "links"))
    if links and not timed:
        reader.wrong((*here, "links"), "a direct network has no links; say `model: latency`")
    for index, item in enumerate(links):
        where = (*here, "links", index)
        link = reader.section(item, where, "link")
        ends = [reader.text(link, where, end) for end in ("src", "dst")]
        for name in ends:
            if name not in places and not name.startswith("?"):
                reader.wrong(where, f"there is no node {name!r}")
        figures = _Figures(
            reader.number(link, where, "latency_us", latency, most=_DAY_US),
            reader.number(link, where, "loss_rate", loss, most=1),
        )
        known = network.stated.setdefault(frozenset(ends), (figures, where))
        if known[0] != figures:
            reader.wrong(where, f"{' and '.join(ends)} have a link already, of other figures; both ways are one link")
    return network


def _of_tier(places: dict[str, _Place], tier: str) -> list[str]:
    return [name for name, place in places.items() if place.tier == tier]


def _unused(name: str, taken: Collection[str]) -> str:
    names = itertools.chain([name], (f"{name}-{number}" for number in itertools.count(2)))
    return next(name for name in names if name not in taken)


def _fleet(
    places: dict[str, _Place], network: _Network, placement: str, cloud_us: float | None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Groups of equal sensors, and the links."""
    links: dict[str, Any] = {}
    members: dict[tuple[float, tuple[tuple[str, _Figures], ...]], list[str]] = {}
    for name in _of_tier(places, "device"):
        ways = tuple(_ways_of_sensor(name, places, network, placement, cloud_us or 0))
        members.setdefault((places[name].rate, ways), []).append(name)
    devices: dict[str, Any] = {}
    senders: dict[tuple[str, _Figures], list[str]] = {}
    for (rate, ways), names in members.items():
        group = names[0] if len(names) == 1 else _unused("sensors", places.keys() | devices.keys())
        devices[group] = {
            **({"count": len(names), "names": names} if len(names) > 1 else {}),
            "traffic": {"pattern": "periodic", "period": f"{1 / rate:.9f}s"},
            "features": 32,
            "answer": "100B",
        }
        for way in ways:
            senders.setdefault(way, []).append(group)
    for (end, figures), groups in senders.items():
        # Not named by the sensors: one more of them must not give the others other random numbers.
        stated = "" if figures == network.default else f"-{format_ns(parse_ns(_us(figures)))}-{figures.loss:g}"
        links[_unused(f"sensors-{end}{stated}", links)] = {**_link(groups, end, figures), "shared": False}
    for gateway in _of_tier(places, "edge"):
        for cloud, figures in _ways_of_gateway(gateway, places, network, cloud_us):
            links[_unused(f"{gateway}-{cloud}", links)] = _link(gateway, cloud, figures)
    return devices, links


def _ways_of_sensor(
    name: str, places: dict[str, _Place], network: _Network, placement: str, cloud_us: float
) -> Iterator[tuple[str, _Figures]]:
    """To its gateway, and to the clouds that its links name."""
    gateways, clouds = _of_tier(places, "edge"), _of_tier(places, "cloud")
    reached = list(_ways(name, clouds, places, network))
    own = next(_ways(name, gateways, places, network), None)
    if own is not None:
        yield own
    elif (broker := next(iter(network.neighbours(name, _of_tier(places, _BROKER))), None)) and not reached:
        yield gateways[0], network.between(name, broker) or network.default
    elif not reached or placement == "edge":
        yield gateways[0], network.default
    for cloud, figures in reached:
        yield cloud, figures.then(_Figures(cloud_us, 0))


def _ways_of_gateway(
    name: str, places: dict[str, _Place], network: _Network, cloud_us: float | None
) -> Iterator[tuple[str, _Figures]]:
    """To the clouds that its links name, else to the first, as late as `latency_ms` says."""
    clouds = _of_tier(places, "cloud")
    stated = list(_ways(name, clouds, places, network))
    for cloud, figures in stated:
        yield cloud, figures.then(_Figures(cloud_us or 0, 0))
    if not stated:
        before = _Figures(0, 0)
        if broker := next(iter(network.neighbours(name, _of_tier(places, _BROKER))), None):
            before = network.between(name, broker) or before
        yield clouds[0], before.then(_Figures(_CLOUD_MS * 1000 if cloud_us is None else cloud_us, 0))


def _ways(
    name: str, ends: Collection[str], places: dict[str, _Place], network: _Network
) -> Iterator[tuple[str, _Figures]]:
    """Stated ways to ``ends``: those by a link of their own first, then those over a broker."""
    direct = network.neighbours(name, ends)
    for end in direct:
        yield end, network.between(name, end) or network.default
    for broker in network.neighbours(name, _of_tier(places, _BROKER)):
        for end in network.neighbours(broker, ends):
            if end not in direct:
                first, second = network.between(name, broker), network.between(broker, end)
                if first is not None and second is not None:
                    yield end, first.then(second)


def _us(figures: _Figures) -> str:
    return f"{figures.latency_us}us"


def _link(start: str | list[str], end: str, figures: _Figures) -> dict[str, Any]:
    return {"from": start, "to": end, "latency": _us(figures), "loss": figures.loss}
