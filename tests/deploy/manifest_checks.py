"""What an API server refuses, or what can never work, and no JSON schema of Kubernetes tells.

The schemas catch unknown fields and wrong types (``kubernetes-validate``). They know no enums, no ranges, and nothing
of what one object says about another.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from tests.deploy.manifest_references import containers, pod_template, references

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

Object = dict[str, Any]

ENUMS: dict[str, set[str]] = {
    "accessModes": {"ReadWriteOnce", "ReadOnlyMany", "ReadWriteMany", "ReadWriteOncePod"},
    "effect": {"NoSchedule", "PreferNoSchedule", "NoExecute"},
    "imagePullPolicy": {"Always", "IfNotPresent", "Never"},
    "matchExpressions.operator": {"In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"},
    "tolerations.operator": {"Exists", "Equal"},
    "pathType": {"Exact", "Prefix", "ImplementationSpecific"},
    "policyTypes": {"Ingress", "Egress"},
    "protocol": {"TCP", "UDP", "SCTP"},
    "restartPolicy": {"Always", "OnFailure", "Never"},
    "verbs": {"get", "list", "watch", "create", "update", "patch", "delete", "deletecollection", "*"},
    "whenUnsatisfiable": {"DoNotSchedule", "ScheduleAnyway"},
}
"""Field, or field within a field → what it may say, wherever it stands."""

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
    return found + list(references(objects, set(given)))


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
    allowed = (
        ENUMS.get(name)
        or ENUMS.get(f"{parent}.{name}")
        or (TYPES.get(path) or TYPES.get(parent) if name == "type" else None)
    )
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
