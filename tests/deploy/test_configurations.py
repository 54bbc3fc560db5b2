"""The configuration files of the servers, taken by the servers themselves."""

from __future__ import annotations

import json
import socket
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from ruamel.yaml import YAML

from tests.components import need
from tests.deploy.manifest_checks import quantity
from tierwise.live.processes import child_process, free_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

ROOT = Path(__file__).parents[2]
MOSQUITTO_CONF = ROOT / "docker" / "mosquitto" / "mosquitto.conf"
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


def found_pod(name: str, *, app: str = "ml-inference", phase: str = "Running", port: str = "http") -> dict[str, Any]:
    """A target as Prometheus finds it in a cluster, before relabelling."""
    about = {"pod_name": name, "pod_node_name": "worker1", "pod_phase": phase}
    about |= {"pod_label_app": app, "pod_container_port_name": port}
    return {"targets": ["10.42.1.7:8080"], "labels": {f"__meta_kubernetes_{key}": word for key, word in about.items()}}


def test_prometheus_scrapes_running_replicas_by_the_name_of_their_pod(tmp_path: Path) -> None:
    need(program="promtool")
    yaml = YAML(typ="safe", pure=True)
    config = yaml.load(ROOT / "kubernetes" / "base" / "monitoring" / "config.yaml")
    [job] = [job for job in config["scrape_configs"] if job["job_name"] == "tierwise"]
    del job["kubernetes_sd_configs"]
    job["static_configs"] = [
        found_pod("inference-a"),
        found_pod("inference-fetching", phase="Pending"),
        found_pod("inference-evicted", phase="Failed"),
        found_pod("mosquitto-a", app="mosquitto"),
        found_pod("inference-b", port="debug"),
    ]
    yaml.dump(config, tmp_path / "config.yaml")
    command = ["promtool", "check", "service-discovery", str(tmp_path / "config.yaml"), "tierwise", "--timeout=5s"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    kept = [target["labels"] for target in json.loads(done.stdout) if target.get("labels")]
    assert [(labels["instance"], labels["pod"], labels["node"]) for labels in kept] == [
        ("inference-a", "inference-a", "worker1")
    ]
    assert kept[0]["__address__"] == "10.42.1.7:8080"


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


def output_of(command: list[str]) -> str:
    need(program=command[0])
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode in {0, 27}, done.stderr  # 27: the time of -W is over
    return done.stdout


def publish(port: int, *options: str) -> int:
    """Exit code of ``mosquitto_pub``: 0 published, 5 not authorised."""
    need(program="mosquitto_pub")
    command = ["mosquitto_pub", "-p", str(port), "-t", "a", "-m", "b", *options]
    return subprocess.run(command, capture_output=True, check=False, timeout=20).returncode


async def test_broker_asks_for_the_password(broker_port: int) -> None:
    assert publish(broker_port, "-u", "tierwise", "-P", PASSWORD) == 0
    assert publish(broker_port, "-u", "tierwise", "-P", "wrong") != 0
    assert publish(broker_port) != 0


async def test_broker_keeps_less_for_a_slow_client_than_its_own_limit(broker_port: int, tmp_path: Path) -> None:
    """60 MB for a subscriber that is away: the broker keeps 32 MiB of it, and whoever sends notices nothing."""
    login = ["-p", str(broker_port), "-u", "tierwise", "-P", PASSWORD]
    away = ["mosquitto_sub", *login, "-t", "a", "-q", "1", "-i", "slow", "-c"]
    output_of([*away, "-E"])  # subscribes and goes
    payload = tmp_path / "payload"
    payload.write_bytes(bytes(1_000_000))
    sent = ["mosquitto_pub", *login, "-t", "a", "-q", "1", "-f", str(payload), "--repeat", "60"]
    output_of(sent)
    kept = sum(int(size) for size in output_of([*away, "-F", "%l", "-W", "3"]).split())
    assert 30_000_000 < kept < 40_000_000
    assert publish(broker_port, "-u", "tierwise", "-P", PASSWORD) == 0


def test_broker_stays_below_the_limit_of_its_container_with_some_slow_clients() -> None:
    conf = dict(line.split(maxsplit=1) for line in MOSQUITTO_CONF.read_text().splitlines() if line[:1].isalpha())
    items = YAML(typ="safe", pure=True).load_all(ROOT / "kubernetes" / "base" / "mosquitto" / "mosquitto.yaml")
    [pod] = [item["spec"]["template"]["spec"] for item in items if item["kind"] == "Deployment"]
    limit = quantity(pod["containers"][0]["resources"]["limits"]["memory"])
    assert 5 * int(conf["max_queued_bytes"]) < limit
