"""Passwords of a deployment: made once, kept when it is rendered again."""

from __future__ import annotations

import os
import secrets
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def keep_or_make(file: Path, *, form: str = "{password}\n", mode: int = 0o600) -> None:
    """Writes ``form`` with a random password in it to ``file`` unless that is there.

    ``mode`` is wider than the owner only where the file is mounted into a container with another user; the folder of
    the deployment is closed to others.
    """
    if file.exists():
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "w", encoding="utf-8") as output:
        os.fchmod(output.fileno(), mode)
        output.write(form.format(password=secrets.token_urlsafe(24)))
