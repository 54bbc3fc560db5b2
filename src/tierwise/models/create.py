"""Creates a model: trains it, writes its artifacts, measures each of them on held-out data, and writes the card."""

from __future__ import annotations

import importlib
import pkgutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from tierwise.core.errors import ConfigurationError, DependencyError, ModelError
from tierwise.models.card import CARD_NAME, Artifact, ModelCard, load_card, save_card, sha256_of
from tierwise.models.catalog import RECIPES, Dataset, Recipe
from tierwise.models.scores import against, scores

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from tierwise.core.runtime import Runtime
    from tierwise.core.tensors import Signature

    Load = Callable[[Path], Runtime]
    OnStep = Callable[[str], None]

SAMPLES_NAME = "samples.npz"
FLOAT_ERROR_BOUND = 1e-5
"""What float artifacts of one model may differ: rounding in another order, nothing else."""

_RUNTIMES = {
    "onnx": ("onnx",),
    "tflite": ("litert",),
    "pt": ("torch",),
    "pt2": ("torch",),
    "safetensors": ("torch",),
}
_INT8_RUNTIMES = ("tflm", "firmware", "litert")


def create_model(name: str, out: Path, *, load: Load, on_step: OnStep | None = None) -> ModelCard:
    """Creates the model ``name`` in the folder ``out`` and returns its card.

    ``load`` opens an artifact (``tierwise.runtimes.load_runtime``): every artifact is measured as a service would run
    it. ``on_step`` hears what is done next, in words. All is written to a temporary folder beside ``out`` first; an
    existing model is replaced only by a complete one.

    Raises ``ConfigurationError`` for an unknown name or a folder that holds something else, ``DependencyError`` where
    the training extra is missing, ``ModelError`` when an artifact does not do what the trained model does.
    """
    recipe = RECIPES.get(name)
    if recipe is None:
        raise ConfigurationError(f"unknown model {name!r}; known models: {', '.join(RECIPES)}")
    _require_training()
    say = on_step or (lambda _: None)
    out = out.resolve()
    try:
        _check_replaceable(out)
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as temporary:
            folder = Path(temporary) / out.name
            folder.mkdir()
            card = _create(recipe, folder, load, say)
            _replace(out, folder, Path(temporary) / "previous")
    except OSError as error:
        raise ConfigurationError(f"cannot write the model to {out}: {error.strerror or error}") from error
    return card


def _create(recipe: Recipe, folder: Path, load: Load, say: OnStep) -> ModelCard:
    from tierwise.models.export import write_artifacts  # noqa: PLC0415  needs the training extra
    from tierwise.models.training import predict, train  # noqa: PLC0415  needs the training extra

    say(f"{recipe.name}: data")
    seed = recipe.data.seed or 0
    data = recipe.dataset(seed)
    features, labels = data.held_out
    say(f"{recipe.name}: training on {len(data.training[0])} samples")
    module: Any = train(
        pkgutil.resolve_name(recipe.architecture),
        *data.training,
        seed=seed,
        epochs=recipe.epochs,
        batch_size=recipe.batch_size,
        learning_rate=recipe.learning_rate,
    )
    reference = predict(module, features)
    np.savez(folder / SAMPLES_NAME, features=features, labels=labels)

    signature = module.signature
    artifacts = []
    for file in write_artifacts(
        module, signature, name=recipe.name, version=recipe.version, calibration=data.training[0], folder=folder
    ):
        say(f"{recipe.name}: measuring {file}")
        outputs = _outputs(load, folder / file, signature.inputs[0].name, features)
        metrics = scores(outputs, labels, recipe.threshold) | against(outputs, reference, recipe.threshold)
        artifacts.append(_artifact(folder / file, metrics, recipe))
    card = _card(recipe, data, signature, scores(reference, labels, recipe.threshold), artifacts)
    save_card(card, folder)
    return card


def _outputs(load: Load, file: Path, name: str, features: NDArray[np.float32]) -> NDArray[np.floating]:
    runtime = load(file)
    try:
        [outputs] = runtime.run({name: features})
        return np.array(outputs)
    finally:
        runtime.close()


def _artifact(file: Path, metrics: dict[str, float], recipe: Recipe) -> Artifact:
    """Checks the measured error against its bound. Raises ``ModelError`` when it is larger."""
    is_int8 = file.stem.endswith("-int8")
    bound = recipe.int8_error_bound if is_int8 else FLOAT_ERROR_BOUND
    error = metrics["max_abs_error"]
    if not error <= bound:
        raise ModelError(f"{file.name} differs by {error:.2g} from the trained model, more than {bound:.2g}")
    form: Any = file.suffix.removeprefix(".")
    return Artifact(
        file=file.name,
        format=form,
        runtimes=_INT8_RUNTIMES if is_int8 else _RUNTIMES[form],
        dtype="int8" if is_int8 else "float32",
        size_bytes=file.stat().st_size,
        sha256=sha256_of(file),
        error_bound=bound,
        metrics=_rounded(metrics),
    )


def _card(
    recipe: Recipe, data: Dataset, signature: Signature, metrics: dict[str, float], artifacts: list[Artifact]
) -> ModelCard:
    return ModelCard(
        name=recipe.name,
        version=recipe.version,
        task=recipe.task,
        description=recipe.description,
        signature=signature,
        labels=recipe.labels,
        threshold=recipe.threshold,
        architecture=recipe.name,
        metrics=_rounded(metrics),
        data=msgspec.structs.replace(
            recipe.data, training_samples=len(data.training[0]), held_out_samples=len(data.held_out[0])
        ),
        samples=SAMPLES_NAME,
        artifacts=tuple(artifacts),
    )


def _rounded(metrics: dict[str, float]) -> dict[str, float]:
    """Four significant digits: more would be noise of the held-out sample."""
    return {name: float(f"{value:.4g}") for name, value in metrics.items()}


def _require_training() -> None:
    try:
        for package in (
            "torch",
            "safetensors",
            "onnx",
            "flatbuffers",
            "ai_edge_litert",
            "ai_edge_quantizer",
            "sklearn",
        ):
            importlib.import_module(package)
    except ImportError as error:
        raise DependencyError(
            f"creating a model needs the Python package {error.name}: pip install 'tierwise[train]'"
        ) from error


def _check_replaceable(out: Path) -> None:
    """Only an empty folder, or one with nothing but a model, may be replaced."""
    if not out.exists():
        return
    if not out.is_dir():
        raise ConfigurationError(f"{out} is not a folder: name one for the model")
    files = {path.name for path in out.iterdir()}
    if not files:
        return
    if CARD_NAME not in files:
        raise ConfigurationError(f"{out} holds other files and no model: name an empty or new folder")
    card = load_card(out)
    others = files - {CARD_NAME, card.samples} - {artifact.file for artifact in card.artifacts}
    if others:
        raise ConfigurationError(
            f"{out} holds more than the model ({', '.join(sorted(others))}): move that, or name a new folder"
        )


def _replace(out: Path, folder: Path, previous: Path) -> None:
    """Puts ``folder`` in the place of ``out``; the previous model comes back when that fails or is interrupted."""
    try:
        if out.exists():
            out.rename(previous)
        folder.rename(out)
    finally:
        if previous.exists() and not out.exists():
            previous.rename(out)
