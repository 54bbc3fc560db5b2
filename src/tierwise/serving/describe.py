"""Writes the model card of somebody's own files: sizes, hashes and signature are read, quality is measured."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from tierwise.core.errors import ConfigurationError, ModelError, ModelFileError
from tierwise.core.tensors import Signature, TensorSpec
from tierwise.models.agreement import dtype_of, is_int8
from tierwise.models.card import CARD_NAME, Artifact, ModelCard, load_card, sha256_of
from tierwise.models.samples import Samples, class_indices, load_samples, write_npz
from tierwise.models.scores import against, scores
from tierwise.runtimes import load_runtime
from tierwise.runtimes.inputs import to_inputs
from tierwise.runtimes.loading import runtimes_for

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    Features = NDArray[Any] | Mapping[str, NDArray[Any]]

SAMPLES_NAME = "samples.npz"
INT8_RUNTIMES = ("tflm", "firmware", "litert")
"""What runs a full-int8 ``.tflite``, in order of preference."""
_NO_NAME = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What no file tells. ``None`` leaves what the card says already."""

    name: str | None = None
    version: str | None = None
    description: str | None = None
    labels: tuple[str, ...] | None = None
    threshold: float | None = None
    samples: tuple[Path | None, Samples] | None = None
    """Held-out samples, with the file that they come from where it is one."""


@dataclass(frozen=True, slots=True)
class _Loaded:
    file: Path
    signature: Signature
    outputs: NDArray[Any] | None


def describe(files: Sequence[Path], told: Told, *, trust_pickle: bool = False) -> ModelCard:
    """The card of artifacts in one folder, or of the folder itself, on the basis of the ``model.yaml`` there.

    Every file is loaded once, for its signature. Where there are samples, every one with a single input and output
    runs them: ``metrics`` then holds how it agrees with the first float one, and with labels its accuracy too. Writes
    nothing but ``samples.npz``, where the samples do not stand in the folder yet.

    Raises ``ConfigurationError`` for what does not fit together, ``ModelError`` and ``DependencyError`` for files that
    cannot be loaded.
    """
    folder, files = _folder_and_files(files)
    card = load_card(folder) if (folder / CARD_NAME).is_file() else None
    listed = [] if card is None else [folder / artifact.file for artifact in card.artifacts]
    files = list(dict.fromkeys([*(file for file in listed if file.is_file()), *files]))
    samples_name, samples = _samples(folder, told, card)
    loaded = [_load(file, samples, trust_pickle=trust_pickle) for file in files]
    # What stood there already keeps its place; of what is new an int8 file comes after the float ones.
    loaded.sort(key=lambda one: one.file not in listed and is_int8(one.signature))
    signature = _common(loaded)
    card = card or ModelCard(name=_name(folder, files), version="1", signature=signature, artifacts=())
    artifacts = tuple(artifact_of(one.file, one.signature, previous=card) for one in loaded)
    card = _with(card, told, signature=signature, samples=samples_name, artifacts=artifacts)
    if samples is None:
        return card
    classes = class_indices(samples, card.labels) if card.labels or card.threshold is not None else None
    metrics = _metrics(loaded, classes, card.threshold)
    return _with(
        card, artifacts=tuple(msgspec.structs.replace(one, metrics=metrics.get(one.file, {})) for one in artifacts)
    )


def _with(card: ModelCard, told: Told | None = None, **changes: Any) -> ModelCard:  # noqa: ANN401 - fields of a card
    """The card with what somebody tells, checked as a whole."""
    if told is not None:
        said = {
            "name": told.name, "version": told.version, "description": told.description,
            "labels": told.labels, "threshold": told.threshold,
        }  # fmt: skip
        changes |= {name: value for name, value in said.items() if value is not None}
    plain = msgspec.to_builtins(card) | msgspec.to_builtins(changes)
    if {"labels", "threshold"} & set(changes) or not plain.get("task"):
        plain["task"] = _task(plain.get("labels", ()), plain.get("threshold"))
    try:
        return msgspec.convert(plain, ModelCard)
    except msgspec.ValidationError as error:
        raise ConfigurationError(f"the card would not be right: {error}") from error


def artifact_of(file: Path, signature: Signature, *, previous: ModelCard | None = None) -> Artifact:
    """The card's entry of a file; where the file is still the same, with what ``previous`` says of it."""
    digest = sha256_of(file)
    known = next((one for one in previous.artifacts if one.file == file.name), None) if previous else None
    form: Any = file.suffix.lower().removeprefix(".")
    dtype = dtype_of(signature)
    if known is not None and known.sha256 == digest:
        return msgspec.structs.replace(known, format=form, dtype=dtype)
    return Artifact(
        file=file.name,
        format=form,
        runtimes=INT8_RUNTIMES if is_int8(signature) else tuple(runtimes_for(file)[:1]),
        dtype=dtype,
        size_bytes=file.stat().st_size,
        sha256=digest,
    )


def bare_card(file: Path, signature: Signature) -> ModelCard:
    """The card of a file that has none: as a service names it, with nothing that the file does not tell."""
    return ModelCard(name=file.stem, version="1", signature=_real(signature), artifacts=(artifact_of(file, signature),))


def _folder_and_files(given: Sequence[Path]) -> tuple[Path, list[Path]]:
    if len(given) == 1 and given[0].is_dir():
        return given[0], [file for file in sorted(given[0].iterdir()) if file.is_file() and runtimes_for(file)]
    for file in given:
        if not file.is_file():
            raise ModelFileError(f"no model at {file}")
        if not runtimes_for(file):
            raise ModelFileError(f"{file}: not an artifact: expected .onnx, .tflite, .pt2, .pt, .pth or .safetensors")
    folders = sorted({file.parent for file in given})
    if len(folders) != 1:
        raise ConfigurationError(
            f"a model's files stand in one folder with its {CARD_NAME}; these are in {', '.join(map(str, folders))}"
        )
    return folders[0], list(given)


def _load(file: Path, samples: Samples | None, *, trust_pickle: bool) -> _Loaded:
    runtime = load_runtime(file, trust_pickle=trust_pickle)
    try:
        signature, outputs = runtime.signature, None
        if samples is not None and len(signature.inputs) == len(signature.outputs) == 1:
            inputs, _ = to_inputs(samples.features, signature)
            outputs = np.array(runtime.run(inputs)[0])
        return _Loaded(file, signature, outputs)
    finally:
        runtime.close()


def _common(loaded: Sequence[_Loaded]) -> Signature:
    """The signature of the model: that of its first float artifact. Raises where one takes or gives something else."""
    if not loaded:
        raise ConfigurationError("there is no artifact: give .onnx, .tflite, .pt2, .pt, .pth or .safetensors files")
    first = next((one for one in loaded if not is_int8(one.signature)), loaded[0])
    for one in loaded:
        if _sizes(one.signature) != _sizes(first.signature):
            raise ModelError(
                f"{one.file.name} ({_words(one.signature)}) and {first.file.name} ({_words(first.signature)}) "
                "are not one model"
            )
    return _real(first.signature)


def _sizes(signature: Signature) -> tuple[list[int | None], list[int | None]]:
    return [spec.sample_size for spec in signature.inputs], [spec.sample_size for spec in signature.outputs]


def _words(signature: Signature) -> str:
    return f"{', '.join(map(str, signature.inputs))} to {', '.join(map(str, signature.outputs))}"


def _real(signature: Signature) -> Signature:
    """What goes in and comes out as real numbers, whatever the file quantises it to."""

    def real(spec: TensorSpec) -> TensorSpec:
        return spec if spec.scale is None else TensorSpec(spec.name, spec.shape, "float32")

    return Signature(tuple(map(real, signature.inputs)), tuple(map(real, signature.outputs)))


def _samples(folder: Path, told: Told, card: ModelCard | None) -> tuple[str | None, Samples | None]:
    """The name of the samples' file in the folder, and what is in it."""
    if told.samples is None:
        if card is None or card.samples is None:
            return None, None
        return card.samples, load_samples(folder / card.samples)
    source, samples = told.samples
    if source is not None and source.suffix == ".npz" and source.parent.resolve() == folder.resolve():
        return source.name, samples
    target = folder / SAMPLES_NAME
    if target.exists() and (card is None or card.samples != SAMPLES_NAME):
        raise ConfigurationError(f"{target} is there already: give it as --samples, or move it away")
    write_npz(samples, target)
    return SAMPLES_NAME, samples


def _metrics(
    loaded: Sequence[_Loaded], labels: NDArray[np.int64] | None, threshold: float | None
) -> dict[str, dict[str, float]]:
    """How good each artifact is, where there are labels, and how it agrees with the first float one."""
    runs = {one.file.name: one.outputs.reshape(len(one.outputs), -1) for one in loaded if one.outputs is not None}
    floats = [one.file.name for one in loaded if not is_int8(one.signature) and one.file.name in runs]
    reference = runs[floats[0]] if floats else None
    is_classifier = threshold is not None or any(outputs.shape[1] > 1 for outputs in runs.values())
    measured: dict[str, dict[str, float]] = {}
    for name, outputs in runs.items():
        found = scores(outputs, labels, threshold) if labels is not None and is_classifier else {}
        if reference is not None:
            found |= against(outputs, reference, threshold)
        measured[name] = {key: float(f"{value:.4g}") for key, value in found.items()}
    return measured


def _task(labels: Sequence[str], threshold: float | None) -> str:
    if threshold is not None:
        return "binary-classification"
    return "multiclass-classification" if labels else "regression"


def _name(folder: Path, files: Sequence[Path]) -> str:
    """What the files have in common; the folder's name where that is nothing."""
    stems = {file.stem.removesuffix("-int8").removesuffix("_int8") for file in files}
    name = stems.pop() if len(stems) == 1 else folder.resolve().name
    return _NO_NAME.sub("-", name).strip("-._") or "model"
