"""The dashboards of the repository, and their queries with Grafana's variables filled in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

MONITORING = Path(__file__).parents[2] / "monitoring"
RULES = MONITORING / "prometheus" / "rules.yml"
FOLDER = MONITORING / "grafana" / "dashboards"
_VALUES = {
    "$__rate_interval": "1m",
    "$__interval": "1s",
    "$timeFilter": "time > now() - 5m",
    "$job": "tierwise.*",
    "$instance": ".*",
    "$model": ".*",
    "$tier": ".*",
    "$service_id": ".*",
}


def load(name: str) -> dict[str, Any]:
    dashboard: dict[str, Any] = json.loads((FOLDER / name).read_text())
    return dashboard


def panels(name: str) -> list[dict[str, Any]]:
    """All panels but the titles of rows."""
    return [panel for panel in load(name)["panels"] if panel["type"] != "row"]


def queries(name: str, key: str) -> Iterator[tuple[str, str]]:
    """Title of the panel and query; ``key`` is where the datasource has its query."""
    for panel in panels(name):
        for target in panel["targets"]:
            yield panel["title"], filled_in(target[key])


def filled_in(query: str) -> str:
    for variable, value in _VALUES.items():
        query = query.replace(variable, value)
    return query
