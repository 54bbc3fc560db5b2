"""The rules. A rule is asked when a request is made, after each answer, and after each failure that it learns of.

It learns of a failure by its timeout alone: a lost message and a full queue tell nobody. Without a timeout what is lost
stays lost, with the answers that lay on the same way.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import msgspec

Value = float | int | bool | str


class Situation(msgspec.Struct, frozen=True, gc=False):
    """What a rule may know when it decides about one request.

    ``asked`` are the tiers that were tried, in order; ``failed`` says that the last of them gave no answer in time
    (lost, refused or late), else ``confidence`` is that of its answer (0 to 1). ``queues`` are the requests
    waiting or running at each tier's node on the way, ``battery`` the share of energy left (1 where there is none).
    """

    group: str = ""
    device: int = 0
    time_s: float = 0.0
    asked: tuple[str, ...] = ()
    failed: bool = False
    confidence: float = 0.0
    queues: Mapping[str, int] = {}
    battery: float = 1.0


Decide = Callable[[Situation], str | None]
"""The tier to ask next, or ``None``: keep the best answer there is."""


def escalates(confidence: float, threshold: float) -> bool:
    """Whether an answer is too unsure to be kept."""
    return confidence < threshold


def fixed(tier: str) -> Decide:
    """One tier, whatever happens."""

    def decide(situation: Situation) -> str | None:
        return None if situation.asked else tier

    return decide


def cascade(tiers: Sequence[str], threshold: float) -> Decide:
    """The first tier; the next where the answer is unsure. An escalation that failed keeps the answer there is."""

    def decide(situation: Situation) -> str | None:
        if not situation.asked:
            return tiers[0]
        unsure = not situation.failed and escalates(situation.confidence, threshold)
        return tiers[len(situation.asked)] if unsure and len(situation.asked) < len(tiers) else None

    return decide


def fallback(tiers: Sequence[str]) -> Decide:
    """The first tier; the next where it gave no answer in time."""

    def decide(situation: Situation) -> str | None:
        if not situation.asked:
            return tiers[0]
        return tiers[len(situation.asked)] if situation.failed and len(situation.asked) < len(tiers) else None

    return decide


def expression(rule: Callable[[Mapping[str, Value]], str]) -> Decide:
    """A rule that is computed from the named values of the situation (a parsed expression of a scenario)."""

    def decide(situation: Situation) -> str | None:
        return None if situation.asked else rule(known_values(situation))

    return decide


def known_values(situation: Situation) -> dict[str, Value]:
    """The names that expressions may use."""
    queues = situation.queues
    return {
        "group": situation.group,
        "time_s": situation.time_s,
        "battery": situation.battery,
        "queue_edge": queues.get("edge", 0),
        "queue_cloud": queues.get("cloud", 0),
    }
