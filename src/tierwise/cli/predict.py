"""``tierwise predict``: run a model on a file of samples, without a service."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click


@click.command
@click.option(
    "--model",
    "path",
    required=True,
    envvar="MODEL_PATH",
    type=click.Path(path_type=Path),
    help="An artifact or a model folder.",
)
@click.option(
    "--input", "source", required=True, help="Samples as .json, .csv or .npy; - reads JSON or CSV from standard input."
)
@click.option("--runtime", help="onnx, litert, torch or tflm; by default the one that fits.")
@click.option("--trust-pickle", is_flag=True, help="Load a pickled PyTorch module, which runs code from the file.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def predict(path: Path, source: str, runtime: str | None, *, trust_pickle: bool, as_json: bool) -> None:
    """Run a model on samples: one, or a batch with a row each."""
    import msgspec  # noqa: PLC0415 -- heavy imports belong to the command

    from tierwise.cli.samples import read_samples  # noqa: PLC0415
    from tierwise.core.clocks import monotonic_ns  # noqa: PLC0415
    from tierwise.serving.model import load_model  # noqa: PLC0415
    from tierwise.serving.settings import ModelSettings  # noqa: PLC0415

    features = read_samples(source)
    model = load_model(ModelSettings(path=path, runtime=runtime, trust_pickle=trust_pickle), tier="edge")
    inputs, is_batch = model.adapt(features)
    started_ns = monotonic_ns()
    outputs = model.run(inputs)
    inference_time_ms = (monotonic_ns() - started_ns) / 1e6
    prediction, named = model.predictions(outputs, is_batch=is_batch)
    label = model.label_of(prediction)
    model.close()
    if as_json:
        result: dict[str, Any] = {
            "prediction": prediction,
            "inference_time_ms": inference_time_ms,
            "model": model.name,
            "model_version": model.version,
            "runtime": model.runtime.name,
        }
        result |= {"label": label} if label is not None else {}
        result |= {"outputs": named} if named is not None else {}
        click.echo(msgspec.json.encode(result))
        return
    rows = prediction if is_batch and isinstance(prediction, list) else [prediction]
    labels = label if isinstance(label, list) else [label] * len(rows)
    for row, name in zip(rows, labels, strict=True):
        values = " ".join(f"{value:.6g}" for value in row) if isinstance(row, list) else f"{row:.6g}"
        click.echo(values if name is None else f"{values}\t{name}")
