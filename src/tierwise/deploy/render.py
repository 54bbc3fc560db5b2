"""From options to a folder that can be applied."""

from __future__ import annotations

import shlex
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
    """What was written, and the commands that put it to work.

    ``build`` makes the images it needs, in a checkout; ``load`` brings one of them into a node of K3s, which does not
    see Docker's; ``left_out`` says of each tier that is not in it why.
    """

    out: Path
    target: str
    model: str
    model_version: str
    sha256: str
    build: list[str]
    apply: str
    load: list[str] = []
    left_out: dict[str, str] = {}


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
        apply = shlex.join(["docker", "compose", "-f", str(options.out / "docker" / "compose.yaml"), "up", "--detach"])
        tiers = ["edge", "cloud"] if "cloud" in model.tiers else ["edge"]
    else:
        model = find_model_files(options.model, (options.tier,))
        content = kustomization(options, model)
        _prepare(options.out)
        render_kubernetes(options, model, content)
        apply = shlex.join(["kubectl", "apply", "--server-side", "-k", str(options.out)])
        tiers = [options.tier]
    build = [f"docker build -f docker/Dockerfile --target {tier} -t tierwise:{tier} ." for tier in tiers]
    no_cloud = options.target == "compose" and "cloud" not in tiers
    needs_load = options.target == "k3s" and not options.image
    return Rendered(
        out=options.out,
        target=options.target,
        model=model.name,
        model_version=model.version,
        sha256=model.sha256,
        build=[] if options.image else build,
        apply=apply,
        load=[f"docker save tierwise:{options.tier} | sudo k3s ctr images import -"] if needs_load else [],
        left_out={"cloud": "the model has no file for PyTorch"} if no_cloud else {},
    )


def _prepare(out: Path) -> None:
    if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not (out / MARK).exists())):
        raise ConfigurationError(f"--out {out}: there is something else; choose a new or empty folder")
    try:
        out.mkdir(parents=True, exist_ok=True)
        out.chmod(0o700)  # passwords are in it
        (out / MARK).touch()
    except OSError as error:
        raise ConfigurationError(f"--out {out}: cannot be written: {error.strerror}") from error
