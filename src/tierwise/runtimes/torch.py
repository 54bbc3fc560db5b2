"""PyTorch on the CPU: checkpoints (``.pt``, ``.pth``, ``.safetensors``) and exported programs (``.pt2``)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from tierwise.core.errors import InferenceError, ModelFileError
from tierwise.runtimes.checkpoints import load_checkpoint, load_safetensors
from tierwise.runtimes.exported import load_exported
from tierwise.runtimes.failures import explain, misfit
from tierwise.runtimes.samplewise import SampleWise, has_batch_of_one

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from tierwise.core.runtime import Runtime
    from tierwise.core.tensors import Signature


class TorchRuntime:
    """A PyTorch module that takes one tensor an input, in the signature's order, and runs without gradients.

    It may give a tensor, several in a tuple or list in the signature's order, or a mapping by the outputs' names.
    """

    name = "torch"

    def __init__(self, module: Callable[..., Any], signature: Signature, *, threads: int) -> None:
        self.signature = signature
        self._module: Any = module
        self._names = [spec.name for spec in signature.inputs]
        self._outputs = [spec.name for spec in signature.outputs]
        # PyTorch has one thread count for the whole process: borrowed while a model is loaded, left alone if it fits.
        self._threads = threads
        self._threads_before = torch.get_num_threads()
        if threads != self._threads_before:
            torch.set_num_threads(threads)
        self._checked: list[tuple[Any, ...]] = [()] * len(self._names)

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> Sequence[NDArray[Any]]:
        """See ``Runtime.run``."""
        tensors = []
        for at, name in enumerate(self._names):
            values = inputs.get(name)
            if values is None or (values.shape, values.dtype) != self._checked[at]:
                values = self._check(at, inputs)
            # PyTorch warns about memory that it must not write, although inference does not write it.
            tensors.append(torch.from_numpy(values if values.flags.writeable else values.copy()))
        try:
            with torch.inference_mode():
                answer = self._module(*tensors)
            if isinstance(answer, torch.Tensor) and len(self._outputs) == 1:
                return [answer.numpy()]
            return [tensor.numpy() for tensor in self._in_order(answer)]
        except InferenceError:
            raise
        except Exception as error:
            if self._module is None:
                raise InferenceError("the model is closed") from error
            raise explain(self.signature, inputs, error) from error

    def close(self) -> None:
        """Frees the module, and gives the process back the thread count that it had."""
        if self._module is not None and torch.get_num_threads() == self._threads != self._threads_before:
            torch.set_num_threads(self._threads_before)
        self._module = None

    def _check(self, at: int, inputs: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
        """PyTorch itself would compute with many a wrong shape; so each shape is compared once with the signature."""
        if error := misfit(self.signature, inputs):
            raise error
        values = inputs[self._names[at]]
        self._checked[at] = (values.shape, values.dtype)
        return np.ascontiguousarray(values)

    def _in_order(self, answer: object) -> list[torch.Tensor]:
        if isinstance(answer, dict) and answer.keys() >= set(self._outputs):
            found = [answer[name] for name in self._outputs]
        else:
            found = list(answer) if isinstance(answer, (tuple, list)) else [answer]
        if len(found) != len(self._outputs) or not all(isinstance(value, torch.Tensor) for value in found):
            expected = ", ".join(self._outputs)
            raise InferenceError(f"the module gave {type(answer).__name__} instead of tensors for {expected}")
        return found


def load(path: Path, *, threads: int, trust_pickle: bool) -> Runtime:
    """Loads a ``.pt``, ``.pth``, ``.safetensors`` or ``.pt2`` file.

    Raises ``ModelFileError`` where PyTorch cannot use it and ``UntrustedModelError`` where loading it would run code
    from it and ``trust_pickle`` is not set.
    """
    suffix = path.suffix.lower()
    module: Callable[..., Any]
    if suffix == ".pt2":
        module, signature = load_exported(path, trust_pickle=trust_pickle)
    elif suffix == ".safetensors":
        module, signature = load_safetensors(path)
    else:
        module, signature = load_checkpoint(path, trust_pickle=trust_pickle)
    _check_signature(path, signature)
    runtime = TorchRuntime(module, signature, threads=threads)
    return SampleWise(runtime) if has_batch_of_one(signature) else runtime


def _check_signature(path: Path, signature: Signature) -> None:
    """A signature may come from the file, and then hold anything."""
    if not signature.inputs or not signature.outputs:
        raise ModelFileError(f"{path}: the model has no inputs or no outputs")
    for spec in (*signature.inputs, *signature.outputs):
        try:
            is_numeric = np.dtype(spec.dtype).kind in "biuf"
        except TypeError:
            is_numeric = False
        if not is_numeric or spec.scale is not None or any(size is not None and size < 0 for size in spec.shape):
            raise ModelFileError(f"{path}: {spec} cannot be served by PyTorch here")
