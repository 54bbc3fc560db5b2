"""Validation against the schemas of several versions of Kubernetes, unknown fields and unknown kinds being errors."""

from __future__ import annotations

import functools
import json
import tarfile
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.components import need
from tests.deploy.package_index import pip
from tests.integration.engine import CACHE

if TYPE_CHECKING:
    from tests.deploy.kustomize import Object

VERSIONS = ("1.25", "1.28", "1.31", "1.34")
OLDEST = "1.20"


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
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as downloads:
            options = ("--quiet", "--no-deps", "--no-binary", ":all:", "--dest", downloads)
            pip("download", *options, "kubernetes-validate==1.20.0", timeout_s=180)
            [archive] = Path(downloads).iterdir()
            with tarfile.open(archive) as packed:
                wanted = [member for member in packed if f"/v{OLDEST}.0-local-strict/" in member.name]
                packed.extractall(downloads, members=wanted, filter="data")
            # A rename, not a copy from another file system: a killed run leaves nothing that looks whole.
            archive.with_suffix("").with_suffix("").rename(folder)
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
