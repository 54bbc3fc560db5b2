"""``tierwise deploy``: manifests for a model, ready to apply."""

from __future__ import annotations

from pathlib import Path

import click

from tierwise.core.errors import ConfigurationError


@click.command(epilog="Example:  tierwise deploy models/digits --target k3s --replicas 2 --out deployment")
@click.argument("model", type=click.Path(path_type=Path))
@click.option(
    "--target",
    default="k3s",
    show_default=True,
    metavar="[k3s|dev|minimal|compose]",
    help="k3s, dev or minimal (Kubernetes), or compose (Docker).",
)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder to write; one of ours is replaced.")
@click.option(
    "--tier", default="edge", show_default=True, metavar="[edge|cloud]", help="edge or cloud; compose has both."
)
@click.option("--image", help="Image of the service as NAME:VERSION; tierwise:TIER by default.")
@click.option("--replicas", type=int, help="Number of replicas; the least number where they are scaled.")
@click.option("--max-replicas", type=int, help="Largest number of replicas (k3s).")
@click.option("--namespace", default="tierwise", show_default=True, help="Namespace of all objects.")
@click.option(
    "--delivery",
    default="configmap",
    show_default=True,
    metavar="[configmap|pvc|url]",
    help="How pods get the model: configmap, pvc or url.",
)
@click.option("--model-url", help="Where pods download the model (an artifact or model.yaml); implies --delivery url.")
@click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help="A setting of the service; repeatable.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
def deploy(
    model: Path,
    *,
    target: str,
    out: Path,
    tier: str,
    image: str | None,
    replicas: int | None,
    max_replicas: int | None,
    namespace: str,
    delivery: str,
    model_url: str | None,
    settings: tuple[str, ...],
    as_json: bool,
) -> None:
    """Write what runs MODEL (a model folder or an artifact) on Kubernetes or Docker into a folder.

    Passwords are made new and stay in that folder; rendering again keeps them.
    """
    import msgspec  # noqa: PLC0415  heavy imports belong to the command

    from tierwise.deploy.options import DeployOptions  # noqa: PLC0415
    from tierwise.deploy.render import render  # noqa: PLC0415

    options = DeployOptions(
        model=model,
        out=out,
        target=target,
        tier=tier,
        image=image,
        replicas=replicas,
        max_replicas=max_replicas,
        namespace=namespace,
        delivery="url" if model_url and delivery == "configmap" else delivery,
        model_url=model_url,
        settings=dict(_pair(text) for text in settings),
    )
    rendered = render(options)
    if as_json:
        click.echo(msgspec.json.encode(rendered, enc_hook=str))
        return
    click.echo(f"{rendered.model} {rendered.model_version} for {rendered.target} in {rendered.out}")
    for name, why in rendered.left_out.items():
        click.echo(f"Left out:  {name}: {why}")
    for command in rendered.build:
        click.echo(f"Build it:  {command}    (in a checkout, once)")
    for command in rendered.load:
        click.echo(f"Load it:   {command}    (K3s does not see Docker's images; another node: | ssh NODE sudo …)")
    click.echo(f"Apply it:  {rendered.apply}")
    if rendered.target != "compose":
        click.echo(f"Or all of it at once, on the cluster's master:  scripts/deploy.sh --from {rendered.out}")


def _pair(text: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not separator or not name:
        raise ConfigurationError(f"--set: expected NAME=VALUE, got {text!r}")
    return name, value
