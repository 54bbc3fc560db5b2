"""The scenario as a whole: run, devices, traffic, placement, faults, objectives, outputs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, get_args

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, Tag

from tierwise.scenario.expression import parse_expression
from tierwise.scenario.parts import Battery, Board, Count, Link, Model, Node, Part, Source
from tierwise.scenario.quantities import (
    CarbonIntensity,
    Drift,
    Duration,
    Durations,
    Fraction,
    PositiveDuration,
    PositiveFraction,
    Rate,
    Size,
)

Tier = Literal["device", "edge", "cloud"]


class Run(Part):
    """How long, and with which dice."""

    duration: PositiveDuration = Field(description="virtual time from 0; requests under way then are in flight")
    seed: Annotated[int, Field(ge=0, lt=2**63, strict=True)] = Field(default=0, description="of every random stream")
    warm_up: Duration = Field(default=0, description="requests created earlier are traced, not counted")
    replications: Annotated[int, Field(ge=1, le=10_000, strict=True)] = Field(
        default=1, description="independent runs, for intervals over runs"
    )


class _Starting(Part):
    start: Duration = Field(default=0, description="no request before")


class _Open(_Starting):
    stop: PositiveDuration | None = Field(default=None, description="no request from then on")


Phase = Literal["random", "same"]


class Periodic(_Open):
    """One request every period."""

    pattern: Literal["periodic"]
    period: PositiveDuration = Field(description="between two requests of a device")
    phase: Phase = Field(default="random", description="each device its own phase, or all at once")
    jitter: Durations | None = Field(default=None, description="delay of each request after its regular time")


class Poisson(_Open):
    """Independent exponential gaps, a device."""

    pattern: Literal["poisson"]
    rate: Rate = Field(description="mean requests of a device")


class Burst(_Open):
    """Every period, ``size`` requests ``spacing`` apart."""

    pattern: Literal["burst"]
    period: PositiveDuration = Field(description="between two bursts of a device")
    size: Annotated[int, Field(ge=1, le=1_000_000, strict=True)] = Field(description="requests in a burst")
    spacing: Duration = Field(default=0, description="between two requests of a burst")
    phase: Phase = Field(default="random", description="each device its own phase, or all at once")
    jitter: Durations | None = Field(default=None, description="delay of each request after its regular time")


class Replay(_Open):
    """Times from a CSV file with a column ``time_s``, and optionally ``device`` (index in the group)."""

    pattern: Literal["trace"]
    file: Path = Field(description="CSV, relative to the scenario file")


class SingleStream(_Open):
    """LoadGen SingleStream: the next query when the last was answered, or given up at the device's ``timeout``."""

    pattern: Literal["single_stream"]
    queries: Count | None = Field(default=None, description="of each device; else until the end, as LoadGen goes on")


class MultiStream(_Open):
    """LoadGen MultiStream: queries of several samples, the next when all of the last were answered or given up."""

    pattern: Literal["multi_stream"]
    samples: Annotated[int, Field(ge=1, le=4096, strict=True)] = Field(default=8, description="in a query")
    queries: Count | None = Field(default=None, description="of each device; else until the end, as LoadGen goes on")


class Server(_Open):
    """LoadGen Server: Poisson queries."""

    pattern: Literal["server"]
    rate: Rate = Field(description="mean queries of a device")


class Offline(_Starting):
    """LoadGen Offline: all samples at once."""

    pattern: Literal["offline"]
    samples: Annotated[int, Field(ge=1, le=100_000_000, strict=True)] = Field(
        default=24_576, description="of each device; LoadGen's least number by default"
    )


class External(Part):
    """Real code in the loop: each device of the group is a program that speaks the lockstep protocol."""

    pattern: Literal["external"]
    command: list[str] = Field(default_factory=list, description="starts one device; `{id}` stands for its name")
    address: list[str] = Field(default_factory=list, description="host:port of each device that runs already")
    config: dict[str, str | int | float | bool] = Field(default_factory=dict, description="given to each with INIT")
    timeout: PositiveDuration = Field(default=10_000_000_000, description="wall time that an answer may take")
    step: PositiveDuration | None = Field(default=None, description="longest advance; else what the links allow")


Traffic = Annotated[
    External | Periodic | Poisson | Burst | Replay | SingleStream | MultiStream | Server | Offline,
    Field(discriminator="pattern"),
]


def _name_or_section(value: object) -> str:
    return "name" if isinstance(value, str) else "section"


NameOrTraffic = Annotated[
    Annotated[str, Tag("name")] | Annotated[Traffic, Tag("section")], Discriminator(_name_or_section)
]
NameOrBoard = Annotated[Annotated[str, Tag("name")] | Annotated[Board, Tag("section")], Discriminator(_name_or_section)]


class Devices(Part):
    """A group of equal devices, named ``{group}-{index}`` (one alone as its group)."""

    count: Annotated[int, Field(ge=1, le=10_000_000, strict=True)] = Field(
        default=1, description="devices in the group"
    )
    names: list[str] | None = Field(default=None, description="of its devices, where they have their own")
    traffic: NameOrTraffic = Field(description="a name from `traffic`, or a pattern")
    model: str | None = Field(default=None, description="a name from `models`; may be left out where there is one")
    board: NameOrBoard | None = Field(default=None, description="a name from `boards`, or a board")
    battery: Battery | None = Field(default=None, description="of each device; else energy is unlimited")
    features: Count = Field(default=1, description="values in a sample; four bytes each on the wire")
    request: Size | None = Field(default=None, description="payload upwards; else four bytes a feature")
    answer: Size = Field(default=64, description="payload downwards")
    timeout: PositiveDuration | None = Field(default=None, description="the device gives up then")


class Cascade(Part):
    """Ask the first tier; where its confidence is below the threshold ask the next."""

    cascade: list[Tier] = Field(min_length=2, max_length=3, description="tiers in the order in which they are asked")
    threshold: Fraction = Field(description="an answer is kept from this confidence on")
    timeout: PositiveDuration | None = Field(
        default=None, description="keep the sure-enough answer when the next tier has not answered by then"
    )


class Fallback(Part):
    """Ask the first tier; where it has not answered in time ask the next."""

    fallback: list[Tier] = Field(min_length=2, max_length=3, description="tiers in the order in which they are asked")
    timeout: PositiveDuration = Field(description="how long a tier may take before the next is asked")


def _parsed(text: str) -> str:
    parse_expression(text)
    return text


class Expression(Part):
    """A rule such as ``cloud if queue_edge > 10 else edge``."""

    expression: Annotated[str, AfterValidator(_parsed)] = Field(
        description="knows `group`, `battery`, `queue_edge`, `queue_cloud`, `time_s`; gives a tier"
    )


class Custom(Part):
    """A policy in Python, by its entry point of the group ``tierwise.policies``."""

    policy: str = Field(description="name of the entry point")
    options: dict[str, str | int | float | bool] = Field(default_factory=dict, description="given to its factory")
    timeout: PositiveDuration | None = Field(
        default=None, description="it is asked again where a tier has not answered by then"
    )


_RULES = ("cascade", "fallback", "expression", "policy")
EVERY_GROUP = "*"


def _rule_kind(value: object) -> str | None:
    if isinstance(value, Part):
        return next((name for name in _RULES if hasattr(value, name)), None)
    return next((name for name in _RULES if name in value), None) if isinstance(value, dict) else "tier"


def _spelled_out(value: object) -> object:
    """A text that is no tier is an expression."""
    return {"expression": value} if isinstance(value, str) and value not in get_args(Tier) else value


Rule = Annotated[
    Annotated[Tier, Tag("tier")]
    | Annotated[Cascade, Tag("cascade")]
    | Annotated[Fallback, Tag("fallback")]
    | Annotated[Expression, Tag("expression")]
    | Annotated[Custom, Tag("policy")],
    Discriminator(
        _rule_kind,
        custom_error_type="rule",
        custom_error_message="expected a tier, an expression, or a mapping with one of " + ", ".join(_RULES),
    ),
    BeforeValidator(_spelled_out),
]


def _by_group(value: object) -> object:
    """One rule for all groups, or one each under its name."""
    if isinstance(value, str) or (isinstance(value, dict) and set(value) & set(_RULES)):
        return {EVERY_GROUP: value}
    return value


class _At(Part):
    at: Duration | None = Field(default=None, description="when; or `every` with a mean time between faults")
    every: PositiveDuration | None = Field(default=None, description="mean of the exponential time between faults")


class _Lasting(_At):
    lasts: PositiveDuration = Field(description="how long each lasts")


class NodeDown(_Lasting):
    """The node loses what it holds and refuses what comes."""

    fault: Literal["node_down"]
    node: str = Field(description="a name from `nodes`")


class LinkDown(_Lasting):
    """Messages whose transmission touches the outage are lost."""

    fault: Literal["link_down"]
    link: str = Field(description="a name from `links`")


class LinkDegraded(_Lasting):
    """Less bandwidth, more latency, more loss for a while."""

    fault: Literal["link_degraded"]
    link: str = Field(description="a name from `links`")
    bandwidth_factor: PositiveFraction = Field(default=1.0, description="what is left of the bandwidth")
    extra_latency: Duration = Field(default=0, description="added to the latency")
    extra_loss: Fraction = Field(default=0.0, description="share lost of what would have arrived")


class BrokerRestart(_Lasting):
    """The node goes on with what it holds; messages that reach it meanwhile are lost."""

    fault: Literal["broker_restart"]
    node: str = Field(description="the node that the broker serves, a name from `nodes`")


class BatteryOut(Part):
    """Devices go silent for good: a share of the group, its first ones."""

    fault: Literal["battery_out"]
    devices: str = Field(description="a name from `devices`")
    at: Duration = Field(description="when they go silent")
    share: PositiveFraction = Field(default=1.0, description="of the group, its first devices, rounded")


class ClockDrift(Part):
    """Clocks of a group run slow (positive) or fast: periods stretch."""

    fault: Literal["clock_drift"]
    devices: str = Field(description="a name from `devices`")
    drift: Drift = Field(description="a period of one second lasts so much longer")


Fault = Annotated[
    NodeDown | LinkDown | LinkDegraded | BrokerRestart | BatteryOut | ClockDrift, Field(discriminator="fault")
]


class Objectives(Part):
    """What the system must reach; the summary says which are met."""

    p50: PositiveDuration | None = Field(default=None, description="longest median end-to-end latency")
    p95: PositiveDuration | None = Field(default=None, description="longest 95th percentile")
    p99: PositiveDuration | None = Field(default=None, description="longest 99th percentile")
    answered: Fraction | None = Field(default=None, description="least share of requests answered")
    accuracy: Fraction | None = Field(default=None, description="least share of right answers")
    cost_per_hour: Annotated[float, Field(ge=0)] | None = Field(default=None, description="highest cost of an hour")


class Outputs(Part):
    """What a run leaves in its folder."""

    trace: Literal["csv", "parquet", "none"] = Field(default="csv", description="form of the trace file")
    bucket: PositiveDuration | None = Field(default=None, description="of the time series; else duration / 120")


class Carbon(Part):
    """Of the electricity of all tiers."""

    intensity: CarbonIntensity = Field(description="CO2 of a kWh")
    source: Source


class Scenario(Part):
    """A fleet, its traffic, links, tiers, models, placement, faults and objectives."""

    tierwise: Literal[1] = Field(description="version of the language")
    name: str = Field(default="", description="else the file's name")
    description: str = Field(default="", description="what it is, and what to expect of it")
    run: Run = Field(description="how long, and with which dice")
    boards: dict[str, Board] = Field(default_factory=dict, description="hardware of devices, by name")
    traffic: dict[str, Traffic] = Field(default_factory=dict, description="patterns that groups share, by name")
    devices: dict[str, Devices] = Field(min_length=1, description="groups of equal devices, by name")
    links: dict[str, Link] = Field(default_factory=dict, description="ways between groups and nodes, by name")
    nodes: dict[str, Node] = Field(default_factory=dict, description="servers at the edge and in the cloud, by name")
    models: dict[str, Model] = Field(min_length=1, description="what each tier runs, by name")
    placement: Annotated[dict[str, Rule], BeforeValidator(_by_group)] = Field(
        min_length=1, description="one rule, or one for each group"
    )
    faults: list[Fault] = Field(default_factory=list, description="what breaks, and when")
    slo: Objectives = Field(default_factory=Objectives, description="objectives; the summary says which are met")
    outputs: Outputs = Field(default_factory=Outputs, description="what a run leaves in its folder")
    carbon: Carbon | None = Field(default=None, description="carbon intensity of the electricity")

    def rule(self, group: str) -> Rule:
        """The placement rule of a device group."""
        return self.placement.get(group, self.placement.get(EVERY_GROUP, "device"))

    def traffic_of(self, group: str) -> Traffic:
        """The traffic pattern of a device group."""
        traffic = self.devices[group].traffic
        return self.traffic[traffic] if isinstance(traffic, str) else traffic

    def board_of(self, group: str) -> Board | None:
        """The board of a device group."""
        board = self.devices[group].board
        return self.boards[board] if isinstance(board, str) else board

    def idle_power_of(self, group: str) -> float:
        """What a device of a group draws while it does nothing, watt: its board and its radios."""
        board = self.board_of(group)
        radios = [link.radio for link in self.links.values() if link.radio is not None and group in link.from_]
        return (0.0 if board is None else board.idle_power) + sum(radio.idle_power for radio in radios)

    def model_of(self, group: str) -> str:
        """The name of the model that a group asks."""
        return self.devices[group].model or next(iter(self.models))
