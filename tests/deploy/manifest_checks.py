"""What an API server refuses, or what can never work, and no JSON schema of Kubernetes tells.

The schemas catch unknown fields and wrong types (``kubernetes-validate``). They know no enums, no ranges, and nothing
of what one object says about another.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

Object = dict[str, Any]

ENUMS: dict[str, set[str]] = {
    "accessModes": {"ReadWriteOnce", "ReadOnlyMany", "ReadWriteMany", "ReadWriteOncePod"},
    "effect": {"NoSchedule", "PreferNoSchedule", "NoExecute"},
    "imagePullPolicy": {"Always", "IfNotPresent", "Never"},
    "operator": {"In", "NotIn", "Exists", "DoesNotExist", "Equal", "Gt", "Lt"},
    "pathType": {"Exact", "Prefix", "ImplementationSpecific"},
    "policyTypes": {"Ingress", "Egress"},
    "protocol": {"TCP", "UDP", "SCTP"},
    "restartPolicy": {"Always", "OnFailure", "Never"},
    "verbs": {"get", "list", "watch", "create", "update", "patch", "delete", "deletecollection", "*"},
    "whenUnsatisfiable": {"DoNotSchedule", "ScheduleAnyway"},
}
"""Field name → what it may say, wherever the field stands."""

TYPES: dict[str, set[str]] = {
    "Service.spec": {"ClusterIP", "NodePort", "LoadBalancer", "ExternalName"},
    "Deployment.spec.strategy": {"Recreate", "RollingUpdate"},
    "seccompProfile": {"RuntimeDefault", "Localhost", "Unconfined"},
    "metrics": {"Resource", "Pods", "Object", "External", "ContainerResource"},
    "target": {"Utilization", "Value", "AverageValue"},
}
"""What ``type`` may say in a field, or on a path."""

PORT_FIELDS = {"containerPort", "hostPort", "nodePort", "port", "targetPort"}
DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
QUANTITY = re.compile(r"(\d+(?:\.\d+)?)(m|k|M|G|T|Ki|Mi|Gi|Ti)?")
FACTORS = {"m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}


def problems(objects: Sequence[Object], *, given: Sequence[tuple[str, str]] = ()) -> list[str]:
    """All that is wrong. ``given`` are (kind, name) that exist in the cluster beside these objects."""
    found = list(_repeated(objects))
    for item in objects:
        where = f"{item['kind']}/{item['metadata']['name']}"
        found += [f"{where}: {what}" for what in _values(item, item["kind"])]
        found += [f"{where}: {what}" for what in _names(item)]
        if template := pod_template(item):
            found += [f"{where}: {what}" for what in _pod(template["spec"])]
            found += [f"{where}: {what}" for what in _selected_by_own(item, template)]
    return found + list(_references(objects, set(given)))


def pod_template(item: Object) -> Object | None:
    """The pod template of a workload."""
    template: Object | None = item.get("spec", {}).get("template") if isinstance(item.get("spec"), dict) else None
    return template


def containers(pod: Object) -> list[Object]:
    """Init containers and containers."""
    return [*pod.get("initContainers", []), *pod["containers"]]


def _repeated(objects: Sequence[Object]) -> Iterator[str]:
    seen: set[tuple[str, ...]] = set()
    for item in objects:
        key = (item["apiVersion"].partition("/")[0], item["kind"], item["metadata"]["name"])
        if key in seen:
            yield f"{item['kind']}/{item['metadata']['name']} is there twice"
        seen.add(key)


def _values(value: Any, path: str) -> Iterator[str]:
    if isinstance(value, list):
        for index, entry in enumerate(value):
            yield from _values(entry, f"{path}[{index}]")
    elif isinstance(value, dict):
        for name, entry in value.items():
            yield from _value(name, entry, path)
            yield from _values(entry, f"{path}.{name}")


def _value(name: str, value: Any, path: str) -> Iterator[str]:
    parent = re.sub(r"\[\d+\]$", "", path).rpartition(".")[2]
    allowed = ENUMS.get(name) or (TYPES.get(path) or TYPES.get(parent) if name == "type" else None)
    if allowed:
        for word in value if isinstance(value, list) else [value]:
            if isinstance(word, str) and word not in allowed:
                yield f"{path}.{name}: {word!r} is none of {sorted(allowed)}"
    if name in PORT_FIELDS and isinstance(value, int) and not 1 <= value <= 65535:
        yield f"{path}.{name}: {value} is no port"
    if (
        name in PORT_FIELDS
        and isinstance(value, str)
        and not re.fullmatch(r"(?=.{1,15}$)[a-z0-9-]*[a-z][a-z0-9-]*", value)
    ):
        yield f"{path}.{name}: {value!r} is no name of a port"
    if name in {"labels", "matchLabels"}:
        yield from (
            f"{path}.{name}: {word!r} is no label value" for word in value.values() if not LABEL_VALUE.fullmatch(word)
        )


def _names(item: Object) -> Iterator[str]:
    name = item["metadata"]["name"]
    if not DNS_LABEL.fullmatch(name):
        yield f"metadata.name: {name!r} is no DNS label"


def quantity(text: object) -> float:
    """``500m`` → 0.5, ``1Gi`` → 2³⁰. Raises ``ValueError``."""
    match = QUANTITY.fullmatch(str(text))
    if match is None:
        raise ValueError(f"{text!r} is no quantity")
    return float(match[1]) * FACTORS.get(match[2] or "", 1.0)


def _pod(pod: Object) -> Iterator[str]:
    volumes = [volume["name"] for volume in pod.get("volumes", [])]
    for container in containers(pod):
        name = container["name"]
        ports = {port.get("name") for port in container.get("ports", [])}
        for kind in ("livenessProbe", "readinessProbe", "startupProbe"):
            probe = container.get(kind, {})
            port = (probe.get("httpGet") or probe.get("tcpSocket") or {}).get("port")
            if isinstance(port, str) and port not in ports:
                yield f"{name}: {kind} asks port {port!r}, the container has {ports}"
        yield from (
            f"{name}: mounts {m['name']!r}, no such volume"
            for m in container.get("volumeMounts", [])
            if m["name"] not in volumes
        )
        paths = [mount["mountPath"] for mount in container.get("volumeMounts", [])]
        if len(paths) != len(set(paths)):
            yield f"{name}: two mounts at one path"
        yield from _resources(name, container.get("resources", {}))
        if "@" not in container["image"] and not re.search(r":[\w][\w.-]*$", container["image"]):
            yield f"{name}: image {container['image']!r} has no version"


def _resources(name: str, resources: Object) -> Iterator[str]:
    for what, limit in resources.get("limits", {}).items():
        try:
            if quantity(resources["requests"][what]) > quantity(limit):
                yield f"{name}: requests more {what} than its limit"
        except (KeyError, ValueError) as error:
            yield f"{name}: {what}: {error}"


def _selected_by_own(item: Object, template: Object) -> Iterator[str]:
    selector, labels = item["spec"]["selector"]["matchLabels"], template["metadata"]["labels"]
    if not selector.items() <= labels.items():
        yield f"its selector {selector} does not select its own pods {labels}"


def _references(objects: Sequence[Object], given: set[tuple[str, str]]) -> Iterator[str]:
    there = {(item["kind"], item["metadata"]["name"]) for item in objects} | given
    pods = [template for item in objects if (template := pod_template(item))]
    for item in objects:
        where = f"{item['kind']}/{item['metadata']['name']}"
        for kind, name in _named(item):
            if (kind, name) not in there:
                yield f"{where}: names {kind}/{name}, which is not there"
        yield from (f"{where}: {what}" for what in _selects(item, pods))
        if item["kind"] == "Ingress":
            yield from (f"{where}: {what}" for what in _ingress_ports(item, objects))


def _named(item: Object) -> Iterator[tuple[str, str]]:
    """Objects that ``item`` names."""
    if template := pod_template(item):
        yield from _named_by_pod(template["spec"])
    if item["kind"] == "HorizontalPodAutoscaler":
        target = item["spec"]["scaleTargetRef"]
        yield target["kind"], target["name"]
    if item["kind"] == "RoleBinding":
        yield item["roleRef"]["kind"], item["roleRef"]["name"]
        yield from ((subject["kind"], subject["name"]) for subject in item["subjects"])


def _named_by_pod(pod: Object) -> Iterator[tuple[str, str]]:
    if account := pod.get("serviceAccountName"):
        yield "ServiceAccount", account
    for volume in pod.get("volumes", []):
        if "configMap" in volume:
            yield "ConfigMap", volume["configMap"]["name"]
        if "secret" in volume:
            yield "Secret", volume["secret"]["secretName"]
        if "persistentVolumeClaim" in volume:
            yield "PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"]
    for container in containers(pod):
        for source in container.get("envFrom", []):
            yield "ConfigMap", source["configMapRef"]["name"]
        for variable in container.get("env", []):
            if secret := variable.get("valueFrom", {}).get("secretKeyRef"):
                yield "Secret", secret["name"]


def _selector(item: Object) -> Object | None:
    spec = item.get("spec", {})
    if item["kind"] == "Service":
        return spec.get("selector")  # type: ignore[no-any-return]  # a tree of JSON values
    if item["kind"] == "PodDisruptionBudget":
        return spec["selector"]["matchLabels"]  # type: ignore[no-any-return]  # a tree of JSON values
    if item["kind"] == "NetworkPolicy":
        return spec["podSelector"].get("matchLabels")  # type: ignore[no-any-return]  # a tree of JSON values
    return None


def _selects(item: Object, pods: Sequence[Object]) -> Iterator[str]:
    """A selector that selects no pod of these objects, or a port that the selected pods do not have."""
    selector = _selector(item)
    if not selector:
        return
    selected = [pod for pod in pods if selector.items() <= pod["metadata"]["labels"].items()]
    if not selected:
        yield f"selects {selector}, and no pod has these labels"
    ports = {port.get("name") for pod in selected for c in containers(pod["spec"]) for port in c.get("ports", [])}
    rules = item["spec"].get("ports", []) if item["kind"] == "Service" else []
    rules += [port for rule in item["spec"].get("ingress", []) for port in rule.get("ports", [])]
    for rule in rules:
        port = rule.get("targetPort", rule["port"])
        if isinstance(port, str) and port not in ports:
            yield f"port {port!r}: the selected pods have {ports}"


def _ingress_ports(item: Object, objects: Sequence[Object]) -> Iterator[str]:
    services = {
        o["metadata"]["name"]: {p.get("name") for p in o["spec"]["ports"]} for o in objects if o["kind"] == "Service"
    }
    for rule in item["spec"]["rules"]:
        for path in rule["http"]["paths"]:
            service = path["backend"]["service"]
            if service["name"] not in services:
                yield f"{path['path']}: no Service {service['name']}"
            elif service["port"].get("name") not in services[service["name"]]:
                yield f"{path['path']}: Service {service['name']} has no port {service['port']}"
