"""What a run leaves behind: trace.csv, report.html, demo.log, and a picture where matplotlib is installed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from tierwise.core.errors import ConfigurationError, DependencyError
from tierwise.core.trace import write_trace_csv
from tierwise.report import words
from tierwise.report.environment import environment_facts
from tierwise.report.figure import draw_figure
from tierwise.report.html import Report, write_html

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tierwise.core.trace import TraceRow
    from tierwise.models.card import ModelCard
    from tierwise.report.summary import Summary


LOG_NAME = "demo.log"
FIRMWARE_NAME = "firmware"
"""Folder with the device's C and firmware."""


@dataclass(frozen=True, slots=True)
class Files:
    """Where the results are. ``figure`` is ``None`` where it could not be drawn; ``note`` says why."""

    trace: Path
    report: Path
    figure: Path | None
    note: str | None


def make_folder(out: Path) -> None:
    """Makes the folder for the results. Raises ``ConfigurationError`` before any work is done for nothing."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(f"cannot write results to {out} (--out): {error.strerror}") from error


def write_results(
    summary: Summary,
    rows: Sequence[TraceRow],
    card: ModelCard,
    *,
    command: str,
    broker: str,
    out: Path,
) -> Files:
    """Writes everything into ``out``. Raises ``ConfigurationError`` where a file cannot be written."""
    files = {name: out / name for name in ("trace.csv", "report.html", "demo.png")}
    report = Report(
        summary=summary,
        rows=rows,
        model_facts=model_facts(card, summary),
        environment={"broker": broker, **environment_facts()},
        command=command,
        created=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    )
    note = None
    try:
        write_trace_csv(rows, files["trace.csv"])
        write_html(report, files["report.html"])
        try:
            draw_figure(summary, rows, files["demo.png"])
        except (DependencyError, ValueError) as error:
            files["demo.png"].unlink(missing_ok=True)  # one of an earlier run would show something else
            note = f"no picture: {error}"
    except OSError as error:
        raise ConfigurationError(f"cannot write {error.filename or out}: {error.strerror}") from error
    return Files(files["trace.csv"], files["report.html"], None if note else files["demo.png"], note)


def model_facts(card: ModelCard, summary: Summary) -> dict[str, str]:
    """What the page says of the model."""
    facts = {
        "model": f"{card.name} {card.version}",
        "what it does": card.description,
        "input": "; ".join(map(str, card.signature.inputs)),
        "output": "; ".join(map(str, card.signature.outputs)),
        "labels": ", ".join(card.labels),
        "threshold": "" if card.threshold is None else f"{card.threshold:g}",
        "on held-out data": ", ".join(f"{name} {value:g}" for name, value in card.metrics.items()),
    }
    if card.data is not None:
        facts["data"] = f"{card.data.name}. {card.data.source}"
    sizes = {artifact.file: artifact for artifact in card.artifacts}
    for name, tier in summary.tiers.items():
        if tier.artifact in sizes:
            artifact = sizes[tier.artifact]
            facts[words.place(name)] = (
                f"{artifact.file}, {artifact.size_bytes:,} bytes, SHA-256 {artifact.sha256[:16]}…"
            )
    return {name: value for name, value in facts.items() if value}
