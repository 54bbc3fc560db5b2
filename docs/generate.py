"""Writes the reference pages that are made from the code: ``python -m docs.generate``.

Each page is a function from nothing to Markdown. A test compares what is committed with what they give.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ruamel.yaml import YAML

from tierwise.serving.reference import metrics_page

if TYPE_CHECKING:
    from collections.abc import Callable

FOLDER = Path(__file__).parent
RULES = FOLDER.parent / "monitoring" / "prometheus" / "rules.yml"
NOTICE = "<!-- Made from the code by `make docs`; edits here are lost. -->\n\n"


def rules() -> list[dict[str, Any]]:
    """The recording and alert rules that come with tierwise."""
    groups = YAML(typ="safe").load(RULES)["groups"]
    return [rule for group in groups for rule in group["rules"]]


def metrics() -> str:
    """Metrics, InfluxDB, traces, and the rules on them."""
    alerts = [
        f"| `{rule['alert']}` | {rule['labels']['severity']} | `{_one_line(rule['expr'])}` | {rule.get('for', '0s')} |"
        for rule in rules()
        if "alert" in rule
    ]
    records = [f"| `{rule['record']}` | `{_one_line(rule['expr'])}` |" for rule in rules() if "record" in rule]
    return "\n".join(
        [
            metrics_page(),
            "## Rules for Prometheus\n",
            "`monitoring/prometheus/rules.yml` holds them; they expect scrape jobs named `tierwise…`. Alerts:\n",
            "| Alert | Severity | Fires while | For |",
            "| --- | --- | --- | --- |",
            *alerts,
            "\nRecorded series:\n",
            "| Series | Expression |",
            "| --- | --- |",
            *records,
            "",
        ]
    )


def _one_line(expression: str) -> str:
    return " ".join(expression.split()).replace("|", "\\|").replace("( ", "(").replace(" )", ")")


PAGES: dict[str, Callable[[], str]] = {"metrics.md": metrics}
"""File in this folder → what is written to it."""


def main() -> None:
    """Writes all pages."""
    for name, render in PAGES.items():
        (FOLDER / name).write_text(NOTICE + render(), encoding="utf-8")


if __name__ == "__main__":
    main()
