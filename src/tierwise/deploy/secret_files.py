"""Passwords of a deployment: made once, kept when it is rendered again."""

from __future__ import annotations

import os
import secrets
import tempfile
from pathlib import Path


def keep_or_make(file: Path, *, form: str = "{password}\n", mode: int = 0o600) -> None:
    """Writes ``form`` with a random password in it to ``file`` unless that is there.

    The file appears whole or not at all: half a password would be kept for ever. ``mode`` is wider than the owner only
    where the file is mounted into a container with another user; the folder of the deployment is closed to others.
    """
    if file.exists():
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    descriptor, beside = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as output:
            os.fchmod(output.fileno(), mode)
            output.write(form.format(password=secrets.token_urlsafe(24)))
            output.flush()
            os.fsync(output.fileno())
        _place(Path(beside), file)
    finally:
        Path(beside).unlink(missing_ok=True)


def _place(beside: Path, file: Path) -> None:
    """Gives the written file its name, unless somebody who renders at the same time has: one password for both."""
    try:
        os.link(beside, file)
    except OSError:  # a file system without hard links, such as exFAT
        if not file.exists():
            beside.rename(file)
