"""``tierwise model``: create the example models, look into any artifact."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from tierwise.core.tensors import TensorSpec


@click.group
def model() -> None:
    """Create and inspect models."""


@model.command(
    short_help="Train a model; write artifacts, model card and samples.",
    epilog="Example:  tierwise model create anomaly-detector --out models/anomaly-detector",
)
@click.argument("name")
@click.option("--out", type=click.Path(path_type=Path), help="Folder of the model; models/NAME by default.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
def create(name: str, out: Path | None, *, as_json: bool) -> None:
    """Train a model and write its artifacts, its model card and held-out samples.

    NAME is anomaly-detector (bearing vibration) or digits (handwritten digits).
    """
    import msgspec  # noqa: PLC0415 -- heavy imports belong to the command

    from tierwise.models.create import create_model  # noqa: PLC0415
    from tierwise.runtimes import load_runtime  # noqa: PLC0415

    out = out or Path("models") / name
    on_step = None if as_json or not sys.stderr.isatty() else lambda step: click.echo(f"  {step}", err=True)
    card = create_model(name, out, load=load_runtime, on_step=on_step)
    if as_json:
        click.echo(msgspec.json.encode(card))
        return
    click.echo(f"{card.name} {card.version} in {out}")
    for artifact in card.artifacts:
        click.echo(f"  {artifact.file:<24} {artifact.size_bytes:>9,} bytes  sha256 {artifact.sha256[:16]}…")


@model.command(
    short_help="Print the signature of an artifact or a model folder.",
    epilog="Example:  tierwise model inspect models/digits/digits.onnx",
)
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--runtime", help="onnx, litert, torch or tflm; by default the one that fits.")
@click.option("--trust-pickle", is_flag=True, help="Load a pickled PyTorch module, which runs code from the file.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
def inspect(path: Path, runtime: str | None, *, trust_pickle: bool, as_json: bool) -> None:
    """Print the signature of an artifact (.onnx, .tflite, .pt2, .pt, .pth, .safetensors) or a model folder."""
    import msgspec  # noqa: PLC0415 -- heavy imports belong to the command

    from tierwise.models.card import sha256_of  # noqa: PLC0415
    from tierwise.serving.model import find_artifact, load_model  # noqa: PLC0415
    from tierwise.serving.settings import ModelSettings  # noqa: PLC0415

    settings = ModelSettings(path=path, runtime=runtime, trust_pickle=trust_pickle)
    artifact, _ = find_artifact(settings, tier="edge")
    served = load_model(settings, tier="edge")
    served.close()
    signature = served.runtime.signature
    facts: dict[str, Any] = {
        "file": str(artifact),
        "bytes": artifact.stat().st_size,
        "sha256": sha256_of(artifact),
        "runtime": served.runtime.name,
        "model": served.name,
        "model_version": served.version,
    }
    if as_json:
        click.echo(msgspec.json.encode({**facts, "signature": signature, "card": served.card}))
        return
    for name, value in facts.items():
        click.echo(f"{name.replace('_', ' '):<14} {value}")
    for kind, specs in (("input", signature.inputs), ("output", signature.outputs)):
        for spec in specs:
            click.echo(f"{kind:<14} {_describe(spec)}")
    if served.card is not None and served.card.labels:
        click.echo(f"{'labels':<14} {', '.join(served.card.labels)}")


@model.command(
    short_help="Copy a model into a folder and check it.",
    epilog="Example:  tierwise model fetch https://models.example/digits/model.yaml /models",
)
@click.argument("source")
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.option("--sha256", help="Of the file that SOURCE names; an empty one checks nothing.")
def fetch(source: str, folder: Path, sha256: str | None) -> None:
    """Copy a model into a folder and check it: how a container gets its model.

    SOURCE is a path or URL of an artifact or a model.yaml, or a folder with one of them.
    """
    from tierwise.models.fetch import fetch_model  # noqa: PLC0415  heavy imports belong to the command

    for file in fetch_model(source, folder, sha256=sha256):
        click.echo(file)


def _describe(spec: TensorSpec) -> str:
    text = str(spec)
    return text if spec.scale is None else f"{text}  real = {spec.scale:.8g} · (q - {spec.zero_point})"
