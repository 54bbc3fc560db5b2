"""``tierwise simulate``: a scenario in virtual time."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Callable

    from tierwise.scenario import Scenario
    from tierwise.sim import Summary


@click.command
@click.argument("scenario", type=click.Path(path_type=Path))
@click.option("--check", is_flag=True, help="Only check the scenario, and say which engine would run it.")
@click.option("--seed", type=click.IntRange(0), help="Instead of the scenario's seed.")
@click.option("--set", "overrides", multiple=True, metavar="PATH=VALUE", help="Replace a value: links.up.latency=20ms.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="Folder for trace and summary.")
@click.option("--engine", type=click.Choice(["auto", "event", "vector"]), default="auto", show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
def simulate(
    scenario: Path,
    *,
    check: bool,
    seed: int | None,
    overrides: tuple[str, ...],
    out: Path | None,
    engine: str,
    as_json: bool,
) -> None:
    """Run SCENARIO in virtual time: latency, accuracy, energy and cost, the same in every run."""
    from tierwise.scenario import load_scenario  # noqa: PLC0415 -- heavy imports belong to the command

    loaded = load_scenario(scenario, parse_assignments(overrides))
    if check:
        click.echo(describe(loaded))
        return
    import msgspec  # noqa: PLC0415

    from tierwise.sim import simulate as run  # noqa: PLC0415
    from tierwise.sim.answers import compute_answers  # noqa: PLC0415

    summary = run(
        loaded,
        seed=seed,
        engine=engine,  # type: ignore[arg-type]  # click has checked the choice
        out=out,
        answers=compute_answers(loaded),
        on_progress=None if as_json else progress(loaded.run.duration / 1e9),
    )
    if as_json:
        click.echo(msgspec.json.encode(summary))
    else:
        click.echo(table(summary))
        if out is not None:
            click.echo(f"\ntrace and summary in {out}")


def parse_assignments(texts: tuple[str, ...]) -> dict[str, str]:
    """``path=value`` as pairs. Raises ``click.BadParameter``."""
    pairs = {}
    for text in texts:
        path, equals, value = text.partition("=")
        if not equals or not path:
            raise click.BadParameter(f"{text!r} is not PATH=VALUE", param_hint="--set")
        pairs[path] = value
    return pairs


def describe(scenario: Scenario) -> str:
    """What a checked scenario holds."""
    from tierwise.sim.vector import why_not_vectorised  # noqa: PLC0415 -- heavy imports belong to the command

    devices = sum(group.count for group in scenario.devices.values())
    reasons = why_not_vectorised(scenario)
    engine = "event engine (" + "; ".join(reasons) + ")" if reasons else "vectorised engine"
    title = f"{scenario.name}: {scenario.description}\n" if scenario.description else ""
    return (
        f"{title}{scenario.name} is valid: {devices} devices in {len(scenario.devices)} groups, {len(scenario.links)} links, "
        f"{len(scenario.nodes)} nodes, {scenario.run.duration / 1e9:g} s. Runs on the {engine}."
    )


def progress(simulated_s: float) -> Callable[[float, int], None] | None:
    """Shows the share done and the speed on a terminal; ``None`` in a pipe."""
    if not sys.stderr.isatty():
        return None
    started = time.monotonic()

    def show(share: float, requests: int) -> None:
        wall = max(1e-9, time.monotonic() - started)
        speed = share * simulated_s / wall
        click.echo(f"\r{share:6.1%}  {requests:,} requests  {speed:,.0f} simulated s/s", nl=False, err=True)
        if share >= 1:
            click.echo("", err=True)

    return show


def table(summary: Summary) -> str:
    """The summary for people."""
    lost = "   ".join(f"{cause} {count:,}" for cause, count in summary.dropped.items()) or "none lost"
    lines = [
        f"{summary.scenario}  seed {summary.seed}  {summary.engine} engine",
        f"{summary.simulated_s:g} s simulated in {summary.wall_s:.2f} s",
        f"requests {summary.requests:,}   answered {summary.answered:,}   in flight {summary.in_flight:,}   {lost}",
        "",
        f"{'tier':<8}{'answered':>12}{'mean ms':>12}{'p50':>12}{'p95':>12}{'p99':>12}{'accuracy':>10}",
    ]
    rows = [("all", summary.answered, summary.end_to_end_ms, summary.accuracy)]
    rows += [(name, tier.answered, tier.end_to_end_ms, tier.quality.accuracy) for name, tier in summary.by_tier.items()]
    for name, answered, latency, accuracy in rows:
        figures = (
            ("-",) * 4
            if latency is None
            else tuple(f"{value:.3f}" for value in (latency.mean, latency.p50, latency.p95, latency.p99))
        )
        judged = "-" if accuracy is None else f"{accuracy:.4f}"
        lines.append(f"{name:<8}{answered:>12,}" + "".join(f"{figure:>12}" for figure in figures) + f"{judged:>10}")
    lines.append("")
    for name, node in summary.nodes.items():
        lines.append(
            f"node {name}: {node.utilisation:.1%} busy, mean wait {node.mean_wait_ms:.3f} ms, "
            f"longest queue {node.longest_queue}, mean batch {node.mean_batch:.2f}"
        )
    for name, ways in summary.links.items():
        for way, link in ways.items():
            lines.append(
                f"link {name} {way}: {link.utilisation:.1%} busy, mean wait {link.mean_wait_ms:.3f} ms, "
                f"{link.bytes:,} bytes, {link.lost + link.cut + link.refused:,} lost"
            )
    carbon = "" if summary.carbon_g is None else f"   carbon {summary.carbon_g:.3g} g"
    lines.append(f"energy {summary.energy_j.total:.6g} J   cost {summary.cost.total:.6g}{carbon}")
    lines += [f"objective {name}: {'met' if met else 'MISSED'}" for name, met in summary.slo.items()]
    for name, interval in summary.replications.items():
        width = interval.half_width or 0.0
        lines.append(f"{name}: {interval.mean:.6g} ± {width:.3g} (95 %, {interval.samples} replications)")
    lines.append(f"trace sha256 {summary.trace_sha256}")
    return "\n".join(lines)
