"""LiteRT (formerly TensorFlow Lite): ``.tflite`` files on the CPU, float or full int8."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter

from tierwise.core.errors import InferenceError, InvalidInputError, ModelFileError
from tierwise.core.tensors import Signature, TensorSpec
from tierwise.runtimes.failures import explain, misfit
from tierwise.runtimes.files import one_line
from tierwise.runtimes.quantization import dequantizer, is_quantized, quantizer
from tierwise.runtimes.samplewise import SampleWise
from tierwise.runtimes.tflite import read_tflite

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from tierwise.core.runtime import Runtime

_FLOAT32 = np.dtype(np.float32)


class LitertRuntime:
    """A model in an ``ai_edge_litert`` interpreter, which is resized only when the batch size changes."""

    name = "litert"

    def __init__(self, interpreter: Interpreter, signature: Signature) -> None:
        self.signature = signature
        self._interpreter: Any = interpreter
        indices = [details["index"] for details in interpreter.get_input_details()]
        self._inputs = [
            (spec.name, index, quantizer(spec) if is_quantized(spec) else None)
            for spec, index in zip(signature.inputs, indices, strict=True)
        ]
        self._outputs = [
            (details["index"], dequantizer(spec) if is_quantized(spec) else None)
            for spec, details in zip(signature.outputs, interpreter.get_output_details(), strict=True)
        ]
        self._shapes: list[tuple[int, ...]] = [()] * len(indices)

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> Sequence[NDArray[Any]]:
        """See ``Runtime.run``."""
        try:
            interpreter = self._interpreter
            for at, (name, index, to_integers) in enumerate(self._inputs):
                values = inputs[name]
                if values.shape != self._shapes[at]:
                    self._resize(inputs)
                if to_integers is not None and values.dtype == _FLOAT32:
                    values = to_integers(values)
                interpreter.set_tensor(index, values)
            interpreter.invoke()
            return [
                interpreter.get_tensor(index) if to_reals is None else to_reals(interpreter.get_tensor(index))
                for index, to_reals in self._outputs
            ]
        except InvalidInputError:
            raise
        except Exception as error:
            if self._interpreter is None:
                raise InferenceError("the model is closed") from error
            raise explain(self.signature, inputs, error) from error

    def close(self) -> None:
        """Frees the interpreter and its memory."""
        self._interpreter = None

    def _resize(self, inputs: Mapping[str, NDArray[Any]]) -> None:
        if error := misfit(self.signature, inputs):
            raise error
        # Forgotten first: where resizing fails half-way, the next call must not take the old shapes for valid.
        self._shapes = [()] * len(self._inputs)
        shapes = [inputs[name].shape for name, _, _ in self._inputs]
        for (_, index, _), shape in zip(self._inputs, shapes, strict=True):
            self._interpreter.resize_tensor_input(index, shape)
        self._interpreter.allocate_tensors()
        self._shapes = shapes


def load(path: Path, *, threads: int) -> Runtime:
    """Loads a ``.tflite`` file. Raises ``ModelFileError`` where LiteRT cannot use it."""
    content, signature = read_tflite(path, schema)
    try:
        interpreter = _interpreter(content, threads)
        if any(spec.shape[:1] not in {(1,), (None,)} for spec in signature.inputs):
            return LitertRuntime(interpreter, signature)
        if _takes_any_batch(interpreter):
            return LitertRuntime(interpreter, _with_free_batch(signature))
        return SampleWise(LitertRuntime(_interpreter(content, threads), signature))
    except (RuntimeError, ValueError, TypeError) as error:
        raise ModelFileError(f"{path}: not a usable .tflite model: {one_line(error)}") from error


def _interpreter(content: bytes, threads: int) -> Interpreter:
    # From memory: the library would map the file, and a file that is replaced while mapped ends the process.
    interpreter = Interpreter(model_content=content, num_threads=threads)
    interpreter.allocate_tensors()
    return interpreter


def _takes_any_batch(interpreter: Interpreter) -> bool:
    """Whether the graph follows when its inputs are resized: a constant in it may hold the batch size of one."""
    batch = 2
    try:
        for details in interpreter.get_input_details():
            interpreter.resize_tensor_input(details["index"], [batch, *details["shape"][1:]])
        interpreter.allocate_tensors()
    except (RuntimeError, ValueError):
        return False
    return all(details["shape"][:1].tolist() == [batch] for details in interpreter.get_output_details())


def _with_free_batch(signature: Signature) -> Signature:
    def free(spec: TensorSpec) -> TensorSpec:
        return msgspec.structs.replace(spec, shape=(None, *spec.shape[1:]))

    return Signature(inputs=tuple(map(free, signature.inputs)), outputs=tuple(map(free, signature.outputs)))
