"""What an API server of the oldest supported version takes, and what its controllers and its scheduler make of it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import uuid
from collections import Counter
from dataclasses import dataclass
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
SECRETS = ("mqtt", "influxdb", "influxdb-admin", "grafana")
WORKERS = {"worker1", "worker2"}
PODS = 6
"""Of the overlay ``minimal``: two replicas, broker, Prometheus, InfluxDB, Grafana."""


@dataclass(frozen=True)
class Site:
    """A namespace in the cluster, and a folder for what is applied to it."""

    cluster: Cluster
    namespace: str
    folder: Path

    def overlay(self, name: str, **more: Any) -> Path:
        """A kustomization that puts an overlay here; ``more`` are other fields of it."""
        overlay = os.path.relpath(KUBERNETES / "overlays" / name, self.folder.resolve())
        kustomization = {"namespace": self.namespace, "resources": [overlay], **more}
        (self.folder / "kustomization.yaml").write_text(json.dumps(kustomization))
        return self.folder

    def apply(self, folder: Path) -> list[str]:
        """As ``deploy.sh`` does."""
        return self.cluster.kubectl("apply", "--server-side", "-k", str(folder))

    def pods(self, app: str = "") -> list[Object]:
        return self.cluster.items("pods", namespace=self.namespace, selector=f"app={app}" if app else "")

    def nodes(self, app: str = "") -> Counter[str | None]:
        """How many pods each node has; ``None`` for those without one."""
        return Counter(pod["spec"].get("nodeName") for pod in self.pods(app))

    def await_nodes(self, count: int) -> None:
        """Returns when so many pods are there, and each has a node."""

        def placed() -> bool:
            nodes = self.nodes()
            return nodes.total() == count and None not in nodes

        self.cluster.until(placed, f"{count} pods have a node")

    def play_nodes(self) -> None:
        """What the nodes would say when the containers of their pods run and are ready."""
        for number, pod in enumerate(self.pods(), start=1):
            if "nodeName" in pod["spec"] and pod["status"]["phase"] == "Pending":
                ready = [{"type": kind, "status": "True"} for kind in ("Initialized", "ContainersReady", "Ready")]
                address = f"10.1.0.{number}"
                status = {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}], "conditions": ready}
                arguments = ("patch", "pod", pod["metadata"]["name"], f"--namespace={self.namespace}")
                # The pod may have gone meanwhile.
                self.cluster.run(*arguments, "--subresource=status", "--patch", json.dumps({"status": status}))


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A master and two workers."""
    with control_plane() as running:
        master = ready_node("master", labels={"node-role.kubernetes.io/control-plane": "true"})
        running.create(master, *(ready_node(name) for name in sorted(WORKERS)), STORAGE_CLASS)
        yield running


@pytest.fixture
def site(cluster: Cluster, tmp_path: Path) -> Iterator[Site]:
    """A namespace for the test alone; the pods in it are gone afterwards, and leave their nodes to the next."""
    folder = tmp_path / "site"
    folder.mkdir()
    made = Site(cluster, f"site-{uuid.uuid4()}", folder)
    yield made
    cluster.empty(made.namespace)


@pytest.fixture
def stored(site: Site) -> Iterator[Site]:
    """The same with room for every claim; a volume is used but once."""
    names = [f"volume-{uuid.uuid4()}" for _ in range(4)]
    site.cluster.create(*map(volume, names))
    yield site
    site.cluster.kubectl("delete", "persistentvolumes", *names, "--wait=false")


def assert_changes_nothing(site: Site, folder: Path, *options: str) -> None:
    """The server would leave everything as it is. It counts a field that it drops by itself as a change every time.

    A diff compares two looks at an object, and a controller may write in between; but not for ever.
    """
    said = ""

    def same() -> bool:
        nonlocal said
        difference = site.cluster.run("diff", *options, "-k", str(folder))
        said = f"{difference.stdout}{difference.stderr}"
        return difference.returncode == 0

    try:
        site.cluster.until(same, "an apply would change nothing")
    except AssertionError as error:
        error.add_note(said)
        raise


def test_server_is_of_the_oldest_version(cluster: Cluster) -> None:
    version = json.loads("".join(cluster.kubectl("get", "--raw", "/version")))
    assert f"{version['major']}.{version['minor']}" == OLDEST
    assert version["gitVersion"].startswith(f"v{OLDEST}.")


@pytest.mark.parametrize("overlay", ["minimal", "dev"])
def test_overlay_is_taken_and_changes_nothing_the_second_time(site: Site, overlay: str) -> None:
    folder = site.overlay(overlay)
    for _ in range(2):
        applied = site.apply(folder)
        assert len(applied) == len(kustomize(folder))
        assert all(line.endswith(" serverside-applied") for line in applied)
    assert_changes_nothing(site, folder, "--server-side")


@pytest.mark.parametrize("overlay", ["minimal", "dev"])
def test_overlay_is_taken_by_an_apply_on_the_client_too(site: Site, overlay: str) -> None:
    folder = site.overlay(overlay)
    apply = ("apply", "-k", str(folder))
    assert all(line.endswith(" created") for line in site.cluster.kubectl(*apply))
    assert all(line.endswith(" unchanged") for line in site.cluster.kubectl(*apply))
    assert_changes_nothing(site, folder)
    tried = site.cluster.kubectl(*apply, "--dry-run=server")
    assert all(line.endswith(" unchanged (server dry run)") for line in tried)


RENDERINGS: list[dict[str, Any]] = [
    {"target": "dev", "tier": "cloud", "replicas": 3},
    {"target": "minimal", "delivery": "pvc"},
    {"target": "minimal", "delivery": "url", "model_url": "https://models.local/detector/model.yaml"},
]


@pytest.mark.parametrize("values", RENDERINGS, ids=lambda values: "-".join(map(str, values.values())).partition(":")[0])
def test_what_deploy_renders_is_taken(site: Site, anomaly_detector: Path, values: dict[str, Any]) -> None:
    out = site.folder / "out"
    folder = render(DeployOptions(model=anomaly_detector, out=out, namespace=site.namespace, **values)).out
    assert len(site.apply(folder)) == len(site.apply(folder)) == len(kustomize(folder))
    assert_changes_nothing(site, folder, "--server-side")


def test_what_was_applied_goes_again(site: Site) -> None:
    folder = site.overlay("minimal")
    site.apply(folder)
    deleted = site.cluster.kubectl("delete", "--wait=false", "-k", str(folder))
    assert len(deleted) == len(kustomize(folder))
    site.cluster.empty(site.namespace)
    look = ("get", "namespace", site.namespace, "--ignore-not-found")
    site.cluster.until(lambda: site.cluster.kubectl(*look) == [], "the namespace is gone")


def test_of_the_large_overlay_only_the_newer_kinds_are_unknown(site: Site) -> None:
    folder = site.overlay("k3s")
    done = site.cluster.run("apply", "--server-side", "-k", str(folder))
    assert len(done.stdout.splitlines()) == len(kustomize(folder)) - 2
    assert 'no matches for kind "HorizontalPodAutoscaler" in version "autoscaling/v2"' in done.stderr
    assert 'no matches for kind "PodDisruptionBudget" in version "policy/v1"' in done.stderr
    assert done.stderr.count("no matches for kind") == done.stderr.count('name: "inference"') == 2


def test_a_port_without_its_protocol_is_refused(site: Site) -> None:
    """Why each service names it: a server-side apply needs it as a key, and this version does not fill it in."""
    patch = json.dumps([{"op": "remove", "path": "/spec/ports/0/protocol"}])
    folder = site.overlay("minimal", patches=[{"target": {"kind": "Service"}, "patch": patch}])
    done = site.cluster.run("apply", "--server-side", "-k", str(folder))
    services = [item for item in kustomize(folder) if item["kind"] == "Service"]
    assert done.stderr.count('omits key field "protocol"') == len(services) > 0


def test_every_pod_finds_a_node_and_its_storage(stored: Site) -> None:
    stored.apply(stored.overlay("minimal"))
    stored.await_nodes(PODS)
    claims = stored.cluster.items("persistentvolumeclaims", namespace=stored.namespace)
    phases = {claim["metadata"]["name"]: claim["status"]["phase"] for claim in claims}
    assert phases == {"mosquitto": "Bound", "prometheus": "Bound", "influxdb": "Bound"}
    assert max(stored.nodes("ml-inference").values()) == 1, "a node that is lost takes one replica with it"


def test_on_k3s_replicas_go_to_the_workers_and_data_to_the_master(stored: Site) -> None:
    stored.cluster.run("apply", "--server-side", "-k", str(stored.overlay("k3s")))
    # No autoscaler here knows this version's form; it would begin with two.
    stored.cluster.kubectl("scale", "deployment/inference", "--replicas=2", f"--namespace={stored.namespace}")
    stored.await_nodes(PODS)
    assert stored.nodes("ml-inference") == dict.fromkeys(WORKERS, 1)
    for app in ("mosquitto", "prometheus", "influxdb"):
        assert stored.nodes(app) == {"master": 1}


def test_services_lead_to_the_ports_of_ready_pods(stored: Site) -> None:
    stored.apply(stored.overlay("minimal"))
    wanted = {"inference": (2, 8080), "mosquitto": (1, 1883), "prometheus": (1, 9090), "influxdb": (1, 8086)}
    wanted["grafana"] = (1, 3000)

    def endpoints() -> dict[str, tuple[int, int]]:
        """Ready pods behind each service, and their port."""
        found = {}
        for item in stored.cluster.items("endpoints", namespace=stored.namespace):
            for subset in item.get("subsets", []):
                [port] = subset["ports"]
                found[item["metadata"]["name"]] = (len(subset.get("addresses", [])), port["port"])
        return found

    stored.await_nodes(PODS)
    stored.play_nodes()
    stored.cluster.until(lambda: endpoints() == wanted, f"endpoints are {wanted}")


def test_prometheus_may_see_pods_and_nothing_else(site: Site) -> None:
    site.apply(site.overlay("minimal"))

    def may(verb: str, resource: str, namespace: str = site.namespace) -> bool:
        account = f"--as=system:serviceaccount:{site.namespace}:prometheus"
        return site.cluster.run("auth", "can-i", verb, resource, account, f"--namespace={namespace}").stdout == "yes\n"

    site.cluster.until(lambda: may("list", "pods"), "the role is in force")
    assert may("watch", "pods")
    assert not may("delete", "pods")
    assert not may("get", "secrets")
    assert not may("list", "pods", "default")


def test_filler_holds_the_claim_of_a_model(stored: Site) -> None:
    folder = KUBERNETES / "components" / "model-pvc"
    stored.cluster.kubectl("create", "namespace", stored.namespace)
    apply = ("apply", f"--namespace={stored.namespace}", f"--filename={folder}/claim.yaml", f"-f={folder}/filler.yaml")
    # A namespace that has just been made has no service account yet, and takes no pod.
    stored.cluster.until(lambda: stored.cluster.run(*apply).returncode == 0, "claim and filler are taken")
    stored.await_nodes(1)
    [claim] = stored.cluster.items("persistentvolumeclaims", namespace=stored.namespace)
    assert claim["status"]["phase"] == "Bound"


def test_script_deploys_and_keeps_its_passwords(cluster: Cluster, tmp_path: Path) -> None:
    if shutil.which("k3s"):
        pytest.skip("deploy.sh would take the K3s of this machine")
    site = Site(cluster, "tierwise", tmp_path)
    first, second = deployed_passwords(site), deployed_passwords(site)
    assert first == second
    assert first.keys() == {f"tierwise-{name}" for name in SECRETS}
    cluster.empty(site.namespace)


def deployed_passwords(site: Site) -> dict[str, str]:
    """The passwords in the cluster after ``deploy.sh``, which waits until the nodes say that the service is ready."""
    model, log = site.folder / "model.onnx", site.folder / "log"
    model.write_bytes(b"weights")
    command = [str(ROOT / "scripts" / "deploy.sh"), "--overlay", "minimal", "--no-image", "--model", str(model)]
    with log.open("w") as output:
        script = subprocess.Popen(command, env=site.cluster.env, stdout=output, stderr=subprocess.STDOUT)

    def ended() -> bool:
        site.play_nodes()
        return script.poll() is not None

    try:
        site.cluster.until(ended, "deploy.sh ends")
    finally:
        script.terminate()
        script.wait()
    assert script.returncode == 0, log.read_text()
    assert "Deployed." in log.read_text()
    secrets = site.cluster.items("secrets", namespace=site.namespace)
    return {item["metadata"]["name"]: item["data"]["password"] for item in secrets if item["type"] == "Opaque"}
