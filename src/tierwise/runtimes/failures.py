"""Why a call of ``run`` failed: worked out afterwards, so that a call that succeeds pays nothing for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tierwise.core.errors import InferenceError, InvalidInputError, RequestError
from tierwise.runtimes.files import one_line
from tierwise.runtimes.quantization import fed_dtype, is_quantized

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from tierwise.core.tensors import Signature, TensorSpec


def misfit(signature: Signature, inputs: Mapping[str, Any]) -> InvalidInputError | None:
    """The first way in which ``inputs`` break the contract of ``Runtime.run``, or ``None``."""
    names = [spec.name for spec in signature.inputs]
    if set(inputs) != set(names):
        return InvalidInputError(f"expected the inputs {', '.join(names)}, got {', '.join(map(str, inputs)) or 'none'}")
    for spec in signature.inputs:
        values = inputs[spec.name]
        if not isinstance(values, np.ndarray):
            return InvalidInputError(f"{spec.name}: expected an array, got {type(values).__name__}")
        if values.dtype != fed_dtype(spec) and not (is_quantized(spec) and values.dtype == spec.dtype):
            return InvalidInputError(f"{spec.name}: expected {fed_dtype(spec)} ({form(spec)}), got {values.dtype}")
        if not _shape_fits(spec, values.shape):
            return InvalidInputError(f"{spec.name}: expected {form(spec)}, got shape {list(values.shape)}")
    sizes = {len(inputs[spec.name]) for spec in signature.inputs if spec.shape}
    if len(sizes) > 1:
        return InvalidInputError(f"the inputs must be batches of one size, got {sorted(sizes)}")
    return None


def form(spec: TensorSpec) -> str:
    """``float32[?, 32]``: what a tensor looks like, without its name."""
    return str(spec).removeprefix(spec.name).strip()


def explain(signature: Signature, inputs: Mapping[str, NDArray[Any]], error: BaseException) -> RequestError:
    """The error to raise for a failed call: the input's fault where it does not fit, else the execution's."""
    return misfit(signature, inputs) or InferenceError(f"the model failed on this input: {one_line(error)}")


def _shape_fits(spec: TensorSpec, shape: tuple[int, ...]) -> bool:
    if len(shape) != len(spec.shape):
        return False
    if not shape:
        return True
    # A fixed batch of one is executed sample by sample, so it takes any number of them.
    batch_fits = shape[0] > 0 and spec.shape[0] in {None, 1, shape[0]}
    return batch_fits and all(want in {None, size} for want, size in zip(spec.shape[1:], shape[1:], strict=True))
