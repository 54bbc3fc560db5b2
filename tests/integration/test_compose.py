"""The compose file as ``tierwise deploy`` renders it: brought up by Compose, asked from outside, taken down."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest
from tests.components import need
from tests.integration.clients import FEATURES, get, sensor
from tests.waiting import until

from tierwise.deploy.options import DeployOptions
from tierwise.deploy.render import render
from tierwise.live.processes import free_ports

if TYPE_CHECKING:
    from pathlib import Path

    from tests.integration.engine import Engine

BROKER = """\
ARG BASE_IMAGE
FROM ${BASE_IMAGE}
RUN apt-get update -qq && apt-get install -y -qq --no-install-recommends mosquitto mosquitto-clients \\
    && mkdir -p /mosquitto/data && chown 1883:1883 /mosquitto/data
"""
"""Debian's mosquitto where eclipse-mosquitto cannot be pulled; paths and user are those of that image."""


PROMETHEUS = """\
ARG BASE_IMAGE
FROM ${BASE_IMAGE}
RUN apt-get update -qq && apt-get install -y -qq --no-install-recommends prometheus \\
    && mkdir /prometheus && chown 65534:65534 /prometheus
USER 65534
ENTRYPOINT ["prometheus"]
"""
"""Likewise for prom/prometheus."""


INFLUXDB = """\
ARG BASE_IMAGE
FROM ${BASE_IMAGE}
RUN apt-get update -qq && apt-get install -y -qq --no-install-recommends influxdb influxdb-client \\
    && chown -R 999:999 /var/lib/influxdb && chmod 755 /var/lib/influxdb
COPY entrypoint /entrypoint
VOLUME /var/lib/influxdb
ENTRYPOINT ["sh", "/entrypoint"]
CMD ["influxd"]
"""
"""Likewise for influxdb:1.8. Its package gives the folder to the first system user, with nobody else writing there."""

INFLUXDB_ENTRYPOINT = """\
set -eu
ask() { influx -username "$INFLUXDB_ADMIN_USER" -password "$INFLUXDB_ADMIN_PASSWORD" -execute "$1"; }
if ! test -d /var/lib/influxdb/meta; then
    INFLUXDB_HTTP_BIND_ADDRESS=127.0.0.1:8086 influxd &
    admin="CREATE USER $INFLUXDB_ADMIN_USER WITH PASSWORD '$INFLUXDB_ADMIN_PASSWORD' WITH ALL PRIVILEGES"
    until influx -execute "$admin"; do
        kill -0 $!
        sleep 0.1
    done
    ask "CREATE DATABASE $INFLUXDB_DB"
    ask "CREATE USER $INFLUXDB_USER WITH PASSWORD '$INFLUXDB_USER_PASSWORD'"
    ask "GRANT ALL ON $INFLUXDB_DB TO $INFLUXDB_USER"
    kill $!
    wait $!
fi
exec "$@"
"""
"""Makes the users when it finds no data, as that image does."""


@pytest.fixture(scope="session")
def influxdb_image(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("influxdb")
    (folder / "entrypoint").write_text(INFLUXDB_ENTRYPOINT)
    return _build(engine, INFLUXDB, folder, tag="tierwise-test:influxdb")


@pytest.fixture(scope="session")
def prometheus_image(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> str:
    return _build(engine, PROMETHEUS, tmp_path_factory.mktemp("prometheus"), tag="tierwise-test:prometheus")


@pytest.fixture(scope="session")
def broker_image(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> str:
    return _build(engine, BROKER, tmp_path_factory.mktemp("broker"), tag="tierwise-test:broker")


def _build(engine: Engine, dockerfile: str, folder: Path, *, tag: str) -> str:
    (folder / "Dockerfile").write_text(dockerfile)
    engine.build_by("--network", "host", "--build-arg", f"BASE_IMAGE={engine.base}", "--tag", tag, str(folder))
    return tag


@pytest.fixture
def images(
    edge_image: str, cloud_image: str, broker_image: str, prometheus_image: str, influxdb_image: str
) -> dict[str, str]:
    return {
        "EDGE_IMAGE": edge_image,
        "CLOUD_IMAGE": cloud_image,
        "MOSQUITTO_IMAGE": broker_image,
        "PROMETHEUS_IMAGE": prometheus_image,
        "INFLUXDB_IMAGE": influxdb_image,
    }


def points_written(port: int) -> float:
    """Points that InfluxDB has taken from the service behind ``port``."""
    family = get(port, "/metrics", accept="application/json")[1].get("tierwise_influx_points_written", {"samples": []})
    return sum(float(sample["value"]) for sample in family["samples"] if sample["name"].endswith("_total"))


def scraped(port: int) -> list[str]:
    """Health of each service that this Prometheus has found."""
    targets = get(port, "/api/v1/targets?state=active")[1].get("data", {}).get("activeTargets", [])
    return [target["health"] for target in targets if target["labels"]["job"] == "tierwise"]


async def test_stack_comes_up_and_answers_on_both_tiers(
    engine: Engine, images: dict[str, str], anomaly_detector: Path, tmp_path: Path
) -> None:
    need(program="docker-compose")
    out = render(DeployOptions(model=anomaly_detector, out=tmp_path / "out", target="compose")).out
    mqtt, edge, cloud, prometheus, influxdb = free_ports(5)
    values = {
        "COMPOSE_PROJECT_NAME": "tierwise-test",
        **images,
        "MQTT_PORT": str(mqtt),
        "HTTP_PORT": str(edge),
        "CLOUD_HTTP_PORT": str(cloud),
        "PROMETHEUS_PORT": str(prometheus),
        "INFLUXDB_PORT": str(influxdb),
    }
    password = (out / "docker" / "mqtt-password").read_text().strip()

    def compose(*arguments: str) -> str:
        command = ["docker-compose", "-f", str(out / "docker" / "compose.yaml"), *arguments]
        env = {**os.environ, **engine.env, **values}
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=180)
        assert done.returncode == 0, done.stderr
        return done.stdout

    try:
        compose("up", "--detach", "mosquitto", "edge", "cloud", "prometheus", "influxdb")
        await until(lambda: get(edge, "/health")[1].get("mqtt") == "connected", timeout_s=60)
        await until(lambda: get(cloud, "/health")[1].get("mqtt") == "connected", timeout_s=60)
        with sensor(mqtt, username="tierwise", password=password) as asking:
            asking.ask("sensor1", request_id="edge")
            asking.ask("sensor1", request_id="cloud", topic="ml/cloud/inference/request")
            await until(lambda: set(asking.answers) == {"edge", "cloud"})
        assert asking.last["edge"]["tier"] == "edge"
        assert asking.last["cloud"]["tier"] == "cloud"
        assert asking.last["cloud"]["cloud_latency_ms"] == 100.0
        await until(lambda: scraped(prometheus) == ["up", "up"], timeout_s=60)
        assert get(edge, "/predict", body={"input": FEATURES})[0] == 200
        # As an ordinary user, on a volume that the image would have given to another.
        await until(lambda: points_written(edge) > 0, timeout_s=60)
        running = compose("ps", "--quiet", "influxdb").strip()
        assert "Uid:\t1500\t1500\t1500\t1500" in engine.run("exec", running, "cat", "/proc/1/status")
        # Docker asks the outer name servers for a name of nobody who runs; here, none answers.
        compose("stop", "cloud")
        await until(lambda: scraped(prometheus) == ["up"], timeout_s=60)
    finally:
        compose("down", "--volumes", "--timeout", "10")
