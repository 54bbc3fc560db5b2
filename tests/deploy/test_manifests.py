"""The Kubernetes trees: each overlay builds and is what API servers of several versions take."""

from __future__ import annotations

import copy
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from ruamel.yaml import YAML

from tests.deploy.kustomize import Object, find, kustomize, pods
from tests.deploy.manifest_checks import problems, quantity
from tests.deploy.manifest_references import containers, pod_template
from tests.deploy.schemas import OLDEST, VERSIONS, schema_problems

if TYPE_CHECKING:
    from collections.abc import Callable

KUBERNETES = Path(__file__).parents[2] / "kubernetes"
OVERLAYS = ("k3s", "dev", "minimal")
GIVEN = {"dev": [("ConfigMap", "tierwise-model")]}
FROM_OUTSIDE = [("ConfigMap", "tierwise-model"), ("Secret", "tierwise-mqtt"), ("Secret", "tierwise-grafana")]
"""What scripts/deploy.sh makes in the cluster: the model and the password do not belong into a repository."""


@pytest.fixture(scope="module")
def overlay() -> Callable[[str], list[Object]]:
    built: dict[str, list[Object]] = {}

    def objects(name: str) -> list[Object]:
        if name not in built:
            built[name] = kustomize(KUBERNETES / "overlays" / name)
        return copy.deepcopy(built[name])

    return objects


@pytest.mark.parametrize("name", OVERLAYS)
def test_overlay_names_only_what_is_there_and_says_only_what_is_allowed(
    overlay: Callable[[str], list[Object]], name: str
) -> None:
    assert problems(overlay(name), given=GIVEN.get(name, FROM_OUTSIDE)) == []


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", OVERLAYS)
def test_overlay_is_valid_for(overlay: Callable[[str], list[Object]], name: str, version: str) -> None:
    assert schema_problems(overlay(name), version) == []


@pytest.mark.parametrize("name", ["minimal", "dev"])
def test_overlay_is_valid_for_the_oldest_version(overlay: Callable[[str], list[Object]], name: str) -> None:
    assert schema_problems(overlay(name), OLDEST) == []


def test_newer_pieces_are_what_the_oldest_version_does_not_know(
    overlay: Callable[[str], list[Object]],
) -> None:
    found = schema_problems(overlay("k3s"), OLDEST)
    assert sorted(found) == [
        "autoscaling/v2 HorizontalPodAutoscaler is unknown to 1.20",
        "policy/v1 PodDisruptionBudget is unknown to 1.20",
    ]


def damage(change: Callable[[list[Object]], object], *, expected: str) -> Any:
    """One parameter of the test below."""
    return pytest.param(change, expected, id=expected)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        damage(lambda o: find(o, "Service", "inference").update(kind="Servise"), expected="Servise is unknown"),
        damage(lambda o: find(o, "Service", "inference")["spec"].update(typ="ClusterIP"), expected="typ"),
        damage(lambda o: find(o, "Service", "mosquitto")["spec"].update(type="Balancer"), expected="'Balancer'"),
        damage(
            lambda o: find(o, "Deployment", "mosquitto")["spec"]["strategy"].update(type="Recreated"),
            expected="'Recreated'",
        ),
        damage(lambda o: pods(o)["initContainers"][0].update(imagePullPolicy="Sometimes"), expected="'Sometimes'"),
        damage(lambda o: pods(o)["securityContext"]["seccompProfile"].update(type="Default"), expected="'Default'"),
        damage(lambda o: pods(o)["containers"][0]["ports"][0].update(containerPort=80800), expected="80800 is no port"),
        damage(
            lambda o: pods(o)["containers"][0]["readinessProbe"]["httpGet"].update(port="web"),
            expected="asks port 'web'",
        ),
        damage(
            lambda o: find(o, "Service", "inference")["spec"]["ports"][0].update(targetPort="web"),
            expected="port 'web'",
        ),
        damage(lambda o: find(o, "Service", "inference")["spec"]["ports"][0].update(port=0), expected="0 is no port"),
        damage(
            lambda o: find(o, "Service", "inference")["spec"]["selector"].update(app="other"),
            expected="no pod has these labels",
        ),
        damage(
            lambda o: pods(o)["containers"][0]["resources"]["limits"].update(memory="64Mi"),
            expected="more memory than its limit",
        ),
        damage(
            lambda o: pods(o)["containers"][0]["resources"]["limits"].update(memory="1GB"), expected="is no quantity"
        ),
        damage(lambda o: pods(o)["containers"][0].update(image="tierwise"), expected="has no version"),
        damage(lambda o: pods(o)["volumes"].pop(), expected="no such volume"),
        damage(
            lambda o: o.remove(find(o, "PersistentVolumeClaim", "influxdb")), expected="PersistentVolumeClaim/influxdb"
        ),
        damage(
            lambda o: find(o, "HorizontalPodAutoscaler", "inference")["spec"]["scaleTargetRef"].update(name="x"),
            expected="x",
        ),
        damage(lambda o: o.append(find(o, "Service", "influxdb")), expected="twice"),
        damage(
            lambda o: find(o, "RoleBinding", "prometheus")["subjects"][0].update(namespace="elsewhere"),
            expected="its subject is in namespace elsewhere, not tierwise",
        ),
        damage(
            lambda o: find(o, "HorizontalPodAutoscaler", "inference")["metadata"].update(namespace="elsewhere"),
            expected="HorizontalPodAutoscaler/inference: is in namespace elsewhere",
        ),
        damage(
            lambda o: find(o, "Deployment", "prometheus")["spec"]["template"]["spec"]["volumes"][0]["configMap"].update(
                items=[{"key": "other.yaml", "path": "config.yaml"}]
            ),
            expected="has no key 'other.yaml'",
        ),
        damage(
            lambda o: pods(o)["containers"][0]["env"].append(
                {"name": "A", "valueFrom": {"configMapKeyRef": {"name": _settings(o), "key": "NO_SUCH"}}}
            ),
            expected="has no key 'NO_SUCH'",
        ),
        damage(
            lambda o: pods(o)["containers"][0]["envFrom"].append({"secretRef": {"name": "forgotten"}}),
            expected="names Secret/forgotten",
        ),
        damage(
            lambda o: _egress(o)[0]["to"][0]["podSelector"]["matchLabels"].update(app="broker"),
            expected="{'app': 'broker'}}}: no pod has these labels",
        ),
        damage(lambda o: _egress(o)[0]["ports"][0].update(port="amqp"), expected="these pods have no port ['amqp']"),
        damage(lambda o: _egress(o)[0].pop("to"), expected="port 'mqtt' must be a number"),
        damage(
            lambda o: find(o, "NetworkPolicy", "influxdb")["spec"]["ingress"][0]["from"][0]["podSelector"][
                "matchLabels"
            ].update(app="writer"),
            expected="from {'podSelector': {'matchLabels': {'app': 'writer'}}}: no pod",
        ),
        damage(
            lambda o: find(o, "PodDisruptionBudget", "inference").update(
                spec={"minAvailable": 2, "selector": {"matchLabels": {"app": "ml-inference"}}}
            ),
            expected="lets none of 2 replicas go",
        ),
        damage(
            lambda o: pods(o)["affinity"]["nodeAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"][0][
                "preference"
            ]["matchExpressions"][0].update(operator="Equal"),
            expected="'Equal' is none of",
        ),
        damage(lambda o: pods(o)["tolerations"][0].update(operator="In"), expected="'In' is none of"),
    ],
)
def test_checks_find(
    overlay: Callable[[str], list[Object]], change: Callable[[list[Object]], object], expected: str
) -> None:
    objects = overlay("k3s")
    change(objects)
    found = problems(objects, given=FROM_OUTSIDE) + schema_problems(objects, VERSIONS[-1])
    assert any(expected in problem for problem in found), found


def _egress(objects: list[Object]) -> list[Object]:
    rules: list[Object] = find(objects, "NetworkPolicy", "inference")["spec"]["egress"]
    return rules


def _settings(objects: list[Object]) -> str:
    name: str = find(objects, "ConfigMap", "tierwise-settings")["metadata"]["name"]
    return name


@pytest.mark.parametrize("name", OVERLAYS)
def test_liveness_asks_the_event_loop(overlay: Callable[[str], list[Object]], name: str) -> None:
    """The kernel takes connections for a process that hangs; readiness is another question."""
    [container] = pods(overlay(name))["containers"]
    assert container["livenessProbe"]["httpGet"]["path"] == "/health/live"
    assert container["startupProbe"]["timeoutSeconds"] * container["startupProbe"]["failureThreshold"] >= 120


def test_scaling_begins_where_a_replica_is_busy(overlay: Callable[[str], list[Object]]) -> None:
    objects = overlay("k3s")
    [metric] = find(objects, "HorizontalPodAutoscaler", "inference")["spec"]["metrics"]
    limit = quantity(pods(objects)["containers"][0]["resources"]["limits"]["cpu"])
    assert 0.3 * limit <= quantity(metric["resource"]["target"]["averageValue"]) <= 0.8 * limit


def test_every_pod_says_where_it_may_go(overlay: Callable[[str], list[Object]]) -> None:
    objects = overlay("k3s")
    policies = [item["spec"] for item in objects if item["kind"] == "NetworkPolicy"]
    closed = [spec["podSelector"].get("matchLabels") for spec in policies if "Egress" in spec["policyTypes"]]
    for item in objects:
        if template := pod_template(item):
            assert any(labels and labels.items() <= template["metadata"]["labels"].items() for labels in closed)


def test_ingress_routes_what_the_service_answers(overlay: Callable[[str], list[Object]]) -> None:
    [rule] = find(overlay("k3s"), "Ingress", "inference")["spec"]["rules"]
    assert [path["path"] for path in rule["http"]["paths"]] == ["/predict", "/health", "/metrics"]


def test_what_keeps_data_stays_on_the_master(overlay: Callable[[str], list[Object]]) -> None:
    for name in ("mosquitto", "prometheus", "influxdb"):
        pod = find(overlay("k3s"), "Deployment", name)["spec"]["template"]["spec"]
        [wish] = pod["affinity"]["nodeAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"]
        [expression] = wish["preference"]["matchExpressions"]
        assert expression == {"key": "node-role.kubernetes.io/control-plane", "operator": "Exists"}


@pytest.mark.parametrize("name", OVERLAYS)
def test_every_pod_is_closed(overlay: Callable[[str], list[Object]], name: str) -> None:
    """What the pod security level "restricted" asks for, and a read-only root besides."""
    for item in overlay(name):
        template = pod_template(item)
        if template is None:
            continue
        assert_closed(template["spec"])


def assert_closed(pod: Object) -> None:
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] > 0
    assert pod["securityContext"]["seccompProfile"]["type"] == "RuntimeDefault"
    assert not any("hostPath" in volume for volume in pod.get("volumes", []))
    assert not any(pod.get(shared) for shared in ("hostNetwork", "hostPID", "hostIPC"))
    for container in containers(pod):
        closed = container["securityContext"]
        assert closed["allowPrivilegeEscalation"] is False
        assert closed["readOnlyRootFilesystem"] is True
        assert closed["capabilities"]["drop"] == ["ALL"]
        assert container["resources"].keys() >= {"requests", "limits"}


def test_filler_may_run_beside_the_deployment_and_holds_its_claim_open() -> None:
    folder = KUBERNETES / "components" / "model-pvc"
    yaml = YAML(typ="safe", pure=True)
    filler, claim = yaml.load(folder / "filler.yaml"), yaml.load(folder / "claim.yaml")
    assert_closed(filler["spec"])
    for version in VERSIONS:
        assert schema_problems([filler, claim], version) == []
    [volume] = filler["spec"]["volumes"]
    assert volume["persistentVolumeClaim"] == {"claimName": claim["metadata"]["name"]}
    mosquitto = (KUBERNETES / "base" / "mosquitto" / "mosquitto.yaml").read_text()
    assert f"image: {filler['spec']['containers'][0]['image']}\n" in mosquitto


def test_grace_period_is_longer_than_the_drain(overlay: Callable[[str], list[Object]]) -> None:
    objects = overlay("k3s")
    settings = find(objects, "ConfigMap", "tierwise-settings")
    assert pods(objects)["terminationGracePeriodSeconds"] > float(settings["data"]["TIERWISE_DRAIN_S"])


def test_settings_of_the_manifests_are_settings_of_the_service(overlay: Callable[[str], list[Object]]) -> None:
    from tierwise.serving.settings import fields  # noqa: PLC0415

    known = {field.setting.env for field in fields()} | {
        "MQTT_BROKER_HOST",
        "MQTT_BROKER_PORT",
        "MODEL_SOURCE",
        "MODEL_SHA256",
    }
    for name in OVERLAYS:
        for item in overlay(name):
            if item["kind"] == "ConfigMap" and item["metadata"]["name"].startswith("tierwise-settings"):
                assert set(item["data"]) <= known


def test_replicas_are_left_to_the_autoscaler_where_there_is_one(overlay: Callable[[str], list[Object]]) -> None:
    assert "replicas" not in find(overlay("k3s"), "Deployment", "inference")["spec"]
    assert find(overlay("minimal"), "Deployment", "inference")["spec"]["replicas"] == 2
    assert find(overlay("dev"), "Deployment", "inference")["spec"]["replicas"] == 1


@pytest.mark.parametrize("component", ["model-pvc", "model-url"])
def test_model_comes_another_way_with(tmp_path: Path, component: str) -> None:
    overlay_folder = KUBERNETES / "overlays" / "minimal"
    kustomization = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "namespace": "tierwise",
        "resources": [_relative(overlay_folder, tmp_path)],
        "components": [_relative(KUBERNETES / "components" / component, tmp_path)],
    }
    (tmp_path / "kustomization.yaml").write_text(json.dumps(kustomization))
    objects = kustomize(tmp_path)
    assert problems(objects, given=FROM_OUTSIDE[1:]) == []
    assert schema_problems(objects, VERSIONS[-1]) == []
    volume = next(v for v in pods(objects)["volumes"] if v["name"] == "model-source")
    assert "configMap" not in volume


def _relative(path: Path, start: Path) -> str:
    return os.path.relpath(path, start.resolve())
