"""What one object says of another: that it is there, in the same namespace, with that key, that port, those labels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

Object = dict[str, Any]

CLUSTER_WIDE = {"Namespace"}
KEYED = {"ConfigMap": ("data", "binaryData"), "Secret": ("data", "stringData")}


def pod_template(item: Object) -> Object | None:
    """The pod template of a workload."""
    template: Object | None = item.get("spec", {}).get("template") if isinstance(item.get("spec"), dict) else None
    return template


def containers(pod: Object) -> list[Object]:
    """Init containers and containers."""
    return [*pod.get("initContainers", []), *pod["containers"]]


def references(objects: Sequence[Object], given: set[tuple[str, str]]) -> Iterator[str]:
    """All that does not fit together. ``given`` are (kind, name) that exist besides, with unknown content."""
    there = {(item["kind"], item["metadata"]["name"]) for item in objects} | given
    keys = {(item["kind"], item["metadata"]["name"]): _keys(item) for item in objects if item["kind"] in KEYED}
    pods = [template for item in objects if (template := pod_template(item))]
    for item in objects:
        where = f"{item['kind']}/{item['metadata']['name']}"
        for kind, name in _named(item):
            if (kind, name) not in there:
                yield f"{where}: names {kind}/{name}, which is not there"
        for kind, name, key in _named_keys(item):
            if key not in keys.get((kind, name), {key}):
                yield f"{where}: {kind}/{name} has no key {key!r}"
        yield from (f"{where}: {what}" for what in _selects(item, pods))
        if item["kind"] == "NetworkPolicy":
            yield from (f"{where}: {what}" for what in _peers(item, pods))
        if item["kind"] == "Ingress":
            yield from (f"{where}: {what}" for what in _ingress_ports(item, objects))
        if item["kind"] == "PodDisruptionBudget":
            yield from (f"{where}: {what}" for what in _budget(item, objects))
    yield from _namespaces(objects)


def _keys(item: Object) -> set[str]:
    return {key for field in KEYED[item["kind"]] for key in item.get(field, {})}


def _namespaces(objects: Sequence[Object]) -> Iterator[str]:
    [home] = [item["metadata"]["name"] for item in objects if item["kind"] == "Namespace"]
    for item in objects:
        where = f"{item['kind']}/{item['metadata']['name']}"
        if item["kind"] not in CLUSTER_WIDE and item["metadata"].get("namespace") != home:
            yield f"{where}: is in namespace {item['metadata'].get('namespace')}, not {home}"
        for subject in item.get("subjects", []):
            if subject.get("namespace") != home:
                yield f"{where}: its subject is in namespace {subject.get('namespace')}, not {home}"


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
            for field, kind in (("configMapRef", "ConfigMap"), ("secretRef", "Secret")):
                if field in source:
                    yield kind, source[field]["name"]
        yield from ((kind, name) for kind, name, _ in _variable_keys(container))


def _named_keys(item: Object) -> Iterator[tuple[str, str, str]]:
    """Kind and name of a ConfigMap or Secret, and a key that ``item`` expects in it."""
    template = pod_template(item)
    if template is None:
        return
    for volume in template["spec"].get("volumes", []):
        for kind, field, name in (("ConfigMap", "configMap", "name"), ("Secret", "secret", "secretName")):
            source = volume.get(field, {})
            yield from ((kind, source[name], entry["key"]) for entry in source.get("items", []))
    for container in containers(template["spec"]):
        yield from _variable_keys(container)


def _variable_keys(container: Object) -> Iterator[tuple[str, str, str]]:
    for variable in container.get("env", []):
        for field, kind in (("configMapKeyRef", "ConfigMap"), ("secretKeyRef", "Secret")):
            if source := variable.get("valueFrom", {}).get(field):
                yield kind, source["name"], source["key"]


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
    selected = _with_labels(selector, pods)
    if not selected:
        yield f"selects {selector}, and no pod has these labels"
    ports = _port_names(selected)
    rules = item["spec"].get("ports", []) if item["kind"] == "Service" else []
    rules += [port for rule in item["spec"].get("ingress", []) for port in rule.get("ports", [])]
    for rule in rules:
        port = rule.get("targetPort", rule["port"])
        if isinstance(port, str) and port not in ports:
            yield f"port {port!r}: the selected pods have {ports}"


def _with_labels(selector: Object, pods: Sequence[Object]) -> list[Object]:
    return [pod for pod in pods if selector.items() <= pod["metadata"]["labels"].items()]


def _port_names(pods: Sequence[Object]) -> set[str | None]:
    return {port.get("name") for pod in pods for c in containers(pod["spec"]) for port in c.get("ports", [])}


def _peers(item: Object, pods: Sequence[Object]) -> Iterator[str]:
    """Pods that a policy lets in or out to and that are not there, or that lack the port."""
    rules = [("from", rule) for rule in item["spec"].get("ingress", [])]
    rules += [("to", rule) for rule in item["spec"].get("egress", [])]
    for direction, rule in rules:
        for peer in rule.get(direction, []):
            selected = _with_labels(peer["podSelector"]["matchLabels"], pods)
            if not selected:
                yield f"{direction} {peer}: no pod has these labels"
            named = [port["port"] for port in rule.get("ports", []) if isinstance(port["port"], str)]
            missing = set(named) - _port_names(selected)
            if direction == "to" and missing:
                yield f"to {peer}: these pods have no port {sorted(missing)}"
        if direction == "to" and "to" not in rule:
            yield from (
                f"to anywhere: port {port['port']!r} must be a number, as no pod is named"
                for port in rule.get("ports", [])
                if isinstance(port["port"], str)
            )


def _budget(item: Object, objects: Sequence[Object]) -> Iterator[str]:
    """A budget that leaves no pod to be moved: no node of these pods could ever be drained."""
    spec = item["spec"]
    least = {
        o["spec"]["scaleTargetRef"]["name"]: o["spec"]["minReplicas"]
        for o in objects
        if o["kind"] == "HorizontalPodAutoscaler"
    }
    for workload in objects:
        template = pod_template(workload)
        if template is None or not _with_labels(spec["selector"]["matchLabels"], [template]):
            continue
        replicas = least.get(workload["metadata"]["name"], workload["spec"].get("replicas", 1))
        if spec.get("minAvailable", 0) >= replicas or spec.get("maxUnavailable") == 0:
            yield f"lets none of {replicas} replicas go, so no node can be drained"


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
