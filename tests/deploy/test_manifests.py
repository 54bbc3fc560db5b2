"""The Kubernetes trees: each overlay builds and is what API servers of several versions take."""

from __future__ import annotations

import copy
import functools
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from ruamel.yaml import YAML

from tests.components import missing, need
from tests.deploy.manifest_checks import containers, pod_template, problems
from tests.integration.engine import CACHE

if TYPE_CHECKING:
    from collections.abc import Callable

KUBERNETES = Path(__file__).parents[2] / "kubernetes"
OVERLAYS = ("k3s", "dev", "minimal")
VERSIONS = ("1.25", "1.28", "1.31", "1.34")
OLDEST = "1.20"
GIVEN = {"dev": [("ConfigMap", "tierwise-model")]}
FROM_OUTSIDE = [("ConfigMap", "tierwise-model"), ("Secret", "tierwise-mqtt")]
"""What scripts/deploy.sh makes in the cluster: the model and the password do not belong into a repository."""

Object = dict[str, Any]


def kustomize(folder: Path) -> list[Object]:
    """The objects that ``kubectl apply -k`` would send."""
    need(program="kubectl")
    built = subprocess.run(
        ["kubectl", "kustomize", str(folder)], capture_output=True, text=True, check=False, timeout=60
    )
    assert built.returncode == 0, built.stderr
    assert built.stderr == ""  # kustomize warns of deprecated fields there
    return list(YAML(typ="safe", pure=True).load_all(built.stdout))


@pytest.fixture(scope="module")
def overlay() -> Callable[[str], list[Object]]:
    built: dict[str, list[Object]] = {}

    def objects(name: str) -> list[Object]:
        if name not in built:
            built[name] = kustomize(KUBERNETES / "overlays" / name)
        return copy.deepcopy(built[name])

    return objects


@functools.cache
def schema(version: str, name: str) -> Any:
    """One strict schema of one version of Kubernetes; ``None`` where it does not know the kind."""
    need(package="kubernetes_validate")
    import kubernetes_validate  # noqa: PLC0415  may be missing

    folder = _oldest_schemas() if version == OLDEST else Path(kubernetes_validate.__file__).parent
    [strict] = folder.glob(f"**/v{version}.0-local-strict")
    path = strict / name
    return json.loads(path.read_bytes()) if path.exists() else None


def _oldest_schemas() -> Path:
    """Folder of the schemas of 1.20, which later releases of kubernetes-validate have dropped."""
    folder = CACHE / "schemas" / OLDEST
    if not folder.exists():
        with tempfile.TemporaryDirectory() as downloads:
            pip = [
                sys.executable,
                "-m",
                "pip",
                "download",
                "--quiet",
                "--no-deps",
                "--no-binary",
                ":all:",
                "--dest",
                downloads,
            ]
            got = subprocess.run(
                [*pip, "kubernetes-validate==1.20.0"], capture_output=True, text=True, check=False, timeout=180
            )
            if got.returncode:
                missing(f"the schemas of Kubernetes {OLDEST} (kubernetes-validate==1.20.0): {got.stderr[-300:]}")
            [archive] = Path(downloads).iterdir()
            with tarfile.open(archive) as packed:
                wanted = [member for member in packed if f"/v{OLDEST}.0-local-strict/" in member.name]
                packed.extractall(downloads, members=wanted, filter="data")
            folder.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(archive.with_suffix("").with_suffix(""), folder)
    return folder


@functools.cache
def definitions_of(version: str) -> Any:
    """What the schemas of one version refer to; read once, which takes longer than all validation."""
    import referencing  # noqa: PLC0415  comes with kubernetes-validate
    import referencing.jsonschema  # noqa: PLC0415

    definitions = referencing.Resource.from_contents(
        schema(version, "_definitions.json"), default_specification=referencing.jsonschema.DRAFT7
    )
    return referencing.Registry().with_resource("_definitions.json", definitions).crawl()


def schema_problems(objects: list[Object], version: str) -> list[str]:
    """What ``kubernetes-validate --strict`` finds, with unknown kinds as errors."""
    definitions = definitions_of(version)
    import jsonschema  # noqa: PLC0415  comes with kubernetes-validate

    found = []
    for item in objects:
        group, _, api = item["apiVersion"].rpartition("/")
        name = "-".join(part for part in (item["kind"].lower(), group.partition(".")[0], api) if part)
        if (kind := schema(version, f"{name}.json")) is None:
            found.append(f"{item['apiVersion']} {item['kind']} is unknown to {version}")
            continue
        validator = jsonschema.Draft7Validator(kind, registry=definitions)
        found += [f"{name}: {error.json_path}: {error.message}" for error in validator.iter_errors(item)]
    return found


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


def find(objects: list[Object], kind: str, name: str) -> Object:
    """One object."""
    return next(item for item in objects if (item["kind"], item["metadata"]["name"]) == (kind, name))


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
    ],
)
def test_checks_find(
    overlay: Callable[[str], list[Object]], change: Callable[[list[Object]], object], expected: str
) -> None:
    objects = overlay("k3s")
    change(objects)
    found = problems(objects, given=FROM_OUTSIDE) + schema_problems(objects, VERSIONS[-1])
    assert any(expected in problem for problem in found), found


def pods(objects: list[Object]) -> Object:
    """The pod of the service."""
    spec: Object = find(objects, "Deployment", "inference")["spec"]["template"]["spec"]
    return spec


@pytest.mark.parametrize("name", OVERLAYS)
def test_every_pod_is_closed(overlay: Callable[[str], list[Object]], name: str) -> None:
    """What the pod security level "restricted" asks for, and a read-only root besides."""
    for item in overlay(name):
        template = pod_template(item)
        if template is None:
            continue
        pod = template["spec"]
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


def test_grace_period_is_longer_than_the_drain(overlay: Callable[[str], list[Object]]) -> None:
    objects = overlay("k3s")
    settings = next(
        o for o in objects if o["kind"] == "ConfigMap" and o["metadata"]["name"].startswith("tierwise-settings")
    )
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
        "resources": [_relative(overlay_folder, tmp_path)],
        "components": [_relative(KUBERNETES / "components" / component, tmp_path)],
    }
    (tmp_path / "kustomization.yaml").write_text(json.dumps(kustomization))
    objects = kustomize(tmp_path)
    assert problems(objects, given=[("Secret", "tierwise-mqtt")]) == []
    assert schema_problems(objects, VERSIONS[-1]) == []
    volume = next(v for v in pods(objects)["volumes"] if v["name"] == "model-source")
    assert "configMap" not in volume


def _relative(path: Path, start: Path) -> str:
    return os.path.relpath(path, start.resolve())
