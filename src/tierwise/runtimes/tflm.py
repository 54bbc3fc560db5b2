"""TensorFlow Lite Micro on the host (PyPI ``tflite-micro``): the kernels of a microcontroller, bit for bit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from tflite_micro.python.tflite_micro import runtime
from tflite_micro.tensorflow.lite.micro.python import schema_py_generated as schema

from tierwise.core.errors import InferenceError, ModelFileError
from tierwise.core.tensors import Signature, TensorSpec
from tierwise.runtimes.failures import explain, misfit
from tierwise.runtimes.files import one_line
from tierwise.runtimes.quantization import dequantizer, is_quantized, quantizer
from tierwise.runtimes.tflite import read_tflite

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from tierwise.core.runtime import Runtime

# The arena is the working memory that firmware would reserve. The host need not be tight.
_MIN_ARENA = 1 << 20
_ARENA_PER_BYTE = 10


class TflmRuntime:
    """A model in a TensorFlow Lite Micro interpreter. Shapes are fixed by the file; a batch runs sample by sample."""

    name = "tflm"

    def __init__(self, interpreter: runtime.Interpreter, signature: Signature) -> None:
        self.signature = signature
        self._interpreter: Any = interpreter
        self._to_integers = [quantizer(spec) if is_quantized(spec) else None for spec in signature.inputs]
        self._to_reals = [dequantizer(spec) if is_quantized(spec) else None for spec in signature.outputs]

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> Sequence[NDArray[Any]]:
        """See ``Runtime.run``."""
        if self._interpreter is None:
            raise InferenceError("the model is closed")
        # Checked beforehand: the library prints its complaints, and takes some shapes that are wrong.
        if error := misfit(self.signature, inputs):
            raise error
        batch = []
        for spec, to_integers in zip(self.signature.inputs, self._to_integers, strict=True):
            values = inputs[spec.name]
            batch.append(to_integers(values) if to_integers and values.dtype == np.float32 else values)
        step = self.signature.inputs[0].shape[0] or 1
        try:
            answers = [
                self._run_one([values[at : at + step] for values in batch]) for at in range(0, len(batch[0]), step)
            ]
        except Exception as error:
            raise explain(self.signature, inputs, error) from error
        stacked = [np.concatenate(parts) for parts in zip(*answers, strict=True)]
        return [
            to_reals(values) if to_reals else values for values, to_reals in zip(stacked, self._to_reals, strict=True)
        ]

    def _run_one(self, sample: list[NDArray[Any]]) -> list[NDArray[Any]]:
        for at, values in enumerate(sample):
            self._interpreter.set_input(values, at)
        self._interpreter.invoke()
        return [self._interpreter.get_output(at) for at in range(len(self.signature.outputs))]

    def close(self) -> None:
        """Frees the interpreter and its arena."""
        self._interpreter = None


def load(path: Path, *, threads: int) -> Runtime:  # noqa: ARG001  # a microcontroller has one thread
    """Loads a ``.tflite`` file. Raises ``ModelFileError`` where TensorFlow Lite Micro cannot use it."""
    content, signature = read_tflite(path, schema)
    try:
        arena = max(_MIN_ARENA, _ARENA_PER_BYTE * len(content))
        interpreter = runtime.Interpreter.from_bytes(content, arena_size=arena)
        # Nothing is resized on a microcontroller: the shapes in force are the ones in the file.
        fixed = Signature(
            inputs=_with_shapes(signature.inputs, interpreter.get_input_details),
            outputs=_with_shapes(signature.outputs, interpreter.get_output_details),
        )
    except Exception as error:
        raise ModelFileError(f"{path}: not usable on TensorFlow Lite Micro: {one_line(error)}") from error
    if not all(spec.shape for spec in (*fixed.inputs, *fixed.outputs)):
        raise ModelFileError(f"{path}: every input and output must have a batch dimension")
    return TflmRuntime(interpreter, fixed)


def _with_shapes(specs: tuple[TensorSpec, ...], details: Callable[[int], dict[str, Any]]) -> tuple[TensorSpec, ...]:
    return tuple(
        msgspec.structs.replace(spec, shape=tuple(details(at)["shape"].tolist())) for at, spec in enumerate(specs)
    )
