"""``tierwise model``: create the example models, describe your own, look into any artifact."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tierwise.cli.choices import RUNTIME

if TYPE_CHECKING:
    from tierwise.core.tensors import TensorSpec
    from tierwise.models.card import ModelCard
    from tierwise.serving.model import ServedModel

SHOWN_METRICS = ("accuracy", "agreement")


@click.group
def model() -> None:
    """Create models, describe your own, look into them."""


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
    _print_artifacts(card)


@model.command(
    short_help="Write the model.yaml of your own files.",
    epilog="Example:  tierwise model card pump.onnx pump-int8.tflite --labels ok,worn --threshold 0.7",
)
@click.argument("artifacts", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--name", help="Name of the model; by default what its files are called.")
@click.option("--version", help="Its version; 1 by default.")
@click.option("--description", help="What it does, in a sentence.")
@click.option("--labels", metavar="A,B,…", help="Names of the classes, by index; two for a thresholded value.")
@click.option("--threshold", type=float, help="Where the model yields one value: from here on the second label holds.")
@click.option("--samples", help="Held-out samples to measure each file with, as .npz, .npy, .csv or .json.")
@click.option("--trust-pickle", is_flag=True, help="Load a pickled PyTorch module, which runs code from the file.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
def card(
    artifacts: tuple[Path, ...],
    *,
    labels: str | None,
    samples: str | None,
    trust_pickle: bool,
    as_json: bool,
    **facts: Any,  # noqa: ANN401 -- name, version, description, threshold
) -> None:
    """Write the model.yaml of your own files, or bring it up to date.

    ARTIFACTS are the files of one model (.onnx, .tflite, .pt2, .pt, .pth, .safetensors) in one folder, or that folder.
    Sizes, hashes and the signature are read from them; what model.yaml says already is kept where no option says
    otherwise. With samples every file is measured.
    """
    import msgspec  # noqa: PLC0415 -- heavy imports belong to the command

    from tierwise.cli.samples import read_labelled  # noqa: PLC0415
    from tierwise.models.card import save_card  # noqa: PLC0415
    from tierwise.serving.describe import Told, describe  # noqa: PLC0415

    told = Told(
        labels=None if labels is None else tuple(filter(None, (label.strip() for label in labels.split(",")))),
        samples=None if samples is None else (Path(samples), read_labelled(samples, option="--samples")),
        **facts,
    )
    made = describe(artifacts, told, trust_pickle=trust_pickle)
    folder = artifacts[0] if artifacts[0].is_dir() else artifacts[0].parent
    file = save_card(made, folder)
    if as_json:
        click.echo(msgspec.json.encode(made))
        return
    click.echo(f"{made.name} {made.version} in {file}")
    _print_artifacts(made)


@model.command(
    short_help="Print what a model takes and gives.",
    epilog="Example:  tierwise model inspect models/digits/digits.onnx",
)
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--runtime", type=RUNTIME, help="By default the one that fits the file.")
@click.option("--trust-pickle", is_flag=True, help="Load a pickled PyTorch module, which runs code from the file.")
@click.option("--example", is_flag=True, help="Print a request that the model takes, over MQTT as well as over HTTP.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
def inspect(path: Path, runtime: str | None, *, trust_pickle: bool, example: bool, as_json: bool) -> None:
    """Print what a model takes and gives: an artifact (.onnx, .tflite, .pt2, .pt, .pth, .safetensors) or a folder."""
    import msgspec  # noqa: PLC0415 -- heavy imports belong to the command

    from tierwise.models.card import sha256_of  # noqa: PLC0415
    from tierwise.serving.model import find_artifact, load_model  # noqa: PLC0415
    from tierwise.serving.settings import ModelSettings  # noqa: PLC0415

    settings = ModelSettings(path=path, runtime=runtime, trust_pickle=trust_pickle)
    artifact, _ = find_artifact(settings, tier="edge")
    served = load_model(settings, tier="edge")
    served.close()
    if example:
        click.echo(_example(served, artifact.parent))
        return
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
    if served.card is not None:
        _print_card(served.card, artifact.name)


def _example(served: ServedModel, folder: Path) -> str:
    """A request as it goes over MQTT; HTTP takes it too. One held-out sample where the card names some."""
    from tierwise.messaging.payloads import encode_request  # noqa: PLC0415 -- heavy imports belong to the command
    from tierwise.models.samples import load_samples  # noqa: PLC0415
    from tierwise.runtimes.example import one_request, shortened  # noqa: PLC0415

    card = served.card
    if card is not None and card.samples is not None and (folder / card.samples).is_file():
        sample = shortened(load_samples(folder / card.samples).array[0])
        return encode_request("sensor1", 0, sample).decode()
    return encode_request("sensor1", 0, one_request(served.runtime.signature)).decode()


def _print_card(card: ModelCard, shown: str) -> None:
    if card.labels:
        click.echo(f"{'labels':<14} {', '.join(card.labels)}")
    if card.threshold is not None:
        click.echo(f"{'threshold':<14} {card.threshold:g}")
    others = ", ".join(artifact.file for artifact in card.artifacts if artifact.file != shown)
    if others:
        click.echo(f"{'other files':<14} {others}")


def _print_artifacts(card: ModelCard) -> None:
    """A line a file: size, what runs it, what was measured with it, the beginning of its hash."""
    widest = max(len(artifact.file) for artifact in card.artifacts)
    for artifact in card.artifacts:
        measured = "".join(f"  {name} {value:g}" for name, value in artifact.metrics.items() if name in SHOWN_METRICS)
        click.echo(
            f"  {artifact.file:<{widest}}  {artifact.size_bytes:>11,} bytes  sha256 {artifact.sha256[:12]}…  "
            f"{'/'.join(artifact.runtimes):<20}{measured}".rstrip()
        )


@model.command(
    short_help="Copy a model into a folder and check it.",
    epilog="Example:  tierwise model fetch https://models.example/digits/model.yaml /models",
)
@click.argument("source")
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.option("--sha256", help="Of the file that SOURCE names; an empty one checks nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
def fetch(source: str, folder: Path, sha256: str | None, *, as_json: bool) -> None:
    """Copy a model into a folder and check it: how a container gets its model.

    SOURCE is a path or URL of an artifact or a model.yaml, or a folder with one of them.
    """
    import msgspec  # noqa: PLC0415  heavy imports belong to the command

    from tierwise.models.fetch import fetch_model  # noqa: PLC0415

    files = fetch_model(source, folder, sha256=sha256)
    if as_json:
        click.echo(msgspec.json.encode([str(file) for file in files]))
        return
    for file in files:
        click.echo(file)


def _describe(spec: TensorSpec) -> str:
    text = str(spec)
    return text if spec.scale is None else f"{text}  real = {spec.scale:.8g} · (q - {spec.zero_point})"
