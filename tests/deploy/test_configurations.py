"""The configuration files of the servers, taken by the servers themselves."""

from __future__ import annotations

import socket
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from ruamel.yaml import YAML

from tests.components import need
from tierwise.live.processes import child_process, free_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

ROOT = Path(__file__).parents[2]
PASSWORD = "correct horse battery staple"


CONFIGURATIONS = ("docker/prometheus/prometheus.yaml", "kubernetes/base/monitoring/config.yaml")


@pytest.mark.parametrize("file", CONFIGURATIONS)
def test_prometheus_takes_its_configuration(tmp_path: Path, file: str) -> None:
    need(program="promtool")
    yaml = YAML(typ="safe", pure=True)
    config = yaml.load(ROOT / file)
    for job in config["scrape_configs"]:
        # Debian's Prometheus is built without this way of finding targets; how it is used stands in its documentation.
        if found := job.pop("kubernetes_sd_configs", None):
            assert found == [{"role": "pod", "namespaces": {"own_namespace": True}}]
            job["static_configs"] = [{"targets": ["localhost:8080"]}]
    yaml.dump(config, tmp_path / "config.yaml")
    command = ["promtool", "check", "config", "--syntax-only", str(tmp_path / "config.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("file", CONFIGURATIONS)
def test_prometheus_reads_the_rules_where_they_are_mounted(file: str) -> None:
    config = YAML(typ="safe", pure=True).load(ROOT / file)
    assert config["rule_files"] == ["/etc/prometheus/rules/rules.yml"]
    assert any(job["job_name"].startswith("tierwise") for job in config["scrape_configs"])
    compose = (ROOT / "docker" / "compose.yaml").read_text()
    assert "../monitoring/prometheus:/etc/prometheus/rules:ro" in compose
    assert (ROOT / "monitoring" / "prometheus" / "rules.yml").is_file()


@pytest.fixture
async def broker_port(tmp_path: Path) -> AsyncIterator[int]:
    """mosquitto with our configuration; only its paths and its port are others."""
    need(program="mosquitto")
    need(program="mosquitto_passwd")
    port = free_port()
    (tmp_path / "password").write_text(f"{PASSWORD}\n")
    paths = {"/mosquitto/run": str(tmp_path), "/mosquitto/data": str(tmp_path), "/run/mqtt": str(tmp_path)}
    for name in ("mosquitto.conf", "hash-password.sh"):
        text = (ROOT / "docker" / "mosquitto" / name).read_text()
        for inside, here in paths.items():
            text = text.replace(inside, here)
        (tmp_path / name).write_text(text.replace("listener 1883", f"listener {port} 127.0.0.1\nuser root"))
    hash_password(tmp_path / "hash-password.sh")
    assert PASSWORD not in (tmp_path / "passwords").read_text()
    assert (tmp_path / "passwords").stat().st_mode & 0o077 == 0
    async with child_process(["mosquitto", "-c", str(tmp_path / "mosquitto.conf")]) as broker:
        await broker.wait_ready(lambda: _listens(port))
        yield port


def hash_password(script: Path) -> None:
    env = {"PATH": "/usr/sbin:/usr/bin:/bin", "MQTT_USERNAME": "tierwise"}
    subprocess.run(["sh", str(script)], env=env, check=True, timeout=20)


async def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def publish(port: int, *options: str) -> int:
    """Exit code of ``mosquitto_pub``: 0 published, 5 not authorised."""
    need(program="mosquitto_pub")
    command = ["mosquitto_pub", "-p", str(port), "-t", "a", "-m", "b", *options]
    return subprocess.run(command, capture_output=True, check=False, timeout=20).returncode


def test_password_is_hashed_where_a_temporary_file_can_be_written() -> None:
    """``mosquitto_passwd`` needs /tmp, and the root is read-only in both deployments."""
    yaml = YAML(typ="safe", pure=True)
    compose = yaml.load(ROOT / "docker" / "compose.yaml")["services"]["mosquitto"]
    assert compose["read_only"] is True
    assert any(mount.startswith("/tmp:") for mount in compose["tmpfs"])
    [pod] = [
        item["spec"]["template"]["spec"]
        for item in yaml.load_all(ROOT / "kubernetes" / "base" / "mosquitto" / "mosquitto.yaml")
        if item["kind"] == "Deployment"
    ]
    [hashing] = pod["initContainers"]
    assert {"/tmp", "/mosquitto/run"} <= {mount["mountPath"] for mount in hashing["volumeMounts"]}


async def test_broker_asks_for_the_password(broker_port: int) -> None:
    assert publish(broker_port, "-u", "tierwise", "-P", PASSWORD) == 0
    assert publish(broker_port, "-u", "tierwise", "-P", "wrong") != 0
    assert publish(broker_port) != 0
