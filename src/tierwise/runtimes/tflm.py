"""TensorFlow Lite Micro on the host (PyPI ``tflite-micro``): the kernels of a microcontroller, bit for bit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from tflite_micro.python.tflite_micro import runtime
from tflite_micro.tensorflow.lite.micro.python import schema_py_generated as schema

from tierwise.core.errors import InferenceError, InvalidInputError, ModelFileError
from tierwise.core.tensors import Signature, TensorSpec
from tierwise.runtimes.failures import explain, misfit
from tierwise.runtimes.files import one_line
from tierwise.runtimes.quantization import dequantize, quantize
from tierwise.runtimes.samplewise import SampleWise
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
    """A model in a TensorFlow Lite Micro interpreter: one sample a call, shapes fixed by the file."""

    name = "tflm"

    def __init__(self, interpreter: runtime.Interpreter, signature: Signature) -> None:
        self.signature = signature
        self._interpreter: Any = interpreter

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> Sequence[NDArray[Any]]:
        """See ``Runtime.run``; ``SampleWise`` brings batches down to one sample."""
        interpreter = self._interpreter
        if interpreter is None:
            raise InferenceError("the model is closed")
        # Checked beforehand: the library prints its complaints instead of raising them.
        if error := misfit(self.signature, inputs):
            raise error
        try:
            for at, spec in enumerate(self.signature.inputs):
                values = inputs[spec.name]
                is_real = spec.scale is not None and values.dtype == np.float32
                interpreter.set_input(quantize(values, spec) if is_real else values, at)
            interpreter.invoke()
            outputs = [interpreter.get_output(at) for at in range(len(self.signature.outputs))]
        except InvalidInputError:
            raise
        except Exception as error:
            raise explain(self.signature, inputs, error) from error
        return [
            values if spec.scale is None else dequantize(values, spec)
            for values, spec in zip(outputs, self.signature.outputs, strict=True)
        ]

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
    return SampleWise(TflmRuntime(interpreter, fixed))


def _with_shapes(specs: tuple[TensorSpec, ...], details: Callable[[int], dict[str, Any]]) -> tuple[TensorSpec, ...]:
    return tuple(
        msgspec.structs.replace(spec, shape=tuple(details(at)["shape"].tolist())) for at, spec in enumerate(specs)
    )
