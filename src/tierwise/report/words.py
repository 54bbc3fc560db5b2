"""The same figures in words: what was measured, and what somebody configured. A configured delay is no measurement."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tierwise.report.summary import Percentiles, Summary, TierSummary

NOTHING = "-"
_TENS_MS = 10.0
_LONG_MS = 1000.0
_MANY = 10_000.0
_NEARLY_ALL = 0.99
_LONG_UNITS = ((86_400.0, "d"), (3600.0, "h"), (60.0, "min"))
_PREFIXES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""), (1e-3, "m"), (1e-6, "µ"), (1e-9, "n"))
_NO_NETWORK = "It runs on the sensor's own board, so nothing is sent and the end-to-end time is the inference."


def ms(value: float | None) -> str:
    """Milliseconds, finer where they are few: ``0.012``, ``1.23``, ``45.6``, ``101.2``."""
    if value is None:
        return NOTHING
    if abs(value) >= _TENS_MS:
        return f"{value:.1f}"
    return f"{value:.2f}" if abs(value) >= 1 else f"{value:.3f}"


def latency(value: float | None) -> str:
    """Milliseconds with their unit, from a second on seconds."""
    if value is None:
        return NOTHING
    return f"{value / 1000:.2f} s" if abs(value) >= _LONG_MS else f"{ms(value)} ms"


def seconds(value: float) -> str:
    """A stretch of time in the unit that suits it: ``40 s``, ``30 min``, ``6 h``, ``3 d``."""
    for size, unit in _LONG_UNITS:
        if value >= 2 * size:
            return f"{value / size:.4g} {unit}"
    return f"{value:.4g} s" if value >= 1 or not value else latency(1000 * value)


def quantity(value: float | None, unit: str) -> str:
    """Four significant digits with a decimal prefix: ``1.009 kJ``, ``718.5 MB``."""
    if value is None:
        return NOTHING
    size = abs(value)
    if not size:
        return f"0 {unit}"
    factor, prefix = next(((factor, prefix) for factor, prefix in _PREFIXES if size >= factor), _PREFIXES[-1])
    return f"{value / factor:.4g} {prefix}{unit}"


def amount(value: float | None) -> str:
    """A plain number to four digits: sums of money, whose currency only the scenario's author knows."""
    if value is None:
        return NOTHING
    return f"{value:,.0f}" if abs(value) >= _MANY else f"{value:.4g}"


def share(value: float | None) -> str:
    """A share fine enough to be held against a limit of many nines: ``99.944 %``."""
    if value is None:
        return NOTHING
    text = f"{100 * value:.5g}" if value > _NEARLY_ALL else f"{100 * value:.4g}"
    if text == "100" and value < 1:
        return "> 99.999 %"
    return f"{text} %"


def spread(percentiles: Percentiles) -> str:
    """p50, p95 and p99 in milliseconds."""
    return ", ".join(ms(value) for value in (percentiles.p50, percentiles.p95, percentiles.p99))


def percent(share: float | None) -> str:
    """A share as a percentage; 100 % and 0 % only where it is exactly so."""
    if share is None:
        return NOTHING
    if share in {0, 1}:
        return f"{100 * share:.0f} %"
    text = f"{100 * share:.1f}"
    if text == "100.0":
        return "> 99.9 %"
    return "< 0.1 %" if text == "0.0" else f"{text} %"


def glued(figure: str) -> str:
    """A number and its unit stay on one line; reasons in brackets may take another."""
    number, bracket, reasons = figure.partition(" (")
    return number.replace(" ", "\u00a0") + bracket + reasons


def errors(tier: TierSummary) -> str:
    """``0``, or the number with its reasons: ``3 (overloaded 1, timeout 2)``."""
    if not tier.errors:
        return "0"
    return f"{tier.errors} ({', '.join(f'{outcome} {count}' for outcome, count in tier.errors_by_outcome.items())})"


def runtime(tier: TierSummary) -> str:
    """``onnx, model.onnx``, as far as it is known."""
    return ", ".join(part for part in (tier.runtime, tier.artifact) if part)


def place(name: str) -> str:
    """``at the edge``."""
    return {"device": "on the device", "edge": "at the edge", "cloud": "in the cloud"}.get(name, f"on {name}")


def where(summary: Summary) -> str:
    """``at the edge and in the cloud``."""
    return listed([place(name) for name in summary.tiers])


def is_modelled(tier: TierSummary) -> bool:
    """Whether times and energy, where there are any, come from a model of the hardware."""
    return tier.basis == "modelled"


def has_times(tier: TierSummary) -> bool:
    """Whether anything is known of how long answers took."""
    return tier.end_to_end_ms.p50 is not None


def basis(tier: TierSummary) -> str:
    """What its times are, for headings: ``measured``, ``modelled``, or not even that."""
    if not is_modelled(tier):
        return "measured"
    return "times modelled" if has_times(tier) else "times not modelled"


def energy(value_mj: float | None) -> str:
    """Energy with a unit that suits it: ``0.83 µJ``, ``1.82 mJ``."""
    if value_mj is None:
        return NOTHING
    return f"{ms(value_mj)} mJ" if value_mj >= 1 else f"{ms(1e3 * value_mj)} µJ"


def count(value: float | None) -> str:
    """A whole number with its thousands apart: ``4,816,525``."""
    return NOTHING if value is None else f"{value:,.0f}"


def lede(summary: Summary) -> str:
    """The result in two or three sentences."""
    answered = {name: tier for name, tier in summary.tiers.items() if tier.answered}
    if not answered:
        return "No tier answered a single request."
    measured = [
        f"{ms(tier.end_to_end_ms.p50)} ms from the {name}"
        for name, tier in answered.items()
        if has_times(tier) and not is_modelled(tier)
    ]
    told = [f"Half of the answers came within {listed(measured)}."] if measured else []
    told += [
        f"{ms(tier.configured_delay_ms)} ms of the {name}'s time was configured, not measured."
        for name, tier in answered.items()
        if tier.configured_delay_ms
    ]
    told += [_modelled(name, tier) for name, tier in answered.items() if is_modelled(tier)]
    told += [agreement(summary), *([summary.caveat] if summary.caveat else [])]
    return " ".join(told)


def _modelled(name: str, tier: TierSummary) -> str:
    if not has_times(tier):
        return f"How long the {name} takes is neither measured nor modelled."
    joules = "" if tier.energy_mj is None else f" and {energy(tier.energy_mj)}"
    board = "" if tier.board is None else f" for {tier.board}"
    return f"The {name} needs {ms(tier.end_to_end_ms.p50)} ms{joules}, modelled{board}, not measured."


def distribution(summary: Summary) -> str:
    """The latency plots for those who cannot see them."""
    return "End-to-end latency in milliseconds, p50, p95 and p99: " + "; ".join(
        f"{name} {spread(tier.end_to_end_ms)}{' (modelled)' if is_modelled(tier) else ''}"
        for name, tier in summary.tiers.items()
        if has_times(tier)
    )


def listed(items: Sequence[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    *first, last = items
    return f"{', '.join(first)} and {last}" if first else last


def agreement(summary: Summary) -> str:
    """One sentence on agreement."""
    names = listed(list(summary.tiers))
    if len(summary.tiers) == 1:
        return f"Only the {names} ran, so there is nothing to agree with."
    if summary.difference is not None:
        return (
            f"{names.capitalize()} differ by {summary.difference.mean:.2g} on average and "
            f"{summary.difference.largest:.2g} at most in an output value, on {summary.compared} samples."
        )
    if summary.agreement is None:
        return "No sample was answered with a label by every tier, so agreement cannot be told."
    if summary.agreement == 1:
        return f"{names.capitalize()} gave the same label on all {summary.compared} samples."
    differing = round((1 - summary.agreement) * summary.compared)
    return (
        f"{names.capitalize()} gave the same label on {percent(summary.agreement)} of {summary.compared} samples "
        f"and differ on {differing}."
    )


def left_out(why: str) -> str:
    """What is said of a tier that did not run."""
    return f"Left out: {why}."


def sentence(tier: TierSummary) -> str:
    """What was measured on this tier and what was configured."""
    how = f" with {runtime(tier)}" if runtime(tier) else ""
    if not tier.answered:
        return f"Nothing was answered, {errors(tier)}, so there is nothing to measure."
    lost = f" {tier.errors} of {tier.requests} requests failed and are in no latency figure." if tier.errors else ""
    if is_modelled(tier):
        return f"{_what_is_modelled(tier, how)}{lost}"
    if tier.network_share is None:
        return f"The end-to-end time was measured{how}; the tier did not tell its inference time.{lost}"
    measured = "inference, queue and messaging"
    if not tier.queue_measured:
        measured = "inference and messaging (with the queue, which the tier did not tell apart)"
    if not tier.configured_delay_ms:
        return (
            f"All of it was measured{how}: {measured}; no delay was added. "
            f"Messaging is {percent(tier.network_share)} of the time.{lost}"
        )
    return (
        f"{measured.capitalize()} were measured{how}. {ms(tier.configured_delay_ms)} ms, "
        f"{percent(tier.network_share_configured)} of the time, is a configured delay that stands for a network: "
        f"it was not measured.{lost}"
    )


def _what_is_modelled(tier: TierSummary, how: str) -> str:
    if not has_times(tier):
        return (
            f"Real answers{how}. Times and energy are not modelled, because nothing counts instructions here: "
            "that takes gcc-arm-none-eabi, libnewlib-arm-none-eabi and qemu-system-arm."
        )
    told = f"Real answers{how}. Times{' and energy' if tier.energy_mj is not None else ''} are modelled"
    told += f" for {tier.board}" if tier.board is not None else " by a model of the hardware"
    told += f" from {count(tier.instructions)} counted instructions an inference" if tier.instructions else ""
    return f"{told}, not measured. {_NO_NETWORK if tier.network_share == 0 else ''}".rstrip()
