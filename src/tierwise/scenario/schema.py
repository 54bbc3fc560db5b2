"""The scenario as a whole: run, devices, traffic, placement, faults, objectives, outputs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, get_args

from pydantic import BeforeValidator, Discriminator, Field, Tag

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

    duration: PositiveDuration
    seed: Annotated[int, Field(ge=0, lt=2**63, strict=True)] = 0
    warm_up: Duration = Field(default=0, description="requests created earlier are traced, not counted")
    replications: Annotated[int, Field(ge=1, le=10_000, strict=True)] = 1


class _Starting(Part):
    start: Duration = Field(default=0, description="no request before")


class _Open(_Starting):
    stop: PositiveDuration | None = Field(default=None, description="no request from then on")


Phase = Literal["random", "same"]


class Periodic(_Open):
    """One request every period."""

    pattern: Literal["periodic"]
    period: PositiveDuration
    phase: Phase = Field(default="random", description="each device its own phase, or all at once")
    jitter: Durations | None = Field(default=None, description="delay of each request after its regular time")


class Poisson(_Open):
    """Independent exponential gaps, a device."""

    pattern: Literal["poisson"]
    rate: Rate


class Burst(_Open):
    """Every period, ``size`` requests ``spacing`` apart."""

    pattern: Literal["burst"]
    period: PositiveDuration
    size: Annotated[int, Field(ge=1, le=1_000_000, strict=True)]
    spacing: Duration = 0
    phase: Phase = "random"
    jitter: Durations | None = None


class Replay(_Open):
    """Times from a CSV file with a column ``time_s``, and optionally ``device`` (index in the group)."""

    pattern: Literal["trace"]
    file: Path


class SingleStream(_Open):
    """LoadGen SingleStream: the next query when the last was answered."""

    pattern: Literal["single_stream"]
    queries: Count | None = None


class MultiStream(_Open):
    """LoadGen MultiStream: queries of several samples, the next when the last was answered."""

    pattern: Literal["multi_stream"]
    samples: Annotated[int, Field(ge=1, le=4096, strict=True)] = 8
    queries: Count | None = None


class Server(_Open):
    """LoadGen Server: Poisson queries."""

    pattern: Literal["server"]
    rate: Rate


class Offline(_Starting):
    """LoadGen Offline: all samples at once."""

    pattern: Literal["offline"]
    samples: Annotated[int, Field(ge=1, le=100_000_000, strict=True)] = 24_576


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
    """A group of equal devices, named ``{group}-{index}``."""

    count: Annotated[int, Field(ge=1, le=10_000_000, strict=True)] = 1
    traffic: NameOrTraffic = Field(description="a name from `traffic`, or a pattern")
    model: str | None = Field(default=None, description="a name from `models`; may be left out where there is one")
    board: NameOrBoard | None = Field(default=None, description="a name from `boards`, or a board")
    battery: Battery | None = None
    features: Count = Field(default=1, description="values in a sample; four bytes each on the wire")
    request: Size | None = Field(default=None, description="payload upwards; else four bytes a feature")
    answer: Size = Field(default=64, description="payload downwards")
    timeout: PositiveDuration | None = Field(default=None, description="the device gives up then")


class Cascade(Part):
    """Ask the first tier; where its confidence is below the threshold ask the next."""

    cascade: list[Tier] = Field(min_length=2, max_length=3)
    threshold: Fraction
    timeout: PositiveDuration | None = Field(
        default=None, description="keep the sure-enough answer when the next tier has not answered by then"
    )


class Fallback(Part):
    """Ask the first tier; where it has not answered in time ask the next."""

    fallback: list[Tier] = Field(min_length=2, max_length=3)
    timeout: PositiveDuration


class Expression(Part):
    """A rule such as ``cloud if queue_edge > 10 else edge``."""

    expression: str


class Custom(Part):
    """A policy in Python, by its entry point of the group ``tierwise.policies``."""

    policy: str
    options: dict[str, str | int | float | bool] = Field(default_factory=dict)


_RULES = ("cascade", "fallback", "expression", "policy")
EVERY_GROUP = "*"


def _rule_kind(value: object) -> str:
    if isinstance(value, Part):
        return next((name for name in _RULES if hasattr(value, name)), "tier")
    return next((name for name in _RULES if name in value), "expression") if isinstance(value, dict) else "tier"


def _spelled_out(value: object) -> object:
    """A text that is no tier is an expression."""
    return {"expression": value} if isinstance(value, str) and value not in get_args(Tier) else value


Rule = Annotated[
    Annotated[Tier, Tag("tier")]
    | Annotated[Cascade, Tag("cascade")]
    | Annotated[Fallback, Tag("fallback")]
    | Annotated[Expression, Tag("expression")]
    | Annotated[Custom, Tag("policy")],
    Discriminator(_rule_kind),
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
    lasts: PositiveDuration


class NodeDown(_Lasting):
    """The node loses what it holds and refuses what comes."""

    fault: Literal["node_down"]
    node: str


class LinkDown(_Lasting):
    """Messages whose transmission touches the outage are lost."""

    fault: Literal["link_down"]
    link: str


class LinkDegraded(_Lasting):
    """Less bandwidth, more latency, more loss for a while."""

    fault: Literal["link_degraded"]
    link: str
    bandwidth_factor: PositiveFraction = 1.0
    extra_latency: Duration = 0
    extra_loss: Fraction = 0.0


class BrokerRestart(_Lasting):
    """The node goes on with what it holds; messages that reach it meanwhile are lost."""

    fault: Literal["broker_restart"]
    node: str


class BatteryOut(Part):
    """Devices go silent for good: a share of the group, its first ones."""

    fault: Literal["battery_out"]
    devices: str
    at: Duration
    share: PositiveFraction = 1.0


class ClockDrift(Part):
    """Clocks of a group run slow (positive) or fast: periods stretch."""

    fault: Literal["clock_drift"]
    devices: str
    drift: Drift


Fault = Annotated[
    NodeDown | LinkDown | LinkDegraded | BrokerRestart | BatteryOut | ClockDrift, Field(discriminator="fault")
]


class Objectives(Part):
    """What the system must reach; the summary says which are met."""

    p50: PositiveDuration | None = None
    p95: PositiveDuration | None = None
    p99: PositiveDuration | None = None
    answered: Fraction | None = Field(default=None, description="least share of requests answered")
    accuracy: Fraction | None = None
    cost_per_hour: Annotated[float, Field(ge=0)] | None = None


class Outputs(Part):
    """What a run leaves in its folder."""

    trace: Literal["csv", "parquet", "none"] = "csv"
    bucket: PositiveDuration | None = Field(default=None, description="of the time series; else duration / 120")


class Carbon(Part):
    """Of the electricity of all tiers."""

    intensity: CarbonIntensity
    source: Source


class Scenario(Part):
    """A fleet, its traffic, links, tiers, models, placement, faults and objectives."""

    tierwise: Literal[1]
    name: str = ""
    description: str = ""
    run: Run
    boards: dict[str, Board] = Field(default_factory=dict)
    traffic: dict[str, Traffic] = Field(default_factory=dict)
    devices: dict[str, Devices] = Field(min_length=1)
    links: dict[str, Link] = Field(default_factory=dict)
    nodes: dict[str, Node] = Field(default_factory=dict)
    models: dict[str, Model] = Field(min_length=1)
    placement: Annotated[dict[str, Rule], BeforeValidator(_by_group)] = Field(
        min_length=1, description="one rule, or one for each group"
    )
    faults: list[Fault] = Field(default_factory=list)
    slo: Objectives = Field(default_factory=Objectives)
    outputs: Outputs = Field(default_factory=Outputs)
    carbon: Carbon | None = None

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

    def model_of(self, group: str) -> str:
        """The name of the model that a group asks."""
        return self.devices[group].model or next(iter(self.models))
