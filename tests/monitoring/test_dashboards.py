"""Dashboards and rules speak of metrics that exist, and Grafana can lay the dashboards out."""

from __future__ import annotations

import itertools
import re

import pytest
from docs.generate import rules
from prometheus_client.process_collector import ProcessCollector

from tests.monitoring.dashboards import FOLDER, load, panels, queries
from tierwise.serving.influx_points import MEASUREMENTS
from tierwise.serving.reference import own_families

DASHBOARDS = sorted(path.name for path in FOLDER.glob("*.json"))
THE_FOUR = {"Clock speed", "Memory", "Bandwidth", "Inference time"}


def exported() -> set[str]:
    """Every series that a service can have."""
    families = [*own_families(), *ProcessCollector(registry=None).collect()]
    suffixes = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count"), "gauge": ("",)}
    return {family.name + suffix for family in families for suffix in suffixes[family.type]}


def used(expression: str) -> set[str]:
    return set(re.findall(r"\b(?:tierwise|process)_\w+\b", expression))


@pytest.mark.parametrize("name", DASHBOARDS)
def test_the_four_figures_are_on_it(name: str) -> None:
    assert {panel["title"] for panel in panels(name)} >= THE_FOUR


@pytest.mark.parametrize("name", DASHBOARDS)
def test_panels_have_their_own_id_and_place(name: str) -> None:
    every = load(name)["panels"]
    assert len({panel["id"] for panel in every}) == len(every)
    places = [panel["gridPos"] for panel in every]
    for one, other in itertools.combinations(places, 2):
        apart = (
            one["x"] + one["w"] <= other["x"]
            or other["x"] + other["w"] <= one["x"]
            or one["y"] + one["h"] <= other["y"]
            or other["y"] + other["h"] <= one["y"]
        )
        assert apart, (one, other)
    assert all(place["x"] + place["w"] <= 24 for place in places)


@pytest.mark.parametrize("name", DASHBOARDS)
def test_every_panel_takes_the_chosen_datasource_and_only_variables_that_exist(name: str) -> None:
    dashboard = load(name)
    variables = {variable["name"] for variable in dashboard["templating"]["list"]}
    for panel in panels(name):
        assert panel["description"]
        assert panel["datasource"]["uid"] == "${datasource}"
        for target in panel["targets"]:
            assert target["datasource"]["uid"] == "${datasource}"
            text = target.get("expr", target.get("query"))
            assert set(re.findall(r"\$(\w+)", text)) <= variables | {"__rate_interval", "__interval", "timeFilter"}


def test_the_dashboard_asks_for_metrics_that_exist() -> None:
    asked = set().union(*(used(expression) for _, expression in queries("tierwise.json", "expr")))
    assert len(asked) > 10
    assert asked <= exported()


def test_the_influxdb_dashboard_asks_for_fields_that_exist() -> None:
    fields = {measurement.name: measurement.fields for measurement in MEASUREMENTS}
    for _, query in queries("tierwise-influxdb.json", "query"):
        match = re.match(r'SELECT mean\("(\w+)"\) FROM "(\w+)"', query)
        assert match is not None
        assert match.group(1) in fields[match.group(2)]


def test_rules_speak_of_metrics_and_records_that_exist() -> None:
    records = {rule["record"] for rule in rules() if "record" in rule}
    for rule in rules():
        assert used(rule["expr"]) <= exported()
        assert set(re.findall(r"\btierwise:[\w:]+", rule["expr"])) <= records
