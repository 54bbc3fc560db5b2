"""A real service, Prometheus and InfluxDB as processes of their own, on free loopback ports, with private data."""

from __future__ import annotations

import contextlib
import json
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import httpx
from tests.components import need

from tierwise.live.processes import Child, child_process, free_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

START_TIMEOUT_S = 60.0

_PROMETHEUS = """\
global: {{scrape_interval: 200ms, scrape_timeout: 200ms, evaluation_interval: 200ms}}
rule_files: ["{rules}"]
scrape_configs:
  - job_name: tierwise
    static_configs: [{{targets: ["{target}"]}}]
"""

_INFLUXDB = """\
reporting-disabled = true
bind-address = "127.0.0.1:{backup_port}"
[meta]
  dir = "{folder}/meta"
[data]
  dir = "{folder}/data"
  wal-dir = "{folder}/wal"
[http]
  bind-address = "127.0.0.1:{port}"
  auth-enabled = {auth}
  log-enabled = false
[monitor]
  store-enabled = false
"""


@dataclass(frozen=True)
class RunningService:
    """A `tierwise serve` and a client of it."""

    client: httpx.AsyncClient
    child: Child
    log: list[str] = field(default_factory=list)

    async def figure(self, name: str) -> float:
        """Sum over all labels of one figure on ``/metrics``."""
        families = (await self.client.get("/metrics", headers={"accept": "application/json"})).json()
        samples = families[name]["samples"]
        return float(sum(sample["value"] for sample in samples if sample["name"] in {name, f"{name}_total"}))

    def lines(self, event: str) -> list[dict[str, Any]]:
        """Lines of the log about one event."""
        told = [json.loads(line) for line in self.log if line.startswith("{")]
        return [line for line in told if line["event"] == event]


@contextlib.asynccontextmanager
async def tierwise_serve(
    model: Path, *options: str, env: dict[str, str] | None = None
) -> AsyncIterator[RunningService]:
    """Serves ``model`` on a free HTTP port for the length of the block, which begins when it is ready."""
    log: list[str] = []
    command = [sys.executable, "-m", "tierwise", "serve", "--model", str(model), "--http", "127.0.0.1:0", *options]
    async with child_process(command, name="service", env=env, on_line=log.append) as child:
        serving = json.loads(await child.wait_line('"event":"serving"', timeout_s=START_TIMEOUT_S))
        async with httpx.AsyncClient(base_url=f"http://{serving['http']}") as client:
            yield RunningService(client, child, log)


@contextlib.asynccontextmanager
async def prometheus(folder: Path, *, target: str, rules: Path) -> AsyncIterator[httpx.AsyncClient]:
    """Scrapes ``target`` five times a second and evaluates ``rules``; gives a client of its API."""
    need(program="prometheus")
    config = folder / "prometheus.yml"
    config.write_text(_PROMETHEUS.format(rules=rules, target=target))
    address = f"127.0.0.1:{free_port()}"
    command = [
        "prometheus", f"--config.file={config}", f"--storage.tsdb.path={folder / 'tsdb'}",
        f"--web.listen-address={address}", "--enable-feature=exemplar-storage",
    ]  # fmt: skip
    async with (
        child_process(command, name="prometheus") as child,
        httpx.AsyncClient(base_url=f"http://{address}") as client,
    ):
        await child.wait_ready(lambda: _answers(client, "/-/ready"), timeout_s=START_TIMEOUT_S)
        yield client


@contextlib.asynccontextmanager
async def influxdb(folder: Path, *, ports: Sequence[int], auth: bool = False) -> AsyncIterator[httpx.AsyncClient]:
    """InfluxDB 1 with its data in ``folder``; gives a client of its API.

    ``ports`` are that of the API and one for backups, given so that it can come back.
    """
    need(program="influxd")
    port, backup_port = ports
    config = folder / "influxdb.conf"
    config.write_text(
        _INFLUXDB.format(folder=folder, port=port, backup_port=backup_port, auth="true" if auth else "false")
    )
    async with (
        child_process(["influxd", "run", "-config", str(config)], name="influxd", grace_s=10) as child,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client,
    ):
        await child.wait_ready(lambda: _answers(client, "/ping"), timeout_s=START_TIMEOUT_S)
        yield client


async def influxql(client: httpx.AsyncClient, query: str, **parameters: str) -> list[dict[str, Any]]:
    """The series that a query gives: ``name``, ``columns``, ``values``, ``tags``. Fails the test on an error."""
    response = await client.post("/query", params={"db": "tierwise", "q": query, **parameters})
    assert response.status_code == 200, response.text
    (result,) = response.json()["results"]
    assert "error" not in result, f"{query}: {result}"
    series: list[dict[str, Any]] = result.get("series", [])
    return series


async def _answers(client: httpx.AsyncClient, path: str) -> bool:
    try:
        return (await client.get(path)).is_success
    except httpx.TransportError:
        return False
