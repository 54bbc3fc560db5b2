"""From options to a folder that can be applied."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from tierwise.core.errors import ConfigurationError
from tierwise.deploy.compose import find_compose_model, render_compose
from tierwise.deploy.kubernetes import kustomization, render_kubernetes
from tierwise.deploy.model_files import find_model_files
from tierwise.deploy.options import check

if TYPE_CHECKING:
    from pathlib import Path

    from tierwise.deploy.options import DeployOptions

MARK = ".tierwise-deployment"
"""Says that a folder was made here and may be written anew."""


class Rendered(msgspec.Struct, frozen=True):
    """What was written, and the command that puts it to work."""

    out: Path
    target: str
    model: str
    model_version: str
    sha256: str
    apply: str


def render(options: DeployOptions) -> Rendered:
    """Writes a deployment into ``options.out``; a second time replaces it and keeps its passwords.

    Raises ``ConfigurationError`` for options that cannot be meant or a folder that holds something else, ``ModelError``
    for the model.
    """
    check(options)
    if options.target == "compose":
        model = find_compose_model(options.model)
        _prepare(options.out)
        render_compose(options, model)
        apply = f"docker compose -f {options.out / 'docker' / 'compose.yaml'} up --detach"
    else:
        model = find_model_files(options.model, (options.tier,))
        content = kustomization(options, model)
        _prepare(options.out)
        render_kubernetes(options, model, content)
        apply = f"kubectl apply --server-side -k {options.out}"
    return Rendered(options.out, options.target, model.name, model.version, model.sha256, apply)


def _prepare(out: Path) -> None:
    if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not (out / MARK).exists())):
        raise ConfigurationError(f"--out {out}: there is something else; choose a new or empty folder")
    try:
        out.mkdir(parents=True, exist_ok=True)
        out.chmod(0o700)  # passwords are in it
        (out / MARK).touch()
    except OSError as error:
        raise ConfigurationError(f"--out {out}: cannot be written: {error.strerror}") from error
