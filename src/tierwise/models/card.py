"""The model card: what a model is, how good it is, and which files are it.

A model is a folder with a ``model.yaml`` (YAML 1.2) and the artifacts that it lists beside it. Every artifact carries
its SHA-256, so that a file can be checked before a runtime parses it.
"""

from __future__ import annotations

import hashlib
import math
import shlex
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec

from tierwise.core.errors import ModelError, ModelFileError, ModelIntegrityError
from tierwise.core.tensors import Dtype, Signature  # noqa: TC001  msgspec resolves the annotation when it decodes
from tierwise.models.labels import label_of

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from tierwise.core.messages import Prediction

CARD_NAME = "model.yaml"

Name = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}\Z")]
"""A model's name or version: it appears in topics, URLs and file names."""

FileName = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._ +@=-]{0,254}\Z")]
"""A bare file name: no separator and no leading dot, so no card can point outside its own folder."""

RuntimeName = Annotated[str, msgspec.Meta(extra={"words": ("onnx", "litert", "torch", "tflm", "firmware")})]

Sha256 = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]


def _meta(description: str, **limits: Any) -> msgspec.Meta:  # noqa: ANN401 - msgspec's limits
    """``docs/models.md`` shows the description of every key."""
    return msgspec.Meta(description=description, **limits)


class Artifact(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """One file of a model."""

    file: Annotated[FileName, _meta("Its name, in the same folder.")]
    format: Annotated[Literal["onnx", "tflite", "pt", "pth", "pt2", "safetensors"], _meta("Its form.")]
    runtimes: Annotated[
        tuple[RuntimeName, ...],
        _meta("What can execute it: `onnx`, `litert`, `torch`, `tflm`, `firmware`.", min_length=1),
    ]
    dtype: Annotated[
        Dtype, _meta("`float32`, or `int8` where inputs, outputs, weights and activations are 8-bit integers.")
    ]
    size_bytes: Annotated[int, _meta("Its size.", ge=0)]
    sha256: Annotated[Sha256, _meta("Its SHA-256: another file is refused.")]
    error_bound: (
        Annotated[
            float,
            _meta(
                "Largest difference from the float model in any output value, checked on the held-out data when it "
                "was made.",
                gt=0,
            ),
        ]
        | None
    ) = None
    metrics: Annotated[
        dict[str, float],
        _meta(
            "Measured with this file on the samples: `accuracy`, `f1`, `auc`; and against the float model `agreement` "
            "(share of equal labels) and `max_abs_error` (in output units)."
        ),
    ] = {}


class DataSource(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Where the data came from."""

    name: Annotated[str, _meta("What it is called.")]
    source: Annotated[str, _meta("Citation, or the code that generates it.")]
    license: Annotated[str | None, _meta("Its licence.")] = None
    seed: Annotated[int | None, _meta("Of the generator, or of the split into training and held-out samples.")] = None
    training_samples: Annotated[int | None, _meta("How many it was trained on.")] = None
    held_out_samples: Annotated[int | None, _meta("How many it was judged on.")] = None


class ModelCard(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Everything that is known about one version of a model. See ``load_card``."""

    name: Annotated[Name, _meta("Its name, in answers, topics and URLs.")]
    version: Annotated[Name, _meta("Its version; in quotes where it looks like a number.")]
    description: Annotated[str, _meta("What it does, in a sentence.")] = ""
    task: Annotated[str, _meta("`binary-classification`, `multiclass-classification`, `regression`, …")] = ""
    signature: Annotated[
        Signature,
        _meta(
            "`inputs` and `outputs`, each with `name`, `shape` (the batch first, `null` for any size) and `dtype`. Of "
            "the float artifacts; a quantised one keeps the shapes and has its own dtype, scale and zero point."
        ),
    ]
    labels: Annotated[
        tuple[str, ...],
        _meta("By class index; two for a thresholded value: below, and from the threshold on."),
    ] = ()
    threshold: Annotated[
        float | None, _meta("Where the model yields one value: at or above it the second label holds.")
    ] = None
    architecture: Annotated[
        str | None, _meta("Entry point in `tierwise.architectures` that builds the torch module of a checkpoint.")
    ] = None
    metrics: Annotated[dict[str, float], _meta("Of the float model on held-out data.")] = {}
    data: Annotated[DataSource | None, _meta("Where the data came from.")] = None
    samples: Annotated[
        FileName | None,
        _meta("`.npz` with held-out `features` (batch first) and, where they are known, `labels` (class indices)."),
    ] = None
    artifacts: Annotated[
        tuple[Artifact, ...], _meta("The files, in order of preference where one runtime can execute several.")
    ]

    def __post_init__(self) -> None:
        _check(self)

    def artifact_for(self, runtime: str, *, dtype: str | None = None) -> Artifact:
        """The first artifact that ``runtime`` executes (and that has ``dtype``, where given).

        Raises ``ModelError`` when there is none.
        """
        for artifact in self.artifacts:
            if runtime in artifact.runtimes and dtype in (None, artifact.dtype):
                return artifact
        known = ", ".join(f"{a.file} ({'/'.join(a.runtimes)}, {a.dtype})" for a in self.artifacts)
        wanted = runtime if dtype is None else f"{runtime} in {dtype}"
        raise ModelError(f"model {self.name} {self.version} has no artifact for {wanted}; it has {known or 'none'}")

    def label_of(self, prediction: Prediction | NDArray[Any]) -> str | list[str] | None:
        """The label of a prediction, as ``labels.label_of`` tells it; ``None`` where the card names none."""
        return label_of(prediction, self.labels, self.threshold, model=self.name)


def _check(card: ModelCard) -> None:
    """What the types cannot say. msgspec turns the ``ValueError`` into a validation error with a path."""
    if not card.signature.inputs or not card.signature.outputs:
        raise ValueError("the signature needs at least one input and one output")
    files = [artifact.file for artifact in card.artifacts] + [card.samples or CARD_NAME]
    twice = {file for file in files if files.count(file) > 1}
    if twice or CARD_NAME in files[:-1] or card.samples == CARD_NAME:
        raise ValueError(f"file listed twice: {', '.join(sorted(twice)) or CARD_NAME}")
    values = card.signature.outputs[0].sample_size
    if card.threshold is not None:
        if not math.isfinite(card.threshold):
            raise ValueError(f"the threshold must be finite, got {card.threshold}")
        if values not in (1, None):
            raise ValueError(f"a threshold needs one output value a sample, the signature has {values}")
        if len(card.labels) not in (0, 2):
            raise ValueError(f"a threshold needs two labels (below, from it on), got {len(card.labels)}")
    elif card.labels and values == 1:
        raise ValueError("labels of a single output value need a threshold")
    elif card.labels and values is not None and values != len(card.labels):
        raise ValueError(f"{len(card.labels)} labels for {values} output values")


def load_card(path: Path) -> ModelCard:
    """Reads a ``model.yaml``, or the one in a folder.

    Raises ``ModelFileError`` as ``file:line: path: what`` when it is missing, unreadable or not a model card.
    """
    from tierwise.models.yaml import load_yaml  # noqa: PLC0415  a bare artifact needs no YAML

    if path.is_dir() and not (path / CARD_NAME).exists():
        raise ModelFileError(
            f"{path}: there is no {CARD_NAME}; `tierwise model card {shlex.quote(str(path))}` writes it"
        )
    return load_yaml(path / CARD_NAME if path.is_dir() else path, ModelCard)


def save_card(card: ModelCard, path: Path) -> Path:
    """Writes a card to a file, or as ``model.yaml`` into a folder, and returns the file."""
    from tierwise.models.yaml import dump_yaml  # noqa: PLC0415

    file = path / CARD_NAME if path.is_dir() else path
    dump_yaml(msgspec.to_builtins(card), file)
    return file


def find_card(artifact: Path) -> ModelCard | None:
    """The card beside an artifact, where there is one that lists this file.

    Raises ``ModelFileError`` when a ``model.yaml`` is there but broken: its integrity check must not be lost silently.
    """
    file = artifact.with_name(CARD_NAME)
    if not file.is_file():
        return None
    card = load_card(file)
    return card if any(listed.file == artifact.name for listed in card.artifacts) else None


def verify(card: ModelCard, artifact_path: Path) -> Artifact:
    """Checks a file against the SHA-256 in its card and returns its entry.

    Raises ``ModelIntegrityError`` when the card does not list the file or the hash differs, ``ModelFileError`` when
    it cannot be read.
    """
    artifact = next((listed for listed in card.artifacts if listed.file == artifact_path.name), None)
    if artifact is None:
        raise ModelIntegrityError(f"{artifact_path}: the card of {card.name} {card.version} lists no such file")
    found = sha256_of(artifact_path)
    if found != artifact.sha256:
        raise ModelIntegrityError(
            f"{artifact_path}: not the file that the card of {card.name} {card.version} names "
            f"(SHA-256 {found[:12]}…, expected {artifact.sha256[:12]}…); copy it again, or create the model anew"
        )
    return artifact


def sha256_of(path: Path) -> str:
    """Hex SHA-256 of a file. Raises ``ModelFileError`` when it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ModelFileError(f"cannot read {path}: {error.strerror}") from error
