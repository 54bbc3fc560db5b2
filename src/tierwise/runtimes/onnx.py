"""ONNX Runtime: ``.onnx`` files on the CPU."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np

# Read once, when the library is loaded: from 1.31 on it reports its use to its maker over the network otherwise.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
import onnxruntime

from tierwise.core.errors import InferenceError, ModelFileError
from tierwise.core.tensors import Signature, TensorSpec
from tierwise.runtimes.failures import explain
from tierwise.runtimes.files import shortened
from tierwise.runtimes.samplewise import SampleWise, has_batch_of_one

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from tierwise.core.runtime import Runtime

_DTYPES = {
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    "tensor(float16)": "float16",
    "tensor(bool)": "bool",
    **{f"tensor({sign}int{bits})": f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)},
}
_FATAL = 4  # ONNX Runtime's own log goes to stderr; what it reports comes to us as an exception anyway
onnxruntime.set_default_logger_severity(_FATAL)


class OnnxRuntime:
    """A model in an ``onnxruntime.InferenceSession`` on the CPU."""

    name = "onnx"

    def __init__(self, session: onnxruntime.InferenceSession, signature: Signature) -> None:
        self.signature = signature
        self._session: Any = session
        self._outputs = [spec.name for spec in signature.outputs]
        self._one = _OneSample(session, signature) if _has_plain_samples(session) else None

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> Sequence[NDArray[Any]]:
        """See ``Runtime.run``."""
        try:
            if self._one is not None and self._one.takes(inputs):
                return self._run_one(self._one, inputs)
            return self._session.run(self._outputs, inputs)  # type: ignore[no-any-return]  # the library ships no types
        except Exception as error:
            if self._session is None:
                raise InferenceError("the model is closed") from error
            raise explain(self.signature, inputs, error) from error

    def _run_one(self, one: _OneSample, inputs: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        try:
            return one.run(inputs)
        except Exception:  # noqa: BLE001 -- where it is the input's fault, the same is raised again
            outputs: list[NDArray[Any]] = self._session.run(self._outputs, inputs)
            self._one = None  # the outputs have another shape than the model declares
            return outputs

    def close(self) -> None:
        """Frees the session and its memory."""
        self._session = self._one = None


class _OneSample:
    """Executes a single sample in buffers that stay, in three quarters of the time of ``InferenceSession.run``."""

    def __init__(self, session: onnxruntime.InferenceSession, signature: Signature) -> None:
        (spec,) = signature.inputs
        self._name = spec.name
        self._input = np.zeros(_of_one(spec), spec.dtype)
        self._outputs = [np.zeros(_of_one(spec), spec.dtype) for spec in signature.outputs]
        self._shape, self._dtype = self._input.shape, self._input.dtype
        self._run = session.run_with_iobinding
        self._binding = session.io_binding()
        # On the CPU an OrtValue does not copy the array that it is made from: both are the same memory.
        self._binding.bind_ortvalue_input(spec.name, onnxruntime.OrtValue.ortvalue_from_numpy(self._input))
        for output, array in zip(signature.outputs, self._outputs, strict=True):
            self._binding.bind_ortvalue_output(output.name, onnxruntime.OrtValue.ortvalue_from_numpy(array))

    def takes(self, inputs: Mapping[str, NDArray[Any]]) -> bool:
        """Whether it is exactly such a sample."""
        features = inputs[self._name]
        return features.shape == self._shape and features.dtype == self._dtype

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """The outputs, which are the caller's to keep."""
        self._input[...] = inputs[self._name]
        self._run(self._binding)
        return [output.copy() for output in self._outputs]


def _has_plain_samples(session: onnxruntime.InferenceSession) -> bool:
    """Whether one input and all outputs are batches of the same open size, and nothing else of their shapes is open."""
    inputs = session.get_inputs()
    shapes = [node.shape for node in (*inputs, *session.get_outputs())]
    sizes = {shape[0] if shape else None for shape in shapes}
    return (
        len(inputs) == len(sizes) == 1
        and isinstance(sizes.pop(), str)
        and all(isinstance(size, int) for shape in shapes for size in shape[1:])
    )


def _of_one(spec: TensorSpec) -> tuple[int, ...]:
    return (1, *(size for size in spec.sample_shape if size is not None))


def session_options(threads: int) -> onnxruntime.SessionOptions:
    """One small model a call: threads that spin while they wait would only burn the core of a neighbour."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    options.log_severity_level = _FATAL
    return options


def load(path: Path, *, threads: int) -> Runtime:
    """Loads an ``.onnx`` file. Raises ``ModelFileError`` where ONNX Runtime cannot use it."""
    try:
        session = onnxruntime.InferenceSession(str(path), session_options(threads), providers=["CPUExecutionProvider"])
    except Exception as error:
        told = str(error).removeprefix("[ONNXRuntimeError] : ").replace(f"Load model from {path} failed:", "")
        raise ModelFileError(f"{path}: not a usable ONNX model: {shortened(told)}") from error
    signature = Signature(
        inputs=tuple(_spec(path, node) for node in session.get_inputs()),
        outputs=tuple(_spec(path, node) for node in session.get_outputs()),
    )
    runtime = OnnxRuntime(session, signature)
    return SampleWise(runtime) if has_batch_of_one(signature) else runtime


def _spec(path: Path, node: onnxruntime.NodeArg) -> TensorSpec:
    dtype = _DTYPES.get(node.type)
    if dtype is None:
        raise ModelFileError(
            f"{path}: {node.name} is a {node.type}; only tensors of numbers are served "
            "(export classifiers with probabilities as a tensor, e.g. zipmap=False)"
        )
    shape = tuple(size if isinstance(size, int) else None for size in node.shape)
    return TensorSpec(name=node.name, shape=shape, dtype=dtype)
