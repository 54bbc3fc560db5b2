"""Writes the reference pages that are made from the code: ``python -m docs.generate``.

Each page is a function from nothing to its text. A test compares what is committed with what they give.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ruamel.yaml import YAML

from tierwise.models.reference import card_table
from tierwise.scenario import scenario_schema
from tierwise.scenario.reference import profile_table, scenario_page
from tierwise.serving.reference import metrics_page
from tierwise.serving.settings_reference import settings_page

if TYPE_CHECKING:
    from collections.abc import Callable

FOLDER = Path(__file__).parent
RULES = FOLDER.parent / "monitoring" / "prometheus" / "rules.yml"
NOTICE = "<!-- Made from the code by `make docs`; edits here are lost. -->\n\n"


_PROMETHEUS = """\
## Prometheus and Grafana

```yaml
# prometheus.yml
rule_files: [monitoring/prometheus/rules.yml]
scrape_configs:
  - job_name: tierwise  # the rules and dashboards look for jobs whose name begins so
    static_configs: [{targets: ["edge:8080"]}]
```

Prometheus keeps exemplars with `--enable-feature=exemplar-storage`. Grafana reads the dashboards from a folder as
`monitoring/grafana/provisioning/` sets up, or by import; `monitoring/kustomization.yaml` makes ConfigMaps of all these
files. `promtool test rules monitoring/prometheus/rules.test.yml` tests the rules.

Alerts:
"""


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
            _PROMETHEUS,
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


def schema() -> str:
    """The JSON Schema of scenarios, for editors."""
    return json.dumps(scenario_schema(), indent=1, ensure_ascii=False) + "\n"


def spliced(name: str, mark: str, text: str) -> str:
    """A page of this folder with ``text`` between its two marks; the rest is written by hand."""
    page = (FOLDER / name).read_text(encoding="utf-8")
    before, begin, rest = page.partition(f"<!-- {mark}: begin, made from the code by `make docs` -->\n")
    _, end, after = rest.partition(f"<!-- {mark}: end -->")
    if not begin or not end:
        raise ValueError(f"docs/{name} lacks the marks of {mark!r}")
    return before + begin + text + end + after


PAGES: dict[str, Callable[[], str]] = {
    "models.md": lambda: spliced("models.md", "keys of a model card", card_table()),
    "metrics.md": lambda: NOTICE + metrics(),
    "profile.md": lambda: spliced("profile.md", "keys of a profile", profile_table()),
    "scenario.md": lambda: NOTICE + scenario_page(),
    "scenario.schema.json": schema,
    "settings.md": lambda: NOTICE + settings_page(),
}
"""File in this folder → what is written to it."""


def main() -> None:
    """Writes all pages."""
    for name, render in PAGES.items():
        (FOLDER / name).write_text(render(), encoding="utf-8")


if __name__ == "__main__":
    main()
