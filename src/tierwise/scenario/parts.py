"""The sections of a scenario about hardware: boards, links, nodes, models. Every physical constant names its source."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag, model_validator

from tierwise.scenario.distributions import KINDS, Distribution
from tierwise.scenario.quantities import (
    BitRate,
    Duration,
    Durations,
    Energy,
    EnergyPerBit,
    Fraction,
    Fractions,
    PositiveFraction,
    Power,
    Size,
)

FROM_PROFILE = "its profile"
"""The source of what a profile gives, until the profile is read."""

Source = Annotated[str, Field(min_length=1, description="where the constants come from: data sheet, paper, …")]
Count = Annotated[int, Field(ge=1, strict=True)]
Limit = Annotated[int, Field(ge=0, strict=True)]
Money = Annotated[float, Field(ge=0)]


class Part(BaseModel):
    """Base of all sections: unknown keys are errors, values never change after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True, populate_by_name=True)


class Board(Part):
    """A device's hardware."""

    active_power: Power = Field(description="drawn while it computes")
    idle_power: Power = Field(default=0.0, description="drawn at all other times")
    memory: Size | None = Field(default=None, description="room for the model; a larger model is an error")
    source: Source


class Battery(Part):
    """A device that is out of energy is silent from then on."""

    capacity: Energy = Field(description="usable energy when full, as it is at the start")
    source: Source


class Retries(Part):
    """A lost message is sent again after a back-off that grows with each try."""

    max: Annotated[int, Field(ge=0, le=15, strict=True)] = Field(description="further tries after the first")
    backoff: Duration = Field(default=0, description="wait before the first further try, after the loss")
    factor: Annotated[float, Field(ge=1, le=16)] = Field(default=2.0, description="growth of the back-off, a try")


class GilbertElliott(Part):
    """Bursty loss: a two-state chain that steps once a message."""

    to_bad: Fraction = Field(description="probability of leaving the good state, a message")
    to_good: Fraction = Field(description="probability of leaving the bad state, a message")
    loss_good: Fraction = Field(default=0.0, description="loss in the good state")
    loss_bad: Fraction = Field(default=1.0, description="loss in the bad state")


def _plain_or_section(value: object) -> str:
    """Which alternative is meant, so that only its errors are told: a value (or distribution), or a section."""
    return "section" if isinstance(value, dict) and not set(value) & set(KINDS) else "plain"


FractionOrBursts = Annotated[
    Annotated[Fraction, Tag("plain")] | Annotated[GilbertElliott, Tag("section")], Discriminator(_plain_or_section)
]


def _listed(value: object) -> object:
    return [value] if isinstance(value, str) else value


class Shaper(Part):
    """A token bucket in front of the link: at most ``burst + rate * t`` bytes in any window ``t``."""

    rate: BitRate = Field(description="how fast the bucket fills")
    burst: Size = Field(description="size of the bucket, full at the start; at least the largest message")


class Radio(Part):
    """Energy that the device end of a link costs."""

    tx: EnergyPerBit = Field(default=0.0, description="to send")
    rx: EnergyPerBit = Field(default=0.0, description="to receive")
    tx_power: Power = Field(default=0.0, description="drawn while the message is on the air, on top of tx")
    rx_power: Power = Field(default=0.0, description="drawn while a message is received, on top of rx")
    idle_power: Power = Field(
        default=0.0, description="drawn all the time by a radio that neither sends nor receives; the others come on top"
    )
    wake: Energy = Field(default=0.0, description="each time the radio is switched on to send")
    source: Source


class LinkPrice(Part):
    """What carrying bytes costs."""

    per_gb: Money = Field(description="for each 10^9 bytes sent, both ways")
    source: Source


class Link(Part):
    """Both ways between ``from`` (device groups or a node) and ``to`` (a node): FIFO, then propagation."""

    from_: Annotated[list[str], BeforeValidator(_listed)] = Field(
        alias="from", min_length=1, description="names from `devices`, or one from `nodes`"
    )
    to: str = Field(description="a name from `nodes`")
    shared: bool = Field(default=True, strict=True, description="one for all devices, or one each")
    latency: Durations = Field(default_factory=lambda: Distribution("constant", (0.0,)), description="one way")
    jitter: Durations | None = Field(default=None, description="added to the latency")
    bandwidth: BitRate | None = Field(default=None, description="upwards, and downwards unless told")
    bandwidth_down: BitRate | None = Field(default=None, description="downwards")
    overhead: Size = Field(default=0, description="header bytes added to each message")
    queue: Limit | None = Field(default=None, description="messages that may wait; further ones are lost")
    loss: FractionOrBursts = Field(default=0.0, description="share of messages lost, each way, or in bursts")
    retries: Retries | None = Field(default=None, description="else a lost message stays lost")
    duty_cycle: PositiveFraction = Field(default=1.0, description="share of the time the sender may be on the air")
    shaper: Shaper | None = Field(default=None, description="a token bucket in front of the link, each way")
    radio: Radio | None = Field(default=None, description="energy at the device's end")
    price: LinkPrice | None = Field(default=None, description="of the bytes carried")


class Batch(Part):
    """Requests that wait are executed together."""

    max_size: Annotated[int, Field(ge=1, le=1024, strict=True)] = Field(description="most samples in a batch")
    max_wait: Duration = Field(default=0, description="how long the oldest may wait for company")
    marginal: Fraction = Field(
        default=0.0,
        description="cost of each further sample, as a share of its service time alone; a profile knows its own",
    )


class NodePower(Part):
    """A node draws idle power always, and the difference to busy power in proportion to its busy workers."""

    idle: Power = Field(description="with no worker busy")
    busy: Power = Field(description="with all workers busy")
    source: Source


class NodePrice(Part):
    """What a node costs."""

    per_hour: Money = Field(default=0.0, description="of the node, busy or not")
    per_request: Money = Field(default=0.0, description="of each request executed")
    source: Source


class Node(Part):
    """A server of the edge or cloud tier: a FIFO queue and identical workers."""

    tier: Literal["edge", "cloud"] = Field(description="where it stands")
    workers: Annotated[int, Field(ge=1, le=4096, strict=True)] = Field(
        default=1, description="requests (or batches) at a time"
    )
    service: Durations | None = Field(default=None, description="of one request; else that of the model on this tier")
    batch: Batch | None = Field(default=None, description="else each request is executed alone")
    queue: Limit | None = Field(
        default=None,
        description="requests that may wait while all workers are busy; further ones are refused",
    )
    power: NodePower | None = Field(default=None, description="else its energy is not counted")
    price: NodePrice | None = Field(default=None, description="else it costs nothing")


class Confidence(Part):
    """How sure the model is, where it is right and where it is wrong."""

    right: Fractions = Field(description="of right answers")
    wrong: Fractions = Field(description="of wrong answers")


FractionsOrConfidence = Annotated[
    Annotated[Fractions, Tag("plain")] | Annotated[Confidence, Tag("section")], Discriminator(_plain_or_section)
]


class Artifact(Part):
    """A model on one tier: what it costs and how good it is, measured or stated."""

    profile: Path | None = Field(
        default=None,
        description="file of `tierwise profile`, relative to the scenario: gives what is not stated of `service` (by "
        "size of the batch), `energy`, `size`, `accuracy` and `source`",
    )
    artifact: Path | None = Field(default=None, description="file to run for real answers")
    runtime: str | None = Field(default=None, description="runtime of the artifact; else by its suffix")
    service: Durations | None = Field(default=None, description="one inference")
    energy: Energy | None = Field(default=None, description="one inference on the device; else active power x time")
    size: Size | None = Field(default=None, description="of the model; must fit a board's memory")
    accuracy: Fraction | None = Field(default=None, description="share of right answers, where none are computed")
    confidence: FractionsOrConfidence = Field(
        default_factory=lambda: Distribution("uniform", (0.0, 1.0)),
        description="where no answers are computed; a cascade that asks it without this assumes {uniform: [0, 1]}",
    )
    source: Source = Field(description="where the constants come from; a profile has its own")

    @model_validator(mode="before")
    @classmethod
    def _sourced(cls, data: object) -> object:
        """A profile says itself where its figures come from."""
        return {"source": FROM_PROFILE, **data} if isinstance(data, dict) and data.get("profile") else data


class Dataset(Part):
    """Labelled samples (.npz): each request carries one of them, drawn at random."""

    file: Path = Field(description="relative to the scenario file")
    features: str = Field(default="x", description="name of the samples' array")
    labels: str = Field(default="y", description="name of the labels' array")


class Model(Part):
    """One model: its artifact on each tier."""

    device: Artifact | None = Field(default=None, description="on the device itself")
    edge: Artifact | None = Field(default=None, description="on edge nodes")
    cloud: Artifact | None = Field(default=None, description="on cloud nodes")
    data: Dataset | None = Field(default=None, description="labelled samples, for real answers")
    threshold: Fraction = Field(default=0.5, description="of a single probability, above which the label is 1")
