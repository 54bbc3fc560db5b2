"""A real Prometheus scrapes a real service: every query of the dashboard and every rule evaluates and gives data."""

from __future__ import annotations

import asyncio
import re
import subprocess
import time
from typing import TYPE_CHECKING, Any

import pytest
from docs.generate import rules
from tests.components import need
from tests.integration.servers import prometheus, tierwise_serve
from tests.monitoring.dashboards import RULES, filled_in, load, queries

from tierwise.live.processes import free_port
from tierwise.serving.cpu import CpuFrequency
from tierwise.serving.memory import limit_bytes

if TYPE_CHECKING:
    from pathlib import Path

    import httpx
    from tests.integration.servers import RunningService

    from tierwise.live.broker import PrivateBroker

TRACE = "0af7651916cd43dd8448eb211c80319c"
SAMPLE = {"input": [0.1] * 32}


def left_out() -> set[str]:
    """Metrics that this machine does not have."""
    absent = set() if CpuFrequency().read() else {"tierwise_cpu_frequency_hertz"}
    return absent if limit_bytes() else absent | {"tierwise_memory_limit_bytes", "tierwise:memory:utilization"}


async def ask(api: httpx.AsyncClient, expression: str) -> list[dict[str, Any]]:
    answer = (await api.get("/api/v1/query", params={"query": expression})).json()
    assert answer["status"] == "success", f"{expression}: {answer}"
    result: list[dict[str, Any]] = answer["data"]["result"]
    return result


async def traffic(service: RunningService) -> None:
    """Answers, a caller's mistake, and a failure of the service."""
    for _ in range(10):
        assert (await service.client.post("/predict", json=SAMPLE)).status_code == 200
    assert (await service.client.post("/predict", json={"input": [1]})).status_code == 400
    assert (await service.client.post("/predict", json={**SAMPLE, "deadline_ms": 1e-6})).status_code == 504


async def until_there_is_data(api: httpx.AsyncClient, service: RunningService, expressions: list[str]) -> None:
    """Keeps asking the service until every expression gives a finite figure; tells which do not."""
    missing = expressions
    try:
        async with asyncio.timeout(30):
            while missing:
                await traffic(service)
                results = [(expression, await ask(api, expression)) for expression in missing]
                missing = [
                    expression
                    for expression, result in results
                    if not any(sample["value"][1] not in {"NaN", "+Inf"} for sample in result)
                ]
    except TimeoutError:
        pytest.fail(f"no data for {missing}")


async def test_prometheus_scrapes_and_everything_evaluates(
    anomaly_detector: Path, broker: PrivateBroker, tmp_path: Path
) -> None:
    need(program="prometheus")
    options = ["--mqtt", f"127.0.0.1:{broker.port}", "--influx", f"http://127.0.0.1:{free_port()}"]
    async with tierwise_serve(anomaly_detector, *options, "--influx-interval-s", "0.5") as service:
        target = service.client.base_url.netloc.decode()
        async with prometheus(tmp_path, target=target, rules=RULES) as api:
            traced = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"}
            assert (await service.client.post("/predict", json=SAMPLE, headers=traced)).status_code == 200

            of_dashboard = [expression for _, expression in queries("tierwise.json", "expr")]
            recorded = [rule["record"] for rule in rules() if "record" in rule]
            absent = left_out()
            there = [
                expression
                for expression in (*of_dashboard, *recorded)
                if not any(re.search(rf"{metric}\b", expression) for metric in absent)
            ]
            assert len(there) >= len(of_dashboard) + len(recorded) - 3
            await until_there_is_data(api, service, there)

            for annotation in load("tierwise.json")["annotations"]["list"]:
                await ask(api, filled_in(annotation["expr"]))
            for expression in of_dashboard:
                await ask(api, expression)
            await rules_are_healthy(api)
            await variables_have_values(api)
            await the_exemplar_arrives(api)


async def rules_are_healthy(api: httpx.AsyncClient) -> None:
    groups = (await api.get("/api/v1/rules")).json()["data"]["groups"]
    evaluated = {rule["name"]: rule for group in groups for rule in group["rules"]}
    assert evaluated.keys() == {rule.get("alert", rule.get("record")) for rule in rules()}
    for name, rule in evaluated.items():
        assert (rule["health"], rule.get("lastError", "")) == ("ok", ""), name


async def variables_have_values(api: httpx.AsyncClient) -> None:
    """What a person can choose on the dashboard."""
    for variable in load("tierwise.json")["templating"]["list"]:
        if variable["type"] != "query":
            continue
        match = re.fullmatch(r"label_values\((.+), (\w+)\)", filled_in(variable["definition"]))
        assert match is not None
        answer = await api.get(f"/api/v1/label/{match.group(2)}/values", params={"match[]": match.group(1)})
        assert answer.json()["data"], variable["name"]


async def the_exemplar_arrives(api: httpx.AsyncClient) -> None:
    now = time.time()
    query = "tierwise_request_duration_seconds_bucket"
    answer = await api.get("/api/v1/query_exemplars", params={"query": query, "start": now - 600, "end": now + 60})
    found = answer.json()["data"]
    assert TRACE in {exemplar["labels"]["trace_id"] for series in found for exemplar in series["exemplars"]}


async def test_the_text_is_clean_under_promtool(anomaly_detector: Path, broker: PrivateBroker) -> None:
    need(program="promtool")
    options = ["--mqtt", f"127.0.0.1:{broker.port}", "--influx", f"http://127.0.0.1:{free_port()}"]
    async with tierwise_serve(anomaly_detector, *options) as service:
        await traffic(service)
        response = await service.client.get("/metrics")
    command = ["promtool", "check", "metrics"]
    checked = await asyncio.to_thread(subprocess.run, command, input=response.content, capture_output=True, check=False)
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, b"")


def test_rules_pass_their_own_tests() -> None:
    need(program="promtool")
    for command in (["check", "rules", "rules.yml"], ["test", "rules", "rules.test.yml"]):
        done = subprocess.run(["promtool", *command], cwd=RULES.parent, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
