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
from tierwise.live.processes import free_port

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


@pytest.fixture(scope="session")
def broker_image(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("broker")
    (folder / "Dockerfile").write_text(BROKER)
    options = ("--network", "host", "--build-arg", f"BASE_IMAGE={engine.base}", "--tag", "tierwise-test:broker")
    engine.run("build", *options, str(folder), timeout_s=300)
    return "tierwise-test:broker"


@pytest.fixture
def images(edge_image: str, cloud_image: str, broker_image: str) -> dict[str, str]:
    return {"EDGE_IMAGE": edge_image, "CLOUD_IMAGE": cloud_image, "MOSQUITTO_IMAGE": broker_image}


async def test_stack_comes_up_and_answers_on_both_tiers(
    engine: Engine, images: dict[str, str], anomaly_detector: Path, tmp_path: Path
) -> None:
    need(program="docker-compose")
    out = render(DeployOptions(model=anomaly_detector, out=tmp_path / "out", target="compose")).out
    mqtt, edge, cloud = free_port(), free_port(), free_port()
    values = {
        "COMPOSE_PROJECT_NAME": "tierwise-test",
        **images,
        "MQTT_PORT": str(mqtt),
        "HTTP_PORT": str(edge),
        "CLOUD_HTTP_PORT": str(cloud),
    }
    password = (out / "docker" / "mqtt-password").read_text().strip()

    def compose(*arguments: str) -> str:
        command = ["docker-compose", "-f", str(out / "docker" / "compose.yaml"), *arguments]
        env = {**os.environ, **engine.env, **values}
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=180)
        assert done.returncode == 0, done.stderr
        return done.stdout

    try:
        compose("up", "--detach", "mosquitto", "edge", "cloud")
        await until(lambda: get(edge, "/health")[1].get("mqtt") == "connected", timeout_s=60)
        await until(lambda: get(cloud, "/health")[1].get("mqtt") == "connected", timeout_s=60)
        with sensor(mqtt, username="tierwise", password=password) as asking:
            asking.ask("sensor1", request_id="edge")
            asking.ask("sensor1", request_id="cloud", topic="ml/cloud/inference/request")
            await until(lambda: set(asking.answers) == {"edge", "cloud"})
        assert asking.last["edge"]["tier"] == "edge"
        assert asking.last["cloud"]["tier"] == "cloud"
        assert asking.last["cloud"]["cloud_latency_ms"] == 100.0
        assert get(edge, "/predict", body={"input": FEATURES})[0] == 200
    finally:
        compose("down", "--volumes", "--timeout", "10")
