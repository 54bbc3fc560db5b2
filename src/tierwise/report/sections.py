"""The page's sections that need no script: cards, bars, matrices, tables. Each returns markup."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from tierwise.report import words
from tierwise.report.markup import Markup, element, join
from tierwise.report.plotdata import confusion
from tierwise.report.summary import TIER_ORDER
from tierwise.report.tables import metrics

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

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


def tier_class(name: str) -> str:
    """The style class of a tier: names are data, classes are ours."""
    return name if name in TIER_ORDER else "other"


def cards(summary: Summary) -> Markup:
    """One card a tier with what a reader wants to know first."""
    return join(*(_card(name, tier) for name, tier in summary.tiers.items()))


def _card(name: str, tier: TierSummary) -> Markup:
    if words.is_modelled(tier):
        basis = _modelled_basis(tier)
    elif tier.configured_delay_ms:
        basis = join(_swatch("configured"), f"{words.ms(tier.configured_delay_ms)} ms of it configured")
    else:
        basis = join("all of it measured")
    answered = f"{tier.answered} of {tier.requests}"
    return element(
        "article",
        element("div", element("h2", name), element("p", words.runtime(tier)), class_="card-head"),
        element(
            "p",
            words.ms(tier.end_to_end_ms.p50),
            element("small", " ms") if words.has_times(tier) else "",
            class_="big",
        ),
        element("p", "median end to end", element("span", basis, class_="chip"), class_="unit"),
        element(
            "dl",
            _fact("energy", words.energy(tier.energy_mj))
            if words.is_modelled(tier)
            else _fact("99 % within", f"{words.ms(tier.end_to_end_ms.p99)} ms"),
            _fact("accuracy", words.percent(tier.accuracy)),
            element("div", element("dt", "answered"), element("dd", answered, class_="bad" if tier.errors else None)),
        ),
        class_=f"card {tier_class(name)}",
    )


def _modelled_basis(tier: TierSummary) -> Markup:
    if not words.has_times(tier):
        return join("not modelled")
    return join(_swatch("modelled"), f"modelled for {tier.board}" if tier.board is not None else "modelled")


def breakdown(summary: Summary) -> Markup:
    """A bar a tier: queue, inference, messaging, and hatched what was configured."""
    return join(*(_bar(name, tier) for name, tier in summary.tiers.items()))


def _bar(name: str, tier: TierSummary) -> Markup:
    parts = tier.breakdown_ms
    if parts is None:
        why = "nothing was answered"
        if tier.answered:
            why = words.basis(tier) if words.is_modelled(tier) else "inference time not told"
        head = element("div", element("h3", name), element("p", why), class_="bar-head")
        return element("div", head, class_=tier_class(name))
    shown = {part: max(0.0, getattr(parts, part)) for part in PARTS}
    total = math.fsum(shown.values()) or 1.0
    rectangles, items, left = [], [], 0.0
    modelled = words.is_modelled(tier)
    for part, title in PARTS.items():
        share = shown[part] / total
        if modelled and not shown[part]:
            continue
        rectangles.append(
            element("rect", x=f"{100 * left:.4f}%", width=f"{100 * share:.4f}%", height="100%", class_=f"part-{part}")
        )
        left += share
        if part == "configured" and not shown[part]:
            continue
        figure = f"{words.ms(shown[part])} ms · {words.percent(share)}"
        swatch, basis = (_swatch("modelled"), ", modelled") if modelled else (_swatch(part), "")
        items.append(element("li", swatch, element("span", title + basis), element("b", figure)))
    if modelled:
        rectangles.append(element("rect", width="100%", height="100%", class_="over-modelled"))
    return element(
        "div",
        element("div", element("h3", name), element("p", f"{words.ms(parts.total)} ms on average"), class_="bar-head"),
        element("svg", *rectangles, class_="bar", aria_hidden="true"),
        element("ul", *items, class_="parts"),
        class_=tier_class(name),
    )


def _swatch(part: str) -> Markup:
    layers = ("part-inference", "over-modelled") if part == "modelled" else (f"part-{part}",)
    rectangles = [element("rect", width="100%", height="100%", class_=layer) for layer in layers]
    return element("svg", *rectangles, class_="swatch", width=12, height=12, aria_hidden="true")


def legend(summary: Summary) -> Markup:
    """The key of the distribution: a colour a tier, dashed where it is modelled, and the configured delay."""
    shown = [(name, tier) for name, tier in summary.tiers.items() if words.has_times(tier)]
    keys = [
        _key(
            f"{name}, modelled" if words.is_modelled(tier) else name, tier_class(name), modelled=words.is_modelled(tier)
        )
        for name, tier in shown
    ]
    if any(tier.configured_delay_ms for tier in summary.tiers.values()):
        keys.append(element("span", "configured delay", class_="configured-key"))
    return join(*keys)


def over_time(summary: Summary) -> list[str]:
    """Tiers whose latency over time is worth a plot: those that were measured; where none was, all."""
    shown = [name for name, tier in summary.tiers.items() if words.has_times(tier)]
    return [name for name in shown if not words.is_modelled(summary.tiers[name])] or shown


def timeline_legend(summary: Summary, *, lost: bool) -> Markup:
    """The key of the timeline."""
    keys = [_key(name, tier_class(name)) for name in over_time(summary)]
    return join(*keys, _key("failed, no latency", "lost") if lost else "")


def _key(name: str, class_: str, *, modelled: bool = False) -> Markup:
    swatch = _swatch("modelled" if modelled else "inference")
    return element("span", swatch, name, class_=class_)


def confusions(summary: Summary, rows: Sequence[TraceRow]) -> Markup:
    """Truth against label for each tier; nothing where no sample is labelled."""
    found = [(name, confusion(row for row in rows if row.tier == name)) for name in summary.tiers]
    matrices = [
        element("div", _matrix(name, matrix), class_=f"{tier_class(name)} scroll", tabindex=0, role="region",
                aria_label=f"Confusion matrix, {name}")
        for name, matrix in found
        if matrix is not None
    ]  # fmt: skip
    if not matrices:
        return join()
    widest = max(len(matrix.classes) for _, matrix in found if matrix is not None)
    return element(
        "section",
        element("h2", "Right and wrong", id="confusion-heading"),
        element("p", f"Rows are the truth, columns what the tier said. {words.agreement(summary)}", class_="note"),
        element("div", *matrices, class_=f"matrices{' few' if widest <= _FEW_CLASSES else ''}"),
        aria_labelledby="confusion-heading",
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
        head.append(element("th", name, element("small", note), scope="col", class_=tier_class(name)))
    body = [
        element(
            "tr",
            element("th", title.strip(), scope="row"),
            *(element("td", _together(show(tier))) for tier in summary.tiers.values()),
            class_="sub" if title.startswith(" ") else None,
        )
        for title, show in metrics(summary)
    ]
    return element("table", element("thead", element("tr", *head)), element("tbody", *body), class_="figures")


def _together(figure: str) -> str:
    """A number and its unit stay on one line; reasons in brackets may take another."""
    number, bracket, reasons = figure.partition(" (")
    return number.replace(" ", "\u00a0") + bracket + reasons


def honesty(summary: Summary) -> Markup:
    """What was measured and what was configured, a sentence a tier."""
    return join(
        *(
            element("li", element("strong", name), " ", words.sentence(tier), class_=tier_class(name))
            for name, tier in summary.tiers.items()
        )
    )


def facts(pairs: Mapping[str, str]) -> Markup:
    """Names and values."""
    return element("dl", *(join(element("dt", name), element("dd", value)) for name, value in pairs.items()))


def _fact(name: str, value: str) -> Markup:
    return element("div", element("dt", name), element("dd", value))
