"""A kustomization for one model on top of the trees: ``kubectl apply -k OUT`` deploys it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tierwise.core.errors import ConfigurationError
from tierwise.deploy.egress import OWN_BROKER, broker, egress_ports
from tierwise.deploy.model_files import copy_files
from tierwise.deploy.options import MAX_CONFIGMAP_BYTES
from tierwise.deploy.secret_files import keep_or_make
from tierwise.deploy.trees import copy_tree
from tierwise.messaging.topics import CLOUD_REQUEST_TOPIC
from tierwise.models.yaml import dump_yaml

if TYPE_CHECKING:
    from tierwise.deploy.model_files import ModelFiles
    from tierwise.deploy.options import DeployOptions

PARTS = ("kubernetes", "monitoring", "docker/mosquitto")
IMAGE = "tierwise"
MODEL_MAP = "tierwise-model"
SETTINGS_MAP = "tierwise-settings"
SETTINGS_FILE = "settings.env"
SECRETS = ("mqtt", "grafana")
BROKER_OBJECTS = {
    "Deployment": "apps/v1",
    "Service": "v1",
    "PersistentVolumeClaim": "v1",
    "NetworkPolicy": "networking.k8s.io/v1",
}
EGRESS_TO_BROKER = 0
"""Place of the rule in the network policy ``inference``."""
CLOUD_MEMORY = {"requests": "512Mi", "limits": "1536Mi"}
"""PyTorch alone takes a quarter of a gigabyte."""


def render_kubernetes(options: DeployOptions, model: ModelFiles, content: dict[str, Any]) -> None:
    """Writes the trees, the model, passwords, settings and ``kustomization.yaml`` (``content``)."""
    for part in PARTS:
        copy_tree(part, options.out)
    copy_files(model, options.out / "model")
    if options.target != "dev":
        keep_or_make(options.out / "mqtt.env", prefix="username=tierwise\npassword=")
        keep_or_make(options.out / "grafana.env", prefix="password=")
    # Not among the literals of kustomization.yaml: there, YAML would read some values as something else.
    settings = "".join(f"{name}={value}\n" for name, value in _settings(options, model).items())
    (options.out / SETTINGS_FILE).write_text(settings, encoding="utf-8")
    dump_yaml(content, options.out / "kustomization.yaml")


def kustomization(options: DeployOptions, model: ModelFiles) -> dict[str, Any]:
    """The content of ``kustomization.yaml``.

    Raises ``ConfigurationError`` where the model is too large for the way that it shall be delivered, or a setting
    holds an address that is none.
    """
    if options.delivery == "configmap" and model.total_bytes > MAX_CONFIGMAP_BYTES:
        raise ConfigurationError(
            f"the model has {model.total_bytes} bytes, a ConfigMap takes {MAX_CONFIGMAP_BYTES}: "
            f"--delivery pvc, or --delivery url --model-url URL"
        )
    content: dict[str, Any] = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "namespace": options.namespace,
        "resources": [f"kubernetes/overlays/{options.target}"],
    }
    if options.delivery in {"pvc", "url"}:
        content["components"] = [f"kubernetes/components/model-{options.delivery}"]
    content["configMapGenerator"] = _config_maps(options, model)
    if options.target != "dev":
        content["secretGenerator"] = [{"name": f"tierwise-{name}", "envs": [f"{name}.env"]} for name in SECRETS]
    name, separator, tag = _image(options)
    content["images"] = [{"name": IMAGE, "newName": name, ("digest" if separator == "@" else "newTag"): tag}]
    if options.replicas is not None and options.target != "k3s":
        content["replicas"] = [{"name": "inference", "count": options.replicas}]
    patches = [*_scaling_patches(options), *_cloud_patches(options), *_egress_patches(options)]
    if patches:
        content["patches"] = patches
    return content


def _image(options: DeployOptions) -> tuple[str, str, str]:
    image = options.image or f"{IMAGE}:{options.tier}"
    return image.partition("@") if "@" in image else image.rpartition(":")


def _settings(options: DeployOptions, model: ModelFiles) -> dict[str, str]:
    values = {
        "MODEL_PATH": model.path_in_container,
        "MODEL_SOURCE": options.model_url or "/source",
        "MODEL_SHA256": model.sha256,
        "TIERWISE_TIER": options.tier,
    }
    if options.tier == "cloud":
        # Behind an edge gateway; on the edge's topic both would answer.
        values |= {"TIERWISE_REQUEST_TOPIC": CLOUD_REQUEST_TOPIC, "TIERWISE_SHARE_GROUP": "tierwise-cloud"}
    return values | options.settings


def _config_maps(options: DeployOptions, model: ModelFiles) -> list[dict[str, Any]]:
    maps: list[dict[str, Any]] = [{"name": SETTINGS_MAP, "behavior": "merge", "envs": [SETTINGS_FILE]}]
    if options.delivery == "configmap":
        maps.append({"name": MODEL_MAP, "files": [f"model/{file.name}" for file in model.files]})
    return maps


def _scaling_patches(options: DeployOptions) -> list[dict[str, Any]]:
    if options.target != "k3s" or options.replicas is None is options.max_replicas:
        return []
    numbers = {"minReplicas": options.replicas, "maxReplicas": options.max_replicas}
    if options.replicas is not None and options.max_replicas is None:
        numbers["maxReplicas"] = max(options.replicas, 6)
    if options.max_replicas is not None and options.replicas is None:
        numbers["minReplicas"] = min(options.max_replicas, 2)
    return [_patch("HorizontalPodAutoscaler", [(f"/spec/{name}", value) for name, value in numbers.items()])]


def _cloud_patches(options: DeployOptions) -> list[dict[str, Any]]:
    if options.tier != "cloud":
        return []
    path = "/spec/template/spec/containers/0/resources"
    return [_patch("Deployment", [(f"{path}/{name}/memory", value) for name, value in CLOUD_MEMORY.items()])]


def _egress_patches(options: DeployOptions) -> list[dict[str, Any]]:
    patches = []
    if ports := egress_ports(options):
        rules = ", ".join(f"{{port: {port}, protocol: TCP}}" for port in ports)
        operation = f"- {{op: add, path: /spec/egress/-, value: {{ports: [{rules}]}}}}\n"
        patches.append({"target": {"kind": "NetworkPolicy", "name": "inference"}, "patch": operation})
    chosen = broker(options)
    if chosen is None or chosen.host != OWN_BROKER.host:
        # Nobody would use a second broker, and its port of the nodes may be taken by the first.
        patches += [_without("mosquitto", kind, api) for kind, api in BROKER_OBJECTS.items()]
        to_broker = f"- {{op: remove, path: /spec/egress/{EGRESS_TO_BROKER}}}\n"
        patches.append({"target": {"kind": "NetworkPolicy", "name": "inference"}, "patch": to_broker})
    return patches


def _without(name: str, kind: str, api: str) -> dict[str, Any]:
    text = f"$patch: delete\napiVersion: {api}\nkind: {kind}\nmetadata: {{name: {name}}}\n"
    return {"target": {"kind": kind, "name": name}, "patch": text}


def _patch(kind: str, values: list[tuple[str, object]]) -> dict[str, Any]:
    operations = "".join(f"- {{op: replace, path: {path}, value: {value}}}\n" for path, value in values)
    return {"target": {"kind": kind, "name": "inference"}, "patch": operations}
