"""Passwords of a deployment: made once, kept when it is rendered again."""

from __future__ import annotations

import os
import secrets
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def keep_or_make(file: Path, *, prefix: str = "", mode: int = 0o600) -> None:
    """Writes ``prefix`` and a random password to ``file`` unless it is there.

    ``mode`` is wider than the owner only where the file is mounted into a container with another user; the folder of
    the deployment is closed to others.
    """
    if file.exists():
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "w", encoding="utf-8") as output:
        os.fchmod(output.fileno(), mode)
        output.write(f"{prefix}{secrets.token_urlsafe(24)}\n")
