"""What ``kubectl apply -k`` would send."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from tests.components import missing

Object = dict[str, Any]


def find_kubectl() -> str:
    """The one of this environment before the machine's, which may be too old; ``TIERWISE_TEST_KUBECTL`` names one."""
    chosen = os.environ.get("TIERWISE_TEST_KUBECTL", "kubectl")
    found = shutil.which(chosen, path=str(Path(sys.executable).parent)) or shutil.which(chosen)
    return found or missing(f"{chosen} is not installed")


def kustomize(folder: Path) -> list[Object]:
    """The objects of a kustomization."""
    command = [find_kubectl(), "kustomize", str(folder)]
    built = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert built.returncode == 0, built.stderr
    assert built.stderr == ""  # kustomize warns of deprecated fields there
    return list(YAML(typ="safe", pure=True).load_all(built.stdout))


def find(objects: list[Object], kind: str, name: str) -> Object:
    """One object; ``name`` may lack the hash that a generator appends."""
    named = [item for item in objects if item["kind"] == kind]
    exact = [item for item in named if item["metadata"]["name"] == name]
    hashed = [item for item in named if item["metadata"]["name"].rpartition("-")[0] == name]
    [found] = exact or hashed
    return found


def pods(objects: list[Object]) -> Object:
    """The pod of the service."""
    spec: Object = find(objects, "Deployment", "inference")["spec"]["template"]["spec"]
    return spec
