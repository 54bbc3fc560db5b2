"""The compose file for one model: ``docker compose -f OUT/docker/compose.yaml up`` deploys it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tierwise.core.errors import ModelError
from tierwise.deploy.model_files import copy_files, find_model_files
from tierwise.deploy.secret_files import keep_or_make
from tierwise.deploy.trees import copy_tree

if TYPE_CHECKING:
    from pathlib import Path

    from tierwise.deploy.model_files import ModelFiles
    from tierwise.deploy.options import DeployOptions

PARTS = ("docker/compose.yaml", "docker/mosquitto", "docker/prometheus", "monitoring")


def render_compose(options: DeployOptions, model: ModelFiles) -> None:
    """Writes the compose file, what it mounts, the model, passwords and ``.env`` into ``options.out``.

    The cloud service is left out (``CLOUD_REPLICAS=0``) where ``model`` has no artifact for it.
    """
    for part in PARTS:
        copy_tree(part, options.out)
    copy_files(model, options.out / "model")
    docker = options.out / "docker"
    for name in ("mqtt-password", "grafana-password"):
        keep_or_make(docker / name, mode=0o444)
    values = {
        "COMPOSE_PROJECT_NAME": "tierwise",
        "MODEL_DIR": "../model",
        "MODEL_PATH": model.path_in_container,
        "CLOUD_REPLICAS": "1" if "cloud" in model.tiers else "0",
    }
    (docker / ".env").write_text("".join(f"{name}={value}\n" for name, value in values.items()), encoding="utf-8")
    settings = "".join(f"{name}={value}\n" for name, value in options.settings.items())
    (docker / "service.env").write_text(settings, encoding="utf-8")


def find_compose_model(path: Path) -> ModelFiles:
    """The model for the edge, and for the cloud where it has something for PyTorch. Raises ``ModelError``."""
    edge = find_model_files(path, ("edge",))
    if not edge.has_card:
        return edge
    try:
        return find_model_files(path, ("edge", "cloud"))
    except ModelError:
        return edge
