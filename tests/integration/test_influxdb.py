"""A real InfluxDB gets the figures of a real service, also those of the time when it was down."""

from __future__ import annotations

import asyncio
import itertools
import os
import statistics
import time
from contextlib import AsyncExitStack
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pytest
from tests.components import need
from tests.integration.servers import influxdb, influxql, tierwise_serve
from tests.monitoring.dashboards import queries

from tierwise.deploy.options import DeployOptions
from tierwise.deploy.render import render
from tierwise.live.processes import free_ports
from tierwise.serving.cpu import CpuFrequency
from tierwise.serving.influx import TIMEOUT_S

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    import httpx
    from tests.integration.servers import RunningService

SAMPLE = {"input": [0.1] * 32}
INTERVAL = ("--mqtt", "off", "--influx-interval-s", "0.2")


async def eventually(holds: Callable[[], Awaitable[bool]], *, timeout_s: float = 60.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not await holds():
            await asyncio.sleep(0.05)


async def create_database(client: httpx.AsyncClient) -> None:
    await influxql(client, 'CREATE DATABASE "tierwise"')


async def last(client: httpx.AsyncClient, field: str, measurement: str) -> Any:
    series = await influxql(client, f'SELECT last("{field}") FROM "{measurement}"')
    return series[0]["values"][0][1] if series else None


async def ask(service: RunningService, times: int) -> None:
    for _ in range(times):
        assert (await service.client.post("/predict", json=SAMPLE)).status_code == 200


async def test_the_four_series_arrive_and_the_dashboard_finds_them(anomaly_detector: Path, tmp_path: Path) -> None:
    need(program="influxd")
    port, _ = ports = free_ports(2)
    async with influxdb(tmp_path, ports=ports) as client:
        await create_database(client)
        address = f"http://127.0.0.1:{port}"
        async with tierwise_serve(
            anomaly_detector, *INTERVAL, "--influx", address, "--service-id", "edge 1"
        ) as service:
            await ask(service, 25)
            assert (await service.client.post("/predict", json={"input": [1]})).status_code == 400

            async def all_arrived() -> bool:
                return bool(await last(client, "requests_total", "tierwise_requests") == 26)

            await eventually(all_arrived)
            assert await last(client, "resident_bytes", "tierwise_memory") == pytest.approx(
                await service.figure("process_resident_memory_bytes"), rel=0.2
            )
            assert await last(client, "request_bytes_total", "tierwise_bandwidth") > 25 * 32
            assert await last(client, "errors_total", "tierwise_requests") == 1
            (inference,) = await influxql(
                client, 'SELECT max("p50_seconds"), max("p99_seconds") FROM "tierwise_inference"'
            )
            assert 0 < inference["values"][0][1] <= inference["values"][0][2] < 1
            tells_clock = bool(CpuFrequency().read())
            clock = await last(client, "frequency_hertz", "tierwise_cpu")
            assert clock > 1e8 if tells_clock else clock is None
            for title, query in queries("tierwise-influxdb.json", "query"):
                assert await influxql(client, query) or (title == "Clock speed" and not tells_clock), query
        tags = await influxql(client, 'SHOW TAG VALUES FROM "tierwise_memory" WITH KEY = "service_id"')
        assert tags[0]["values"] == [["service_id", "edge 1"]]
        for measurement in await influxql(client, "SHOW FIELD KEYS"):
            assert {kind for _, kind in measurement["values"]} == {"float"}


async def test_an_outage_costs_no_request_and_only_points_beyond_the_buffer(
    anomaly_detector: Path, tmp_path: Path
) -> None:
    need(program="influxd")
    port, _ = ports = free_ports(2)
    async with AsyncExitStack() as stack:
        first = AsyncExitStack()
        await stack.enter_async_context(first)
        client = await first.enter_async_context(influxdb(tmp_path, ports=ports))
        await create_database(client)
        options = (*INTERVAL, "--influx", f"http://127.0.0.1:{port}", "--influx-buffer-points", "60")
        service = await stack.enter_async_context(tierwise_serve(anomaly_detector, *options))

        async def written() -> bool:
            await ask(service, 1)
            return await service.figure("tierwise_influx_points_written") > 0

        await eventually(written)
        await first.aclose()

        async def overflows() -> bool:
            await ask(service, 1)
            assert await service.figure("tierwise_influx_points_buffered") <= 60
            return await service.figure("tierwise_influx_points_dropped") > 0

        await eventually(overflows)
        before = await service.figure("tierwise_influx_points_written")
        again = await stack.enter_async_context(influxdb(tmp_path, ports=ports))

        async def caught_up() -> bool:
            return (
                await service.figure("tierwise_influx_points_written") >= before + 60
                and await service.figure("tierwise_influx_points_buffered") == 0
            )

        await eventually(caught_up)
        (back,) = service.lines("InfluxDB is back")
        (down,) = service.lines("InfluxDB does not take points")
        assert str(port) in down["url"]
        times = await influxql(
            again,
            f'SELECT "resident_bytes" FROM "tierwise_memory" WHERE time > {int(down["time"] * 1e9)} '
            f"AND time < {int(back['time'] * 1e9)}",
        )
        assert len(times[0]["values"]) >= 5
        # Totals never go back: what came later carries the later figures.
        (totals,) = await influxql(again, 'SELECT "requests_total" FROM "tierwise_requests"')
        values = [value for _, value in totals["values"]]
        assert values == sorted(values)


@pytest.mark.parametrize("target", ["compose", "minimal"])
async def test_service_writes_as_the_user_that_a_rendered_deployment_gives_it(
    anomaly_detector: Path, tmp_path: Path, target: str
) -> None:
    """The users are made as the image of InfluxDB makes them when it finds no data."""
    need(program="influxd")
    port, _ = ports = free_ports(2)
    out = render(DeployOptions(model=anomaly_detector, out=tmp_path / "out", target=target)).out
    folder = out / "docker" if target == "compose" else out
    given, admin = (_variables(folder / name) for name in ("influxdb.env", "influxdb-admin.env"))
    password_file = tmp_path / "password"
    if target == "compose":
        user, password, admin_password = (
            given["INFLUXDB_USER"], given["INFLUXDB_USER_PASSWORD"], admin["INFLUXDB_ADMIN_PASSWORD"],
        )  # fmt: skip
        env = {name: value for name, value in given.items() if name.startswith("TIERWISE_")}
    else:
        user, password, admin_password = given["username"], given["password"], admin["password"]
        password_file.write_text(password)  # as a Secret is mounted
        env = {"TIERWISE_INFLUX_USERNAME": user, "TIERWISE_INFLUX_TOKEN_FILE": str(password_file)}
    assert len({password, admin_password}) == 2
    as_admin, as_user = {"u": "admin", "p": admin_password}, {"u": user, "p": password}
    async with influxdb(tmp_path, ports=ports, auth=True) as client:
        await influxql(client, f"CREATE USER admin WITH PASSWORD '{admin_password}' WITH ALL PRIVILEGES")
        await influxql(client, 'CREATE DATABASE "tierwise"', **as_admin)
        await influxql(client, f"CREATE USER \"{user}\" WITH PASSWORD '{password}'", **as_admin)
        await influxql(client, f'GRANT ALL ON "tierwise" TO "{user}"', **as_admin)
        assert (await client.post("/write?db=tierwise", content=b"x y=1")).status_code == 401
        options = (*INTERVAL, "--influx", f"http://127.0.0.1:{port}")
        async with tierwise_serve(anomaly_detector, *options, env=env) as service:

            async def accepted() -> bool:
                return await service.figure("tierwise_influx_points_written") > 0

            await eventually(accepted)
        # Grafana reads as the same user.
        assert await influxql(client, 'SELECT last("resident_bytes") FROM "tierwise_memory"', **as_user)


def _variables(file: Path) -> dict[str, str]:
    return dict(line.split("=", 1) for line in file.read_text().splitlines())


async def points(client: httpx.AsyncClient, condition: str = "time > 0") -> int:
    """How many points there are, over all measurements."""
    counted = await influxql(client, f"SELECT count(*) FROM /.*/ WHERE {condition}")
    return sum(max(count or 0 for count in series["values"][0][1:]) for series in counted)


@pytest.mark.skipif(not os.environ.get("CI"), reason="takes two minutes; runs where CI is set")
async def test_a_minute_without_influxdb_under_load(anomaly_detector: Path, tmp_path: Path) -> None:
    need(program="influxd")
    port, _ = ports = free_ports(2)
    kept, outage_s = 1000, 60.0
    took_s: list[float] = []
    async with AsyncExitStack() as stack:
        first = AsyncExitStack()
        await stack.enter_async_context(first)
        client = await first.enter_async_context(influxdb(tmp_path, ports=ports))
        await create_database(client)
        options = (*INTERVAL, "--influx", f"http://127.0.0.1:{port}", "--influx-buffer-points", str(kept))
        service = await stack.enter_async_context(tierwise_serve(anomaly_detector, *options))

        async def load() -> None:
            while True:
                started = time.monotonic()
                await ask(service, 1)
                took_s.append(time.monotonic() - started)
                await asyncio.sleep(0.02)

        async def figure(name: str) -> float:
            return await service.figure(f"tierwise_influx_points_{name}")

        asking = asyncio.create_task(load())
        stack.callback(asking.cancel)

        async def written() -> bool:
            return await figure("written") > 0 and len(took_s) > 100

        await eventually(written)
        memory = await service.figure("process_resident_memory_bytes")
        await first.aclose()
        down_since, asked_before = time.monotonic(), len(took_s)
        while time.monotonic() < down_since + outage_s:
            assert await figure("buffered") <= kept
            assert not asking.done()
            await asyncio.sleep(1)
        asked_meanwhile = took_s[asked_before:]
        grown = await service.figure("process_resident_memory_bytes") - memory
        again = await stack.enter_async_context(influxdb(tmp_path, ports=ports))

        async def caught_up() -> bool:
            return bool(service.lines("InfluxDB is back")) and await figure("buffered") == 0

        await eventually(caught_up)  # the longest pause between two tries is 30 s

        async def all_are_there() -> bool:
            return await points(again) == await figure("written")

        await eventually(all_are_there)
        (down,), (back,) = service.lines("InfluxDB does not take points"), service.lines("InfluxDB is back")
        late = await points(again, f"time > {int(down['time'] * 1e9)} AND time <= {int(back['time'] * 1e9)}")
        dropped = await figure("dropped")
        (lasted,) = await influxql(again, 'SELECT "resident_bytes" FROM "tierwise_memory"')

    # A connection that is refused or a write that times out (10 s) never shows in the time of a request.
    assert len(asked_meanwhile) > 2 * outage_s
    assert statistics.median(asked_meanwhile) < 0.5
    assert max(asked_meanwhile) < TIMEOUT_S / 2
    assert grown < 20e6
    per_interval = 5 + len(CpuFrequency().read())
    # What the buffer holds arrives, and what is made while that is being written; the rest is counted: one memory point
    # an interval tells how long the gap is.
    assert 0.9 * kept <= late <= kept + per_interval * (TIMEOUT_S / 0.2 + 1)
    times = [datetime.fromisoformat(row[0]).timestamp() for row in lasted["values"]]
    gap_s = max(after - before for before, after in itertools.pairwise(times))
    # On a loaded machine an interval takes longer; it never takes less.
    assert 0.5 <= dropped / (gap_s / 0.2 * per_interval) <= 1.2


async def test_credentials_are_used_and_never_logged(anomaly_detector: Path, tmp_path: Path) -> None:
    need(program="influxd")
    port, _ = ports = free_ports(2)
    admin = {"u": "root", "p": "s3cret-of-admin"}
    async with influxdb(tmp_path, ports=ports, auth=True) as client:
        await influxql(client, f"CREATE USER root WITH PASSWORD '{admin['p']}' WITH ALL PRIVILEGES")
        await influxql(client, 'CREATE DATABASE "tierwise"', **admin)
        await influxql(client, "CREATE USER writer WITH PASSWORD 's3cret'", **admin)
        await influxql(client, 'GRANT WRITE ON "tierwise" TO "writer"', **admin)
        options = (*INTERVAL, "--influx", f"http://127.0.0.1:{port}", "--influx-username", "writer")
        async with tierwise_serve(anomaly_detector, *options, env={"TIERWISE_INFLUX_TOKEN": "wr0ng"}) as service:

            async def refused() -> bool:
                return await service.figure("tierwise_influx_write_failures") > 0

            await eventually(refused)
            assert await service.figure("tierwise_influx_points_dropped") == 0
        (line,) = service.lines("InfluxDB does not take points")
        assert "HTTP 401" in line["reason"]
        assert not any("wr0ng" in line for line in service.log)

        async with tierwise_serve(anomaly_detector, *options, env={"TIERWISE_INFLUX_TOKEN": "s3cret"}) as service:

            async def accepted() -> bool:
                return await service.figure("tierwise_influx_points_written") > 0

            await eventually(accepted)
        assert not any("s3cret" in line for line in service.log)
        assert await influxql(client, 'SELECT last("resident_bytes") FROM "tierwise_memory"', **admin)
