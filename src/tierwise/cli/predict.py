"""``tierwise predict``: run a model on a file of samples, without a service."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tierwise.cli.choices import RUNTIME

if TYPE_CHECKING:
    from tierwise.core.messages import Answer, Prediction
    from tierwise.models.card import ModelCard
    from tierwise.models.samples import Samples


@click.command(epilog="Example:  tierwise predict --model models/digits --input samples.csv --json")
@click.option(
    "--model",
    "path",
    required=True,
    envvar="MODEL_PATH",
    show_envvar=True,
    type=click.Path(path_type=Path),
    help="An artifact (.onnx, .tflite, .pt, .pth, .pt2, .safetensors) or a folder with model.yaml.",
)
@click.option("--input", "source", required=True, help="Samples as .npz, .npy, .csv or .json; - reads standard input.")
@click.option("--runtime", type=RUNTIME, help="By default the one that fits the file.")
@click.option("--trust-pickle", is_flag=True, help="Load a pickled PyTorch module, which runs code from the file.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
def predict(path: Path, source: str, runtime: str | None, *, trust_pickle: bool, as_json: bool) -> None:
    """Run a model on samples: one, or a batch with a row each.

    Where the samples are labelled (labels in the .npz, or a column of the .csv headed label) and the model's card names
    its labels, the share of right answers is told too, on standard error; else why not.
    """
    import shlex  # noqa: PLC0415 -- heavy imports belong to the command

    import msgspec  # noqa: PLC0415

    from tierwise.cli.samples import read_labelled  # noqa: PLC0415
    from tierwise.core.clocks import monotonic_ns  # noqa: PLC0415
    from tierwise.core.messages import Answer  # noqa: PLC0415
    from tierwise.messaging.payloads import ensure_finite  # noqa: PLC0415
    from tierwise.serving.model import load_model  # noqa: PLC0415
    from tierwise.serving.settings import ModelSettings  # noqa: PLC0415

    samples = read_labelled(source)
    received_ns = monotonic_ns()
    model = load_model(ModelSettings(path=path, runtime=runtime, trust_pickle=trust_pickle), tier="edge")
    inputs, is_batch = model.adapt(samples.features)
    started_ns = monotonic_ns()
    outputs = model.run(inputs)
    finished_ns = monotonic_ns()
    prediction, named = model.predictions(outputs, is_batch=is_batch)
    label = model.label_of(prediction)
    model.close()
    answer = Answer(
        prediction, model.name, model.version, "edge", received_ns, started_ns, finished_ns, label=label, outputs=named
    )
    result: dict[str, Any] = {
        "prediction": prediction,
        "inference_time_ms": answer.inference_ns / 1e6,
        "model": model.name,
        "model_version": model.version,
        "runtime": model.runtime.name,
    }
    result |= {"label": label} if label is not None else {}
    result |= {"outputs": named} if named is not None else {}
    accuracy = _accuracy(model.card, samples, label)
    result |= {"accuracy": accuracy} if accuracy is not None else {}
    encoded = ensure_finite(msgspec.json.encode(result), answer)  # what a service would not answer is no answer here
    if as_json:
        click.echo(encoded)
        return
    for line in _lines(answer, is_batch=is_batch):
        click.echo(line)
    if accuracy is not None:
        click.echo(f"accuracy {accuracy:.4g} on {len(samples)} samples", err=True)
    elif samples.labels is not None:
        card = f"`tierwise model card {shlex.quote(str(path))} --labels … --threshold …` writes them"
        click.echo(f"no accuracy: the samples are labelled, but no card names the model's labels; {card}", err=True)


def _accuracy(card: ModelCard | None, samples: Samples, label: str | list[str] | None) -> float | None:
    """The share of right labels; ``None`` where nothing says what the samples are, or the model names no labels."""
    from tierwise.models.samples import class_indices  # noqa: PLC0415 -- heavy imports belong to the command

    truth = class_indices(samples, card.labels) if card is not None and card.labels else None
    if card is None or truth is None or label is None:
        return None
    said = [label] if isinstance(label, str) else label
    right: list[bool] = [card.labels[index] == word for index, word in zip(truth, said, strict=True)]
    return sum(right) / len(right)


def _lines(answer: Answer, *, is_batch: bool) -> list[str]:
    """One line a sample, tabs between: its values, or every output as ``name=values``; then the label."""
    columns = [
        [f"{name}={_words(row)}" if name else _words(row) for row in _rows(values, is_batch=is_batch)]
        for name, values in (answer.outputs or {"": answer.prediction}).items()
    ]
    if answer.label is not None:
        columns.append([str(label) for label in _rows(answer.label, is_batch=is_batch)])
    return ["\t".join(cells) for cells in zip(*columns, strict=True)]


def _rows(values: Prediction, *, is_batch: bool) -> list[Any]:
    return values if is_batch and isinstance(values, list) else [values]


def _words(value: Prediction) -> str:
    """Numbers with six digits, of a flat list with spaces between, of a nested one each row in brackets."""
    if isinstance(value, list):
        return " ".join(f"[{_words(entry)}]" if isinstance(entry, list) else _words(entry) for entry in value)
    return f"{value:.6g}" if isinstance(value, float) else str(value)
