"""What the figures of a run are called, and the run in a few sentences."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec

from tierwise.report import words

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from tierwise.scenario.parts import Link
    from tierwise.scenario.schema import Fault, Scenario
    from tierwise.sim.statistics import Interval
    from tierwise.sim.summary import LinkSummary, Summary

PARTS = {
    "before_sending": ("before", "before sending"),
    "uplink": ("uplink", "uplink"),
    "queue": ("queue", "queue"),
    "inference": ("inference", "inference"),
    "downlink": ("downlink", "downlink"),
}
"""Parts of a request's time, in the order of the bars → (style, what they are called)."""

CAUSES = {
    "link_loss": "lost on a link",
    "link_queue": "a link's queue was full",
    "link_down": "a link was down",
    "node_queue": "a node's queue was full",
    "node_down": "a node was down",
    "broker_restart": "a broker restarted",
    "timeout": "no answer in time",
    "battery": "the battery was empty",
}
"""Why requests were lost."""


class Measure(msgspec.Struct, frozen=True):
    """A figure that runs are compared by."""

    title: str
    write: Callable[[float | None], str]
    more_is_better: bool = False


MEASURES = {
    "answered_share": Measure("answered", words.share, more_is_better=True),
    "accuracy": Measure("accuracy", words.share, more_is_better=True),
    "mean_ms": Measure("mean latency", words.latency),
    "p50_ms": Measure("p50", words.latency),
    "p95_ms": Measure("p95", words.latency),
    "p99_ms": Measure("p99", words.latency),
    "energy_j": Measure("energy of the run", lambda value: words.quantity(value, "J")),
    "cost": Measure("cost of the run", words.amount),
}
"""Of ``run.figures_of``, in the order in which they are shown."""
CARBON = Measure("carbon, CO2", lambda value: words.quantity(value, "g"))


_BUSY, _LEFT_WAITING, _MOST = 0.98, 0.02, 0.5
_LEAST_POINTS = 0.001
"""Percentage points: a smaller difference of shares is that of their denominators."""


class Objective(msgspec.Struct, frozen=True):
    """An objective, what came of it, and whether that is enough; ``None`` where the run cannot tell."""

    name: str
    figure: str
    limit: str
    met: bool | None
    where: str = ""
    """In how many of several runs it was met."""


def objectives(scenario: Scenario, summary: Summary) -> list[Objective]:
    """The stated objectives with their figures, as ``Summary.slo`` judges them.

    Of several replications the figure is their mean, and an objective is met where each of them meets it.
    """
    slo, means = scenario.slo, figures(summary)
    found = []
    for name in ("p50", "p95", "p99"):
        limit = getattr(slo, name)
        if limit is not None:
            found.append((name, name, words.latency(means.get(f"{name}_ms")), f"at most {words.latency(limit * 1e-6)}"))
    if slo.answered is not None:
        figure = words.share(means.get("answered_share", summary.answered_share))
        found.append(("answered", "answered", figure, f"at least {words.share(slo.answered)}"))
    if slo.accuracy is not None:
        found.append(("accuracy", "accuracy", _accuracy(summary, means), f"at least {words.share(slo.accuracy)}"))
    if slo.cost_per_hour is not None:
        an_hour = at_least(
            MEASURES["cost"], means["cost"] / summary.simulated_s * 3600, whole="cost" not in summary.unstated
        )
        found.append(("cost_per_hour", "cost an hour", an_hour, f"at most {words.amount(slo.cost_per_hour)}"))
    return [Objective(title, figure, limit, *_met(summary, name)) for name, title, figure, limit in found]


def figures(summary: Summary) -> dict[str, float]:
    """The figures of a run, or the means of its replications."""
    latency = summary.end_to_end_ms
    one = {"cost": summary.cost.total}
    if latency is not None:
        one |= {"p50_ms": latency.p50, "p95_ms": latency.p95, "p99_ms": latency.p99}
    if summary.accuracy is not None:
        one["accuracy"] = summary.accuracy
    return one | {name: interval.mean for name, interval in summary.replications.items()}


def runs(summary: Summary) -> int:
    """How many replications there were."""
    return next((interval.samples for interval in summary.replications.values()), 1)


class Judged(NamedTuple):
    """Whether all runs meet an objective, ``None`` where they cannot tell, and in how many of several it is met."""

    met: bool | None
    times: int | None = None


def judged(slo: Mapping[str, bool | None], slo_met: Mapping[str, int | None], runs: int) -> dict[str, Judged]:
    """Each objective over all runs, of ``Summary.slo`` and ``Summary.slo_met``. The first run alone tells where there
    is no other."""
    if runs == 1:
        return {name: Judged(met) for name, met in slo.items()}
    counts = {name: slo_met.get(name) for name in slo}
    return {name: Judged(None if count is None else count == runs, count) for name, count in counts.items()}


def _met(summary: Summary, name: str) -> tuple[bool | None, str]:
    """Whether all runs meet an objective, and in how many it is met."""
    met, count = judged(summary.slo, summary.slo_met, runs(summary)).get(name, Judged(None))
    return met, "" if count is None else f"in {count} of {runs(summary)} runs"


def _accuracy(summary: Summary, means: Mapping[str, float]) -> str:
    """The share of right answers, and of whose answers where not all are judged."""
    text = words.share(means.get("accuracy"))
    return f"{text} {_whose(summary)}" if _whose(summary) else text


def _whose(summary: Summary) -> str:
    """``of the 1,234 answers of cloud, 20.0 % of all``, where accuracy is stated for some tiers alone."""
    number = summary.quality.judged
    if not number or number >= summary.answered:
        return ""
    tiers = words.listed([name for name, tier in summary.by_tier.items() if tier.quality.judged])
    return f"of the {number:,} answers of {tiers}, {words.percent(number / summary.answered)} of all"


def verdict(scenario: Scenario, summary: Summary) -> str:
    """The run in a few sentences."""
    told = [_answered(summary)]
    stated = objectives(scenario, summary)
    missed, met, open_ = ([one for one in stated if one.met is wanted] for wanted in (False, True, None))
    if missed:
        told.append(f"Missed {len(missed)} of {counted(len(stated), 'objective')}: {_listed(missed)}.")
    elif met and not open_:
        every = "The objective is" if len(met) == 1 else f"All {len(met)} objectives are"
        told.append(f"{every} met: {_listed(met)}.")
    elif met:
        told.append(f"Met {len(met)} of {len(stated)} objectives: {_listed(met)}.")
    if open_:
        told.append(f"Not judged: {_listed(open_)}.")
    if summary.not_judged:
        number = max(summary.not_judged.values())
        are = (
            "request that was under way at the end is" if number == 1 else "requests that were under way at the end are"
        )
        told.append(f"{number:,} {are} not judged.")
    return " ".join([*told, *overloads(scenario, summary)])


def _listed(stated: Sequence[Objective]) -> str:
    return words.listed(
        [f"{one.name} {one.figure} ({', '.join(filter(None, (one.limit, one.where)))})" for one in stated]
    )


def overloads(scenario: Scenario, summary: Summary) -> list[str]:
    """A sentence about each link and node whose queue grew until the end, and each link that loses most."""
    found = []
    for name, ways in summary.links.items():
        for way, link in ways.items():
            if _overloaded(link.utilisation, link.in_flight, link.offered):
                shared = (
                    " It is shared; `shared: false` gives each device its own." if scenario.links[name].shared else ""
                )
                load = _load(scenario.links[name], way, link)
                found.append(
                    f"Link {name} {way} is overloaded{load}: {_left(link.in_flight, link.offered, 'messages')}.{shared}"
                )
            if link.lost > _MOST * link.messages:
                stated = scenario.links[name].loss
                hint = f" (`loss` is {words.percent(stated)}; 1 % is written `1%`)" if isinstance(stated, float) else ""
                found.append(
                    f"Link {name} {way} loses {words.percent(link.lost / link.messages)} of its messages{hint}."
                )
    for name, node in summary.nodes.items():
        if _overloaded(node.utilisation, node.waiting_at_end, node.offered):
            found.append(f"Node {name} is overloaded: {_left(node.waiting_at_end, node.offered, 'requests')}.")
    return found


def _load(link: Link, way: str, counted: LinkSummary) -> str:
    """What came against what the link carries: ``, 128 of 50 Mbit/s``, by the messages that it has not yet sent."""
    rate = link.bandwidth_down if way == "down" and link.bandwidth_down is not None else link.bandwidth
    sent = counted.offered - counted.in_flight
    if rate is None or not sent or not link.shared:
        return ""
    capacity = rate * link.duty_cycle
    came = words.quantity(float(f"{capacity * counted.utilisation * counted.offered / sent:.3g}"), "bit/s")
    return f", about {came} for {words.quantity(capacity, 'bit/s')}"


def _overloaded(utilisation: float, waiting: int, offered: int) -> bool:
    """Hardly ever idle, and more than a share of what came still waits: chance leaves a short queue only."""
    return utilisation > _BUSY and waiting > _LEFT_WAITING * offered


def _left(waiting: int, offered: int, what: str) -> str:
    return f"{waiting:,} of {offered:,} {what} still waited at the end"


def _answered(summary: Summary) -> str:
    latency, lost = summary.end_to_end_ms, sum(summary.dropped.values())
    first = f"In the first of {runs(summary)} runs " if runs(summary) > 1 else ""
    if latency is None:
        return f"None of {summary.requests:,} requests was answered{_lost(summary)}."
    text = (
        f"{first}{summary.answered:,} of {summary.requests:,} requests were answered, half of them within "
        f"{words.latency(latency.p50)} and 99 % within {words.latency(latency.p99)}"
    )
    if summary.accuracy is not None:
        right = words.percent(summary.accuracy)
        text += f"; {right} {_whose(summary) or 'of the judged answers'} were right"
    return f"{text}{_lost(summary)}." if lost or summary.in_flight else f"{text}; none was lost."


def _lost(summary: Summary) -> str:
    lost = sum(summary.dropped.values())
    told = f"; {lost:,} lost" if lost else "; none lost"
    return f"{told}, {summary.in_flight:,} under way at the end" if summary.in_flight else told


def counted(number: int, what: str) -> str:
    """``1 group``, ``2 groups``."""
    return f"{number} {what}{'' if number == 1 else 's'}"


def devices(scenario: Scenario) -> str:
    """How many there are."""
    return counted(sum(group.count for group in scenario.devices.values()), "device")


def at_least(measure: Measure, value: float | None, *, whole: bool) -> str:
    """A figure, and of one that is not all stated what it is at least."""
    if whole or value is None:
        return measure.write(value)
    return f"≥ {measure.write(value)}" if value else "not stated"


def interval(measure: Measure, value: Interval) -> str:
    """``12.3 ms ± 0.4 ms``."""
    return plus_minus(measure.write(value.mean), value.mean, value.half_width)


def difference(measure: Measure, value: Interval) -> str:
    """``−1.20 ms ± 0.05 ms``; shares differ by percentage points."""
    size = abs(value.mean)
    text = measure.write(size)
    if measure.write is words.share:
        text = f"{100 * size:.3g} pp" if not 0 < 100 * size < _LEAST_POINTS else f"<{_LEAST_POINTS} pp"
    sign = "+" if value.mean > 0 else "−" if value.mean < 0 else ""
    return plus_minus(sign + text, value.mean, value.half_width)


def plus_minus(text: str, mean: float, half_width: float | None) -> str:
    """A mean as it was written, and half of its interval in the same unit to two digits."""
    if half_width is None:
        return text
    number, _, unit = text.lstrip("+−<> ").partition(" ")
    factor = abs(float(number.replace(",", "")) / mean) if mean else 1.0
    return f"{text} ± {factor * half_width:.2g} {unit}".rstrip()


def compact(text: str, mean: float, half_width: float) -> str:
    """``16.0 ± 1.7 ms``: as ``plus_minus`` says it, with the unit once."""
    unit = text.partition(" ")[2]
    return (
        plus_minus(text, mean, half_width).replace(f" {unit} ±", " ±") if unit else plus_minus(text, mean, half_width)
    )


def method(value: Interval) -> str:
    """How an interval was computed."""
    if value.method == "batch means":
        text = f"{value.samples} batch means of one run, Student's t"
        if value.fixed_phases:
            text += "; other phases of the devices give other means: `run.replications` draws them anew"
        return f"{text}; too narrow, for the batches hang together" if value.hangs_together else text
    if value.method == "paired replications":
        return f"{value.samples} pairs of runs with common random numbers, Student's t"
    return f"{value.samples} independent runs, Student's t"


def fault(one: Fault) -> tuple[str, str]:
    """What breaks, and its name: ``("link down", "wan")``."""
    name = next(getattr(one, field) for field in ("node", "link", "devices") if hasattr(one, field))
    return one.fault.replace("_", " "), name


def changed(changes: Sequence[tuple[str, str]]) -> str:
    """Values that replaced those of the file."""
    return ", ".join(f"{path} = {value}" for path, value in changes)
