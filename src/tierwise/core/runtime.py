"""The core contract: what a loaded model can do, whatever executes it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from tierwise.core.tensors import Signature


class Runtime(Protocol):
    """A model file loaded by one runtime.

    Values are *real* on both sides: a runtime whose artifact has integer inputs or outputs (full int8) quantises
    floats with the input's scale and zero point and dequantises what comes out; an input that already has the
    artifact's integer dtype is taken as it is. So every tier takes the same features and gives comparable answers.
    """

    name: str
    """``onnx``, ``litert``, ``torch``, ``tflm`` or ``firmware``."""

    signature: Signature
    """Inputs and outputs as the artifact declares them, batch dimension first."""

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> Sequence[NDArray[Any]]:
        """Executes the model on one batch.

        ``inputs`` maps each input's name to a C-contiguous array of the declared dtype (float32 where the artifact
        is quantised) with the batch dimension first. Returns the outputs in the signature's order. Raises
        ``InvalidInputError`` where an array does not fit and ``InferenceError`` where the execution itself fails.
        Not thread-safe: one call at a time.
        """

    def close(self) -> None:
        """Frees the model. Further calls to ``run`` are an error."""
