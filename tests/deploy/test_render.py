"""``tierwise deploy``: what it writes builds, is valid, names the model, and keeps its passwords."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner
from ruamel.yaml import YAML

from tests.components import need
from tests.deploy.kustomize import find, kustomize, pods
from tests.deploy.manifest_checks import problems
from tests.deploy.schemas import OLDEST, VERSIONS, schema_problems
from tierwise.cli.deploy import deploy
from tierwise.core.errors import ConfigurationError, ModelError, ModelFileError, ModelIntegrityError
from tierwise.deploy.options import MAX_CONFIGMAP_BYTES, DeployOptions
from tierwise.deploy.render import render
from tierwise.models.card import sha256_of
from tierwise.models.fetch import fetch_model

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def options(anomaly_detector: Path, tmp_path: Path) -> Callable[..., DeployOptions]:
    def build(**values: Any) -> DeployOptions:
        return DeployOptions(**{"model": anomaly_detector, "out": tmp_path / "out", **values})

    return build


@pytest.fixture
def large_model(tmp_path: Path) -> Path:
    path = tmp_path / "large.onnx"
    path.write_bytes(bytes(MAX_CONFIGMAP_BYTES + 1))
    return path


Values = dict[str, Any]
RENDERINGS: list[Values] = [
    {"target": "k3s"},
    {"target": "dev"},
    {"target": "minimal"},
    {"target": "k3s", "tier": "cloud", "namespace": "cloud-site", "replicas": 3, "max_replicas": 9},
    {"target": "minimal", "replicas": 4, "image": "registry.local:5000/team/tierwise:1.2"},
    {"target": "k3s", "delivery": "pvc"},
    {"target": "k3s", "replicas": 1},
    {"target": "k3s", "delivery": "url", "model_url": "https://models.local/detector/model.yaml"},
    {"target": "dev", "image": "tierwise@sha256:" + "0" * 64, "settings": {"TIERWISE_QUEUE_SIZE": "200"}},
]


@pytest.mark.parametrize("values", RENDERINGS, ids=lambda v: "-".join(str(x).partition(":")[0] for x in v.values()))
def test_rendering_builds_and_is_valid(options: Callable[..., DeployOptions], values: Values) -> None:
    rendered = render(options(**values))
    objects = kustomize(rendered.out)
    assert problems(objects) == []
    assert schema_problems(objects, VERSIONS[0]) == schema_problems(objects, VERSIONS[-1]) == []
    if values["target"] != "k3s":
        assert schema_problems(objects, OLDEST) == []
    assert {item["metadata"].get("namespace") for item in objects} <= {None, values.get("namespace", "tierwise")}


def test_model_goes_along_and_passes_the_init_container(
    options: Callable[..., DeployOptions], anomaly_detector: Path, tmp_path: Path
) -> None:
    rendered = render(options())
    objects = kustomize(rendered.out)
    settings = find(objects, "ConfigMap", "tierwise-settings")["data"]
    assert settings["MODEL_PATH"] == "/app/models"
    assert settings["MODEL_SHA256"] == rendered.sha256 == sha256_of(anomaly_detector / "model.yaml")
    carried = find(objects, "ConfigMap", "tierwise-model")
    files = {*carried.get("data", {}), *carried.get("binaryData", {})}
    assert "anomaly-detector.onnx" in files
    assert "anomaly-detector.pt2" not in files
    fetched = fetch_model(str(rendered.out / "model"), tmp_path / "pod", sha256=settings["MODEL_SHA256"])
    assert {path.name for path in fetched} == files


def test_bare_artifact_is_served_under_its_name(options: Callable[..., DeployOptions], anomaly_detector: Path) -> None:
    rendered = render(options(model=anomaly_detector / "anomaly-detector.onnx"))
    settings = find(kustomize(rendered.out), "ConfigMap", "tierwise-settings")["data"]
    assert settings["MODEL_PATH"] == "/app/models/anomaly-detector.onnx"


def test_cloud_tier_has_its_own_topic_image_and_memory(options: Callable[..., DeployOptions]) -> None:
    objects = kustomize(render(options(tier="cloud")).out)
    settings = find(objects, "ConfigMap", "tierwise-settings")["data"]
    assert settings["TIERWISE_REQUEST_TOPIC"] == "ml/cloud/inference/request"
    container = pods(objects)["containers"][0]
    assert container["image"] == "tierwise:cloud"
    assert container["resources"]["limits"]["memory"] == "1536Mi"


def test_replicas_and_settings_arrive(options: Callable[..., DeployOptions]) -> None:
    scaled = kustomize(render(options(replicas=3, max_replicas=9)).out)
    assert find(scaled, "HorizontalPodAutoscaler", "inference")["spec"]["minReplicas"] == 3
    assert find(scaled, "HorizontalPodAutoscaler", "inference")["spec"]["maxReplicas"] == 9
    fixed = kustomize(render(options(target="minimal", replicas=4, settings={"TIERWISE_QUEUE_SIZE": "7"})).out)
    assert find(fixed, "Deployment", "inference")["spec"]["replicas"] == 4
    assert find(fixed, "ConfigMap", "tierwise-settings")["data"]["TIERWISE_QUEUE_SIZE"] == "7"


def test_new_model_replaces_the_old_one_and_rolls_the_pods(
    options: Callable[..., DeployOptions], anomaly_detector: Path
) -> None:
    first = kustomize(render(options()).out)
    second = kustomize(render(options(model=anomaly_detector / "anomaly-detector.onnx")).out)
    name = [find(objects, "ConfigMap", "tierwise-settings")["metadata"]["name"] for objects in (first, second)]
    assert name[0] != name[1]
    assert pods(first)["containers"] != pods(second)["containers"]


@pytest.mark.parametrize("target", ["k3s", "compose"])
def test_passwords_are_random_kept_and_closed_to_others(
    options: Callable[..., DeployOptions], tmp_path: Path, target: str
) -> None:
    names = ["mqtt.env", "grafana.env", "influxdb.env", "influxdb-admin.env"]
    if target == "compose":
        names = [f"docker/{name}" for name in ("mqtt-password", "grafana-password", *names[2:])]
    out = render(options(target=target)).out
    passwords = [(out / name).read_text() for name in names]
    assert out.stat().st_mode & 0o077 == 0
    assert all(len(password) > 32 for password in passwords)
    render(options(target=target))
    assert [(out / name).read_text() for name in names] == passwords
    other = render(options(target=target, out=tmp_path / "other")).out
    assert not set(passwords) & {(other / name).read_text() for name in names}


def compose_services(out: Path) -> dict[str, Any]:
    """What Compose reads out of a rendered folder."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("COMPOSE")}
    command = ["docker-compose", "-f", str(out / "docker" / "compose.yaml"), "config"]
    shown = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=60)
    assert shown.returncode == 0, shown.stderr
    services: dict[str, Any] = YAML(typ="safe", pure=True).load(shown.stdout)["services"]
    return services


def test_compose_file_is_taken_by_compose(options: Callable[..., DeployOptions]) -> None:
    need(program="docker-compose")
    out = render(options(target="compose", settings={"TIERWISE_QUEUE_SIZE": "7"})).out
    services = compose_services(out)
    assert set(services) == {
        "mosquitto", "edge", "cloud", "prometheus", "influxdb-volume", "influxdb", "grafana",
    }  # fmt: skip
    assert f"{out / 'model'}:/app/models:ro" in services["edge"]["volumes"]
    assert services["edge"]["environment"]["TIERWISE_QUEUE_SIZE"] == "7"
    assert services["cloud"]["environment"]["TIERWISE_REQUEST_TOPIC"] == "ml/cloud/inference/request"
    for name, service in services.items():
        mounted = [volume.partition(":")[0] for volume in service.get("volumes", []) if volume.startswith("/")]
        assert all(Path(path).exists() for path in mounted), name
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", [])), name


def test_compose_leaves_the_cloud_out_for_a_model_that_has_nothing_for_it(
    options: Callable[..., DeployOptions], anomaly_detector: Path
) -> None:
    out = render(options(target="compose", model=anomaly_detector / "anomaly-detector.onnx")).out
    assert "CLOUD_REPLICAS=0" in (out / "docker" / ".env").read_text().splitlines()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"target": "swarm"}, "--target: expected k3s"),
        ({"tier": "device"}, "--tier: expected edge"),
        ({"replicas": 0}, "--replicas: expected 1"),
        ({"replicas": 5, "max_replicas": 2}, "more than --max-replicas"),
        ({"target": "minimal", "max_replicas": 2}, "has no autoscaler"),
        ({"target": "compose", "replicas": 2}, "--replicas is for Kubernetes"),
        ({"namespace": "Not/One"}, "--namespace"),
        ({"image": "tierwise"}, "--image: expected NAME:VERSION"),
        ({"delivery": "url"}, "belong together"),
        ({"delivery": "url", "model_url": "file:///etc/passwd"}, "--model-url"),
        ({"settings": {"TIERWISE_NO_SUCH": "1"}}, "TIERWISE_NO_SUCH"),
        ({"settings": {"MODEL_PATH": "/x"}}, "MODEL_PATH"),
        ({"target": "compose", "settings": {"MQTT_BROKER_HOST": "x"}}, "MQTT_BROKER_HOST"),
        ({"settings": {"TIERWISE_MQTT_USERNAME": "user"}}, "mqtt.env"),
        ({"settings": {"TIERWISE_SERVICE_ID": "one"}}, "each replica has its own"),
        ({"target": "compose", "settings": {"TIERWISE_SERVICE_ID": "one"}}, "each replica has its own"),
        ({"target": "compose", "settings": {"TIERWISE_MQTT": "x:1883"}}, "TIERWISE_MQTT cannot be set"),
        ({"target": "compose", "tier": "cloud"}, "--tier is for Kubernetes"),
        ({"target": "compose", "namespace": "site"}, "--namespace is for Kubernetes"),
        ({"target": "compose", "delivery": "pvc"}, "--delivery is for Kubernetes"),
        (
            {"target": "compose", "delivery": "url", "model_url": "http://a/model.yaml"},
            "--delivery is for Kubernetes; --model-url is for Kubernetes",
        ),
        ({"settings": {"MQTT_BROKER_HOST": "tcp://a:1"}}, "MQTT_BROKER_HOST: expected a host name"),
        ({"settings": {"MQTT_BROKER_PORT": "mqtt"}}, "MQTT_BROKER_PORT: expected a port"),
        ({"settings": {"TIERWISE_OTLP": "collector:4318"}}, "TIERWISE_OTLP: expected http"),
        ({"settings": {"TIERWISE_TRACE_RATIO": "2"}}, "--set TIERWISE_TRACE_RATIO: expected at most 1"),
        ({"settings": {"TIERWISE_MQTT_PROTOCOL": "4"}}, "--set TIERWISE_MQTT_PROTOCOL: expected auto, 5, 3.1.1"),
        ({"settings": {"TIERWISE_INFLUX_BUCKET": "b"}}, "--influx-bucket and --influx-org belong together"),
        ({"delivery": "url", "model_url": "http://a:99999/model.yaml"}, "--model-url: expected http"),
        ({"settings": {"MQTT_BROKER_HOST": "localhost"}}, "MQTT_BROKER_HOST: in a pod localhost is the pod itself"),
        ({"target": "dev", "settings": {"TIERWISE_MQTT": "[::1]:1883"}}, "TIERWISE_MQTT: in a pod ::1 is the pod"),
        ({"settings": {"MQTT_BROKER_HOST": "0.0.0.0"}}, "in a pod 0.0.0.0 is the pod itself"),
        ({"settings": {"TIERWISE_MQTT": "[::]:1883"}}, "in a pod :: is the pod itself"),
        ({"settings": {"TIERWISE_INFLUX": "http://[::ffff:127.0.0.1]:8086"}}, "in a pod ::ffff:127.0.0.1 is the pod"),
        (
            {"settings": {"MQTT_BROKER_HOST": "127.0.0.1", "TIERWISE_INFLUX": "http://localhost:8086"}},
            "MQTT_BROKER_HOST: in a pod 127.0.0.1 is the pod itself; --set TIERWISE_INFLUX: in a pod localhost is",
        ),
    ],
)
def test_options_that_cannot_be_meant_are_named(
    options: Callable[..., DeployOptions], values: Values, message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        render(options(**values))


@pytest.mark.parametrize("value", ["a\nb", "a$b", "${HOME}", "'a'", 'a"b', "a #b", "#a", " a", "a ", "a\\nb", "`a`"])
@pytest.mark.parametrize("target", ["minimal", "compose"])
def test_value_that_would_be_changed_on_the_way_is_refused(
    options: Callable[..., DeployOptions], target: str, value: str
) -> None:
    with pytest.raises(ConfigurationError, match="is not possible here"):
        render(options(target=target, settings={"TIERWISE_INFLUX_ORG": value}))


@pytest.mark.parametrize("value", ["a=b", "a#b", "a b", "{a: [1, 2]}", "ä", "a;b|c&d", "%20~!*?<>"])
def test_other_values_arrive_as_they_are(options: Callable[..., DeployOptions], value: str) -> None:
    settings = {"TIERWISE_INFLUX_ORG": value, "TIERWISE_INFLUX_BUCKET": "b"}
    out = render(options(target="minimal", settings=settings)).out
    assert find(kustomize(out), "ConfigMap", "tierwise-settings")["data"]["TIERWISE_INFLUX_ORG"] == value


@pytest.mark.parametrize("value", ["a=b", "a#b", "a b", "{a: [1, 2]}", "a;b|c&d", "%20~!*?<>"])
def test_other_values_arrive_in_compose(options: Callable[..., DeployOptions], value: str) -> None:
    need(program="docker-compose")
    settings = {"TIERWISE_INFLUX_ORG": value, "TIERWISE_INFLUX_BUCKET": "b"}
    out = render(options(target="compose", settings=settings)).out
    assert compose_services(out)["edge"]["environment"]["TIERWISE_INFLUX_ORG"] == value


@pytest.mark.parametrize(
    ("values", "ports"),
    [
        ({}, set()),
        ({"settings": {"MQTT_BROKER_HOST": "mosquitto", "TIERWISE_INFLUX": "http://influxdb:8086"}}, set()),
        ({"settings": {"TIERWISE_INFLUX": "off", "TIERWISE_OTLP": "off"}}, set()),
        ({"settings": {"MQTT_BROKER_HOST": "192.168.1.10"}}, {1883}),
        ({"settings": {"MQTT_BROKER_HOST": "edge.local", "MQTT_BROKER_PORT": "8883"}}, {8883}),
        ({"settings": {"TIERWISE_MQTT": "[fd00::1]:1884"}}, {1884}),
        ({"settings": {"TIERWISE_INFLUX": "https://influx.local"}}, {443}),
        ({"settings": {"TIERWISE_OTLP": "http://collector:4318/v1/traces"}}, {4318}),
        ({"delivery": "url", "model_url": "http://host:9000/model.yaml"}, {80, 443, 9000}),
    ],
)
def test_policy_lets_the_service_reach_what_its_settings_name(
    options: Callable[..., DeployOptions], values: Values, ports: set[int]
) -> None:
    objects = kustomize(render(options(**values)).out)
    assert problems(objects) == []
    rules = find(objects, "NetworkPolicy", "inference")["spec"]["egress"]
    assert {port["port"] for rule in rules if "to" not in rule for port in rule["ports"]} - {53} == ports


@pytest.mark.parametrize("settings", [{}, {"MQTT_BROKER_HOST": "edge.local"}], ids=["own", "other"])
def test_broker_of_another_place_replaces_our_own(
    options: Callable[..., DeployOptions], settings: dict[str, str]
) -> None:
    objects = kustomize(render(options(tier="cloud", settings=settings)).out)
    kinds = {item["kind"] for item in objects if item["metadata"]["name"] == "mosquitto"}
    assert kinds == ({"Deployment", "Service", "PersistentVolumeClaim", "NetworkPolicy"} if not settings else set())


@pytest.mark.parametrize("target", ["compose", "k3s"])
def test_what_containers_mount_can_be_read_whatever_the_umask(
    options: Callable[..., DeployOptions], target: str
) -> None:
    before = os.umask(0o077)
    try:
        out = render(options(target=target)).out
    finally:
        os.umask(before)
    mounted = [out / "docker" / "mosquitto", out / "monitoring", out / "model"]
    for path in (entry for folder in mounted for entry in [folder, *folder.rglob("*")]):
        assert path.stat().st_mode & (0o005 if path.is_dir() else 0o004), path
    assert out.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("target", ["compose", "k3s"])
def test_what_cannot_be_rendered_leaves_no_folder(
    options: Callable[..., DeployOptions], tmp_path: Path, large_model: Path, target: str
) -> None:
    wrong: list[Values] = [{"model": tmp_path / "nowhere"}]
    if target == "k3s":
        wrong += [{"model": large_model}, {"settings": {"MQTT_BROKER_PORT": "0"}}]
    for values in wrong:
        with pytest.raises((ModelError, ConfigurationError)):
            render(options(target=target, **values))
        assert not (tmp_path / "out").exists()


def test_too_large_a_model_needs_another_delivery(options: Callable[..., DeployOptions], large_model: Path) -> None:
    with pytest.raises(ConfigurationError, match="--delivery pvc"):
        render(options(model=large_model))
    assert render(options(model=large_model, delivery="pvc")).model == "large"


def test_missing_model_is_named(options: Callable[..., DeployOptions], tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="no model at"):
        render(options(model=tmp_path / "nowhere"))


def test_changed_artifact_is_not_deployed(
    options: Callable[..., DeployOptions], anomaly_detector: Path, tmp_path: Path
) -> None:
    changed = tmp_path / "changed"
    shutil.copytree(anomaly_detector, changed)
    (changed / "anomaly-detector.onnx").write_bytes(b"other")
    with pytest.raises(ModelIntegrityError):
        render(options(model=changed))


def test_model_without_an_artifact_for_the_tier_is_refused(
    options: Callable[..., DeployOptions], anomaly_detector: Path, tmp_path: Path
) -> None:
    edge_only = tmp_path / "edge-only"
    fetch_model(str(anomaly_detector), edge_only)
    card = (edge_only / "model.yaml").read_text()
    (edge_only / "model.yaml").write_text(card.replace("torch", "litert"))
    with pytest.raises(ModelError, match="no artifact for torch"):
        render(options(model=edge_only, tier="cloud"))


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("anomaly-detector.onnx", {"tier": "cloud"}, r"the cloud tier runs \.pt or \.pth or \.pt2 or \.safetensors"),
        ("anomaly-detector.pt2", {}, r"the edge tier runs \.onnx or \.tflite"),
        ("anomaly-detector.pt2", {"target": "compose"}, r"the edge tier runs \.onnx or \.tflite"),
    ],
)
def test_bare_artifact_that_the_tier_cannot_run_is_refused(
    options: Callable[..., DeployOptions], anomaly_detector: Path, name: str, values: Values, message: str
) -> None:
    with pytest.raises(ModelFileError, match=message):
        render(options(model=anomaly_detector / name, **values))
    assert not options().out.exists()


@pytest.mark.parametrize("target", ["k3s", "compose"])
def test_card_that_says_something_else_than_its_file_is_not_deployed(
    options: Callable[..., DeployOptions], anomaly_detector: Path, tmp_path: Path, target: str
) -> None:
    wrong = shutil.copytree(anomaly_detector, tmp_path / "wrong")
    card = (wrong / "model.yaml").read_text()
    (wrong / "model.yaml").write_text(card.replace("[null, 32]", "[null, 33]"))
    with pytest.raises(ModelFileError, match=r"model\.yaml:\d+: signature\.inputs\[0\]\.shape: anomaly-detector"):
        render(options(model=wrong, target=target))


def test_folder_that_holds_something_else_is_left_alone(options: Callable[..., DeployOptions], tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.txt").write_text("years of work")
    with pytest.raises(ConfigurationError, match="something else"):
        render(options())
    assert [path.name for path in out.iterdir()] == ["thesis.txt"]


def test_command_prints_how_to_apply_it(anomaly_detector: Path, tmp_path: Path) -> None:
    arguments = [str(anomaly_detector), "--target", "minimal", "--out", str(tmp_path / "out"), "--json"]
    arguments += ["--model-url", "http://models.local/model.yaml", "--set", "TIERWISE_QUEUE_SIZE=9"]
    result = CliRunner().invoke(deploy, arguments, catch_exceptions=False)
    printed = json.loads(result.stdout)
    assert printed["model"] == "anomaly-detector"
    assert printed["apply"] == f"kubectl apply --server-side -k {tmp_path / 'out'}"
    assert printed["build"] == ["docker build -f docker/Dockerfile --target edge -t tierwise:edge ."]
    assert printed["load"] == [], "only K3s has images of its own"
    plain = CliRunner().invoke(deploy, [*arguments[:-5], "--set", "nonsense"])
    assert isinstance(plain.exception, ConfigurationError)


def test_command_says_how_an_image_gets_into_k3s(anomaly_detector: Path, tmp_path: Path) -> None:
    arguments = [str(anomaly_detector), "--out", str(tmp_path / "out"), "--tier", "cloud"]
    lines = CliRunner().invoke(deploy, arguments, catch_exceptions=False).stdout.splitlines()
    assert [line.partition(":")[0] for line in lines[1:4]] == ["Build it", "Load it", "Apply it"]
    assert "docker save tierwise:cloud | sudo k3s ctr images import -" in lines[2]
    from_registry = CliRunner().invoke(deploy, [*arguments, "--image", "registry.local/tierwise:1"]).stdout
    assert "Load it" not in from_registry, "the cluster pulls it"


def test_command_says_what_compose_leaves_out(anomaly_detector: Path, tmp_path: Path) -> None:
    model = anomaly_detector / "anomaly-detector.onnx"
    arguments = [str(model), "--target", "compose", "--out", str(tmp_path / "out")]
    lines = CliRunner().invoke(deploy, arguments, catch_exceptions=False).stdout.splitlines()
    assert lines[1] == "Left out:  cloud: the model has no file for PyTorch"
    assert [line.split()[0] for line in lines[2:]] == ["Build", "Apply"]
    whole = CliRunner().invoke(deploy, [str(anomaly_detector), *arguments[1:]], catch_exceptions=False).stdout
    assert "Left out" not in whole
    assert whole.count("Build it") == 2


def test_a_setting_that_the_service_would_refuse_is_refused_here(anomaly_detector: Path, tmp_path: Path) -> None:
    options = DeployOptions(
        model=anomaly_detector, out=tmp_path / "out", settings={"TIERWISE_LOG_FORMAT": "xml", "TIERWISE_THREADS": "two"}
    )
    with pytest.raises(
        ConfigurationError, match=r"TIERWISE_LOG_FORMAT: expected auto.*TIERWISE_THREADS: expected a wh"
    ):
        render(options)
    assert not (tmp_path / "out").exists()
