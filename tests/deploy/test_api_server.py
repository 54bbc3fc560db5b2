"""What an API server of the oldest supported version takes, and what its controllers and its scheduler make of it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import uuid
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.deploy.control_plane import STORAGE_CLASS, Cluster, control_plane, ready_node, volume
from tests.deploy.kustomize import kustomize
from tests.deploy.schemas import OLDEST
from tierwise.deploy.options import DeployOptions
from tierwise.deploy.render import render

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.deploy.kustomize import Object

ROOT = Path(__file__).parents[2]
KUBERNETES = ROOT / "kubernetes"
NAMESPACE = "tierwise"
SECRETS = ("mqtt", "influxdb", "influxdb-admin", "grafana")
WORKERS = {"worker1", "worker2"}


@pytest.fixture(scope="module")
def shared_cluster() -> Iterator[Cluster]:
    """A master and two workers."""
    with control_plane() as running:
        master = ready_node("master", labels={"node-role.kubernetes.io/control-plane": "true"})
        running.create(master, *(ready_node(name) for name in sorted(WORKERS)), STORAGE_CLASS)
        yield running


@pytest.fixture
def cluster(shared_cluster: Cluster) -> Iterator[Cluster]:
    """The cluster; what a test deploys into our namespace is gone after it."""
    yield shared_cluster
    shared_cluster.remove(NAMESPACE)


@pytest.fixture
def stored(cluster: Cluster) -> Iterator[Cluster]:
    """The cluster with room for every claim; a volume is used but once."""
    names = [f"volume-{uuid.uuid4()}" for _ in range(4)]
    cluster.create(*map(volume, names))
    yield cluster
    cluster.kubectl("delete", "persistentvolumes", *names, "--wait=false")


def assert_changes_nothing(cluster: Cluster, folder: Path, *options: str) -> None:
    """The server would leave everything as it is. It counts a field that it drops by itself as a change every time."""
    assert cluster.kubectl("diff", *options, "-k", str(folder)) == []


def pods(cluster: Cluster, app: str = "") -> list[Object]:
    return cluster.items("pods", namespace=NAMESPACE, selector=f"app={app}" if app else "")


def nodes(placed: list[Object]) -> Counter[str | None]:
    """How many of these pods each node has; ``None`` for those without one."""
    return Counter(pod["spec"].get("nodeName") for pod in placed)


def play_nodes(cluster: Cluster) -> None:
    """What the nodes would say when the containers of their pods run and are ready."""
    for number, pod in enumerate(pods(cluster), start=1):
        if "nodeName" in pod["spec"] and pod["status"]["phase"] == "Pending":
            ready = [{"type": kind, "status": "True"} for kind in ("Initialized", "ContainersReady", "Ready")]
            address = f"10.1.0.{number}"
            status = {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}], "conditions": ready}
            patch = json.dumps({"status": status})
            arguments = ("patch", "pod", pod["metadata"]["name"], f"--namespace={NAMESPACE}", "--subresource=status")
            cluster.run(*arguments, f"--patch={patch}")  # a pod may have gone meanwhile


def test_server_is_of_the_oldest_version(shared_cluster: Cluster) -> None:
    version = json.loads("".join(shared_cluster.kubectl("get", "--raw", "/version")))
    assert f"{version['major']}.{version['minor']}" == OLDEST
    assert version["gitVersion"].startswith(f"v{OLDEST}.")


@pytest.mark.parametrize("overlay", ["minimal", "dev"])
def test_overlay_is_taken_and_changes_nothing_the_second_time(cluster: Cluster, overlay: str) -> None:
    """As ``deploy.sh`` applies it."""
    folder = KUBERNETES / "overlays" / overlay
    for _ in range(2):
        applied = cluster.kubectl("apply", "--server-side", "-k", str(folder))
        assert len(applied) == len(kustomize(folder))
        assert all(line.endswith(" serverside-applied") for line in applied)
    assert_changes_nothing(cluster, folder, "--server-side")


@pytest.mark.parametrize("overlay", ["minimal", "dev"])
def test_overlay_is_taken_by_an_apply_on_the_client_too(cluster: Cluster, overlay: str) -> None:
    folder = KUBERNETES / "overlays" / overlay
    assert all(line.endswith(" created") for line in cluster.kubectl("apply", "-k", str(folder)))
    assert all(line.endswith(" unchanged") for line in cluster.kubectl("apply", "-k", str(folder)))
    assert_changes_nothing(cluster, folder)
    tried = cluster.kubectl("apply", "--dry-run=server", "-k", str(folder))
    assert all(line.endswith(" unchanged (server dry run)") for line in tried)


RENDERINGS: list[dict[str, Any]] = [
    {"target": "dev", "tier": "cloud", "replicas": 3},
    {"target": "minimal", "delivery": "pvc"},
    {"target": "minimal", "delivery": "url", "model_url": "https://models.local/detector/model.yaml"},
]


@pytest.mark.parametrize("values", RENDERINGS, ids=lambda values: "-".join(map(str, values.values())).partition(":")[0])
def test_what_deploy_renders_is_taken(
    cluster: Cluster, anomaly_detector: Path, tmp_path: Path, values: dict[str, Any]
) -> None:
    folder = render(DeployOptions(model=anomaly_detector, out=tmp_path / "out", **values)).out
    cluster.kubectl("apply", "--server-side", "-k", str(folder))
    cluster.kubectl("apply", "--server-side", "-k", str(folder))
    assert_changes_nothing(cluster, folder, "--server-side")
    assert len(cluster.kubectl("delete", "--wait=false", "-k", str(folder))) == len(kustomize(folder))


def test_of_the_large_overlay_only_the_newer_kinds_are_unknown(cluster: Cluster) -> None:
    folder = KUBERNETES / "overlays" / "k3s"
    done = cluster.run("apply", "--server-side", "-k", str(folder))
    assert len(done.stdout.splitlines()) == len(kustomize(folder)) - 2
    assert 'no matches for kind "HorizontalPodAutoscaler" in version "autoscaling/v2"' in done.stderr
    assert 'no matches for kind "PodDisruptionBudget" in version "policy/v1"' in done.stderr
    assert done.stderr.count("no matches for kind") == done.stderr.count("inference") == 2


def test_a_port_without_its_protocol_is_refused(cluster: Cluster, tmp_path: Path) -> None:
    """Why each service names it: a server-side apply needs it as a key, and this version does not fill it in."""
    kustomization = {
        "resources": [os.path.relpath(KUBERNETES / "overlays" / "minimal", tmp_path.resolve())],
        "patches": [
            {
                "target": {"kind": "Service"},
                "patch": json.dumps([{"op": "remove", "path": "/spec/ports/0/protocol"}]),
            }
        ],
    }
    (tmp_path / "kustomization.yaml").write_text(json.dumps(kustomization))
    done = cluster.run("apply", "--server-side", "-k", str(tmp_path))
    services = [item for item in kustomize(tmp_path) if item["kind"] == "Service"]
    assert done.stderr.count('omits key field "protocol"') == len(services) > 0


def test_every_pod_finds_a_node_and_its_storage(stored: Cluster) -> None:
    stored.kubectl("apply", "--server-side", "-k", str(KUBERNETES / "overlays" / "minimal"))
    stored.until(lambda: len(pods(stored)) == 6 and None not in nodes(pods(stored)), "every pod has a node")
    claims = stored.items("persistentvolumeclaims", namespace=NAMESPACE)
    assert {claim["metadata"]["name"]: claim["status"]["phase"] for claim in claims} == dict.fromkeys(
        ("mosquitto", "prometheus", "influxdb"), "Bound"
    )
    assert max(nodes(pods(stored, "ml-inference")).values()) == 1, "a node that is lost takes one replica with it"


def test_on_k3s_replicas_go_to_the_workers_and_data_to_the_master(stored: Cluster) -> None:
    stored.run("apply", "--server-side", "-k", str(KUBERNETES / "overlays" / "k3s"))
    # There is no autoscaler here that knows this version's form; it would begin with two.
    stored.kubectl("scale", "deployment/inference", "--replicas=2", f"--namespace={NAMESPACE}")
    stored.until(lambda: len(pods(stored)) == 6 and None not in nodes(pods(stored)), "every pod has a node")
    assert nodes(pods(stored, "ml-inference")) == dict.fromkeys(WORKERS, 1)
    for app in ("mosquitto", "prometheus", "influxdb"):
        assert nodes(pods(stored, app)) == {"master": 1}


def test_services_lead_to_the_ports_of_ready_pods(stored: Cluster) -> None:
    stored.kubectl("apply", "--server-side", "-k", str(KUBERNETES / "overlays" / "minimal"))
    wanted = {"inference": (2, 8080), "mosquitto": (1, 1883), "prometheus": (1, 9090), "influxdb": (1, 8086)}
    wanted["grafana"] = (1, 3000)

    def led_to() -> dict[str, tuple[int, int]]:
        play_nodes(stored)
        found = {}
        for item in stored.items("endpoints", namespace=NAMESPACE):
            for subset in item.get("subsets", []):
                [port] = subset["ports"]
                found[item["metadata"]["name"]] = (len(subset.get("addresses", [])), port["port"])
        return found

    stored.until(lambda: led_to() == wanted, f"endpoints {wanted}")


def test_prometheus_may_see_pods_and_nothing_else(cluster: Cluster) -> None:
    cluster.kubectl("apply", "--server-side", "-k", str(KUBERNETES / "overlays" / "minimal"))

    def may(verb: str, resource: str, namespace: str = NAMESPACE) -> bool:
        account = f"--as=system:serviceaccount:{NAMESPACE}:prometheus"
        return cluster.run("auth", "can-i", verb, resource, account, f"--namespace={namespace}").stdout == "yes\n"

    cluster.until(lambda: may("list", "pods"), "the role is in force")
    assert may("watch", "pods")
    assert not may("delete", "pods")
    assert not may("get", "secrets")
    assert not may("list", "pods", "default")


def test_filler_holds_the_claim_of_a_model(stored: Cluster) -> None:
    folder = KUBERNETES / "components" / "model-pvc"
    stored.kubectl("create", "namespace", NAMESPACE)
    files = [f"--filename={folder / name}.yaml" for name in ("claim", "filler")]
    # A namespace that has just been made has no service account yet, and takes no pod.
    stored.until(
        lambda: stored.run("apply", f"--namespace={NAMESPACE}", *files).returncode == 0, "claim and filler are taken"
    )
    stored.until(lambda: None not in nodes(pods(stored)), "the filler has a node")
    [claim] = stored.items("persistentvolumeclaims", namespace=NAMESPACE)
    assert claim["status"]["phase"] == "Bound"


def test_script_deploys_and_keeps_its_passwords(cluster: Cluster, tmp_path: Path) -> None:
    if shutil.which("k3s"):
        pytest.skip("deploy.sh would take the K3s of this machine")
    model = tmp_path / "model.onnx"
    model.write_bytes(b"weights")
    kept = [_deployed(cluster, model), _deployed(cluster, model)]
    assert kept[0] == kept[1]
    assert kept[0].keys() == {f"tierwise-{name}" for name in SECRETS}


def _deployed(cluster: Cluster, model: Path) -> dict[str, str]:
    """The passwords in the cluster after ``deploy.sh``, which waits until the nodes say that the service is ready."""
    script = [str(ROOT / "scripts" / "deploy.sh"), "--overlay", "minimal", "--no-image", "--model", str(model)]
    log = model.with_suffix(".log")
    with log.open("w") as output:
        deploying = subprocess.Popen(script, env=cluster.env, stdout=output, stderr=subprocess.STDOUT)
    try:

        def ended() -> bool:
            play_nodes(cluster)
            return deploying.poll() is not None

        cluster.until(ended, "deploy.sh ends")
    finally:
        deploying.terminate()
        deploying.wait()
    assert deploying.returncode == 0, log.read_text()
    assert "Deployed." in log.read_text()
    found = cluster.items("secrets", namespace=NAMESPACE)
    ours = [item for item in found if item["type"] == "Opaque"]
    return {item["metadata"]["name"]: item["data"]["password"] for item in ours}
