"""The sections of a measured run's page. Each returns markup."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from tierwise.report import blocks, words
from tierwise.report.blocks import Fact, Part, ink
from tierwise.report.markup import Markup, element, join
from tierwise.report.plotdata import confusion
from tierwise.report.plots import tier_colour
from tierwise.report.tables import metrics

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tierwise.core.trace import TraceRow
    from tierwise.report.plotdata import Confusion
    from tierwise.report.summary import Summary, TierSummary

PARTS = {
    "queue": "queue",
    "inference": "inference",
    "network": "messaging, measured",
    "configured": "delay, configured",
}
"""Parts of a request's time, in the order of the bars → what the page calls them."""

_HEATS = 5
_FEW_CLASSES = 3
"""Three matrices of so many classes fit beside one another."""


def cards(summary: Summary) -> Markup:
    """One card a tier with what a reader wants to know first."""
    return blocks.cards("The tiers at a glance", *(_card(name, tier) for name, tier in summary.tiers.items()))


def _card(name: str, tier: TierSummary) -> Markup:
    if words.is_modelled(tier):
        basis = _modelled_basis(tier)
    elif tier.configured_delay_ms:
        basis = join(blocks.swatch("part-configured"), f"{words.ms(tier.configured_delay_ms)} ms of it configured")
    else:
        basis = join("all of it measured")
    return blocks.card(
        name,
        tier_colour(name),
        about=words.runtime(tier),
        big=words.ms(tier.end_to_end_ms.p50),
        unit="ms" if words.has_times(tier) else "",
        beneath=("median end to end", element("span", basis, class_="chip")),
        facts=(
            Fact("energy", words.energy(tier.energy_mj))
            if words.is_modelled(tier)
            else Fact("99 % within", f"{words.ms(tier.end_to_end_ms.p99)} ms"),
            *([] if tier.accuracy is None else [Fact("accuracy", words.percent(tier.accuracy))]),
            Fact("answered", f"{tier.answered} of {tier.requests}", tone="bad" if tier.errors else ""),
        ),
    )


def _modelled_basis(tier: TierSummary) -> Markup:
    if not words.has_times(tier):
        return join("not modelled")
    over = blocks.swatch("part-inference", "over-modelled")
    return join(over, f"modelled for {tier.board}" if tier.board is not None else "modelled")


def breakdown(summary: Summary) -> Markup:
    """A bar a tier: queue, inference, messaging, and hatched what was configured."""
    return join(*(_bar(name, tier) for name, tier in summary.tiers.items()))


def _bar(name: str, tier: TierSummary) -> Markup:
    times = tier.breakdown_ms
    if times is None:
        why = "nothing was answered"
        if tier.answered:
            why = words.basis(tier) if words.is_modelled(tier) else "inference time not told"
        return element("div", blocks.bar_head(name, why), class_=ink(tier_colour(name)))
    shown = {part: max(0.0, getattr(times, part)) for part in PARTS}
    total = math.fsum(shown.values()) or 1.0
    modelled = words.is_modelled(tier)
    parts = [
        Part(
            kind,
            title + (", modelled" if modelled else ""),
            shown[kind],
            f"{words.ms(shown[kind])} ms · {words.percent(shown[kind] / total)}",
        )
        for kind, title in PARTS.items()
        if shown[kind] or not (modelled or kind == "configured")
    ]
    over = "over-modelled" if modelled else ""
    return blocks.bar(name, f"{words.ms(times.total)} ms on average", parts, tier_colour(name), over=over)


def legend(summary: Summary) -> Markup:
    """The key of the distribution: a colour a tier, dashed where it is modelled, and the configured delay."""
    keys = [
        blocks.key(f"{name}, modelled", tier_colour(name), over="over-modelled")
        if words.is_modelled(tier)
        else blocks.key(name, tier_colour(name))
        for name, tier in summary.tiers.items()
        if words.has_times(tier)
    ]
    if any(tier.configured_delay_ms for tier in summary.tiers.values()):
        keys.append(blocks.line_key("configured delay", "soft"))
    return join(*keys)


def over_time(summary: Summary) -> list[str]:
    """Tiers whose latency over time is worth a plot: those that were measured; where none was, all."""
    shown = [name for name, tier in summary.tiers.items() if words.has_times(tier)]
    return [name for name in shown if not words.is_modelled(summary.tiers[name])] or shown


def timeline_legend(summary: Summary, *, lost: bool) -> Markup:
    """The key of the timeline."""
    keys = [blocks.key(name, tier_colour(name)) for name in over_time(summary)]
    return join(*keys, blocks.key("failed, no latency", "bad") if lost else "")


def confusions(summary: Summary, rows: Sequence[TraceRow]) -> Markup:
    """Truth against label for each tier; nothing where no sample is labelled."""
    found = [(name, confusion(row for row in rows if row.tier == name)) for name in summary.tiers]
    matrices = [
        element("div", _matrix(name, matrix), class_=f"{ink(tier_colour(name))} scroll", tabindex=0, role="region",
                aria_label=f"Confusion matrix, {name}")
        for name, matrix in found
        if matrix is not None
    ]  # fmt: skip
    if not matrices:
        return join()
    widest = max(len(matrix.classes) for _, matrix in found if matrix is not None)
    return blocks.section(
        "confusion",
        "Right and wrong",
        element("div", *matrices, class_=f"matrices{' few' if widest <= _FEW_CLASSES else ''}"),
        note=f"Rows are the truth, columns what the tier said. {words.agreement(summary)}",
    )


def _matrix(name: str, matrix: Confusion) -> Markup:
    head = element("tr", element("td"), *(element("th", label, scope="col") for label in (*matrix.classes, "recall")))
    body = []
    for index, (label, counts) in enumerate(zip(matrix.classes, matrix.counts, strict=True)):
        total = sum(counts)
        cells = [_cell(count, total, right=column == index) for column, count in enumerate(counts)]
        recall = words.percent(counts[index] / total if total else None)
        body.append(
            element("tr", element("th", label, scope="row"), *cells, element("td", recall, class_="recall")),
        )
    return join(
        element("h3", name),
        element("table", element("thead", head), element("tbody", *body), class_="matrix"),
    )


def _cell(count: int, total: int, *, right: bool) -> Markup:
    if not count:
        return element("td", "·", class_="none")
    heat = math.ceil(_HEATS * count / total)
    return element("td", str(count), class_=f"{'right' if right else 'wrong'} heat-{heat}")


def figures(summary: Summary) -> Markup:
    """The same table as in the terminal."""
    head = [element("th", "", scope="col")]
    for name, tier in summary.tiers.items():
        note = ", ".join(part for part in (tier.runtime, words.basis(tier)) if part)
        head.append(element("th", name, element("small", note), scope="col", class_=ink(tier_colour(name))))
    body = [
        element(
            "tr",
            element("th", title.strip(), scope="row"),
            *(element("td", words.glued(show(tier))) for tier in summary.tiers.values()),
            class_="sub" if title.startswith(" ") else None,
        )
        for title, show in metrics(summary)
    ]
    return element("table", element("thead", element("tr", *head)), element("tbody", *body), class_="figures")


def honesty(summary: Summary) -> Markup:
    """What was measured and what was configured, a sentence a tier; of the others, why they did not run."""
    told = {name: words.sentence(tier) for name, tier in summary.tiers.items()}
    told |= {name: words.left_out(why) for name, why in summary.left_out.items()}
    return join(
        *(
            element("li", element("strong", name), " ", text, class_=ink(tier_colour(name)))
            for name, text in told.items()
        )
    )
