"""A model as a service holds it: runtime, card, and the shapes that go in and come out."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING, Any

from tierwise.core.errors import ModelFileError
from tierwise.models.agreement import check_agreement
from tierwise.models.card import CARD_NAME, find_card, load_card, verify
from tierwise.runtimes import load_runtime, warm_up
from tierwise.runtimes.inputs import InputAdapter

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from tierwise.core.messages import Prediction
    from tierwise.core.runtime import Runtime
    from tierwise.models.card import ModelCard
    from tierwise.serving.settings import ModelSettings

RUNTIME_BY_TIER = {"device": "tflm", "edge": "onnx", "cloud": "torch"}
"""What a tier runs when it is given a model folder and no runtime."""

DEFAULT_VERSION = "1"
"""Version of a bare artifact that has no model card."""


class ServedModel:
    """One loaded and warmed model. ``warm_s`` is what one execution took once it was warm, in seconds."""

    def __init__(self, runtime: Runtime, *, name: str, version: str, card: ModelCard | None, warm_s: float) -> None:
        self.runtime = runtime
        self.name = name
        self.version = version
        self.card = card
        self.warm_s = warm_s
        self.run = runtime.run
        self.adapt = InputAdapter(runtime.signature)
        self.close = runtime.close
        self._output_names = [spec.name for spec in runtime.signature.outputs]
        self._labelled = card is not None and (bool(card.labels) or card.threshold is not None)

    def predictions(
        self, outputs: Sequence[NDArray[Any]], *, is_batch: bool
    ) -> tuple[Prediction, dict[str, Prediction] | None]:
        """The first output as the prediction, and all by name where there are several."""
        if len(outputs) == 1:
            return _values(outputs[0], is_batch=is_batch), None
        named = {
            name: _values(array, is_batch=is_batch) for name, array in zip(self._output_names, outputs, strict=True)
        }
        return named[self._output_names[0]], named

    def label_of(self, prediction: Prediction) -> str | list[str] | None:
        """The card's word for a prediction, where the card has labels."""
        return self.card.label_of(prediction) if self._labelled and self.card is not None else None


def _values(array: NDArray[Any], *, is_batch: bool) -> Prediction:
    """One number for a model that yields one value a sample, else a list; for a batch one entry a sample."""
    if not is_batch:
        one: Prediction = array.item() if array.size == 1 else array[0].tolist()
        return one
    rows: Prediction = (array.reshape(len(array)) if array.ndim > 1 and array[0].size == 1 else array).tolist()
    return rows


def find_artifact(settings: ModelSettings, *, tier: str) -> tuple[Path, ModelCard | None]:
    """The artifact that the settings mean, and the model card that lists it. Raises ``ModelFileError``."""
    path = settings.path
    try:
        is_folder = stat.S_ISDIR(path.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ModelFileError(
            f"no model at {path}: give an artifact or a model folder with --model or MODEL_PATH"
        ) from error
    except OSError as error:
        raise ModelFileError(f"cannot read the model at {path}: {error.strerror} (--model or MODEL_PATH)") from error
    except ValueError as error:  # a NUL byte in the name
        raise ModelFileError(f"{str(path)!r}: not a file name") from error
    if is_folder or path.name == CARD_NAME:
        card = load_card(path)
        artifact = card.artifact_for(settings.runtime or RUNTIME_BY_TIER[tier])
        return (path if is_folder else path.parent) / artifact.file, card
    if path.suffix.lower() in {".yaml", ".yml"}:
        raise ModelFileError(f"{path}: a model card is called {CARD_NAME} and stands beside the files of its model")
    return path, find_card(path)


def load_model(settings: ModelSettings, *, tier: str) -> ServedModel:
    """Loads, checks and warms the model that the settings name.

    A folder (or its ``model.yaml``) gives the artifact for the tier's runtime; a file is taken as it is, with the
    facts of the ``model.yaml`` beside it where that lists the file. Raises ``ModelFileError`` for what cannot be read
    and for a card that says something else than its file, ``ModelIntegrityError`` where a file is not the one that the
    card names, ``DependencyError`` where the runtime is not installed.
    """
    path, card = find_artifact(settings, tier=tier)
    if card is not None:
        verify(card, path)
    runtime = load_runtime(path, runtime=settings.runtime, threads=settings.threads, trust_pickle=settings.trust_pickle)
    if card is not None:
        try:
            check_agreement(card, path, runtime.signature)
        except ModelFileError:
            runtime.close()
            raise
    return ServedModel(
        runtime,
        name=card.name if card else path.stem,
        version=card.version if card else DEFAULT_VERSION,
        card=card,
        warm_s=warm_up(runtime),
    )
