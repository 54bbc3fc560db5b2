"""The trees ``docker``, ``kubernetes`` and ``monitoring``: the one source of every manifest, also in a wheel."""

from __future__ import annotations

import shutil
from pathlib import Path

from tierwise.core.errors import DependencyError

_INSTALLED = Path(__file__).with_name("trees")
_CHECKOUT = Path(__file__).parents[3]
_NOT_RENDERED = shutil.ignore_patterns("__pycache__", "mqtt-password", "grafana-password", ".env", "*.in")


def tree_root() -> Path:
    """The folder that holds the trees. Raises ``DependencyError`` where neither place has them."""
    for root in (_INSTALLED, _CHECKOUT):
        if (root / "docker" / "compose.yaml").is_file() and (root / "kubernetes" / "base").is_dir():
            return root
    raise DependencyError("this installation of tierwise lacks its manifests: install it from a wheel or a checkout")


def copy_tree(part: str, out: Path) -> None:
    """Copies one part (``kubernetes``, ``docker/mosquitto``, a file) to the same place below ``out``, replacing it."""
    source, target = tree_root() / part, out / part
    if source.is_dir():
        if target.exists():
            shutil.rmtree(target)
        shutil.copytree(source, target, ignore=_NOT_RENDERED)
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
    _open_for_reading(target)


def _open_for_reading(path: Path) -> None:
    """Containers mount this and run as other users, whatever the umask was here; the folder above is closed."""
    for entry in [path, *path.rglob("*")]:
        entry.chmod(0o755 if entry.is_dir() or entry.stat().st_mode & 0o100 else 0o644)
