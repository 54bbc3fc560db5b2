"""ONNX Runtime: ``.onnx`` files on the CPU."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

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

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> Sequence[NDArray[Any]]:
        """See ``Runtime.run``."""
        try:
            return self._session.run(self._outputs, inputs)  # type: ignore[no-any-return]  # the library ships no types
        except Exception as error:
            if self._session is None:
                raise InferenceError("the model is closed") from error
            raise explain(self.signature, inputs, error) from error

    def close(self) -> None:
        """Frees the session and its memory."""
        self._session = None


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
