"""Made-up samples that fit a signature: for a first request, and where somebody has no data at hand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tierwise.runtimes.quantization import fed_dtype

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tierwise.core.tensors import Signature, TensorSpec

FREE_SIZE = 32
"""Size of a dimension that the signature leaves free."""


def random_samples(signature: Signature, count: int, *, seed: int = 0) -> NDArray[Any] | dict[str, NDArray[Any]]:
    """``count`` samples, batch first: one array, or one for each name where the model has several inputs.

    Floats are standard normal, those of a quantised input evenly spread over what its integers can say; integers are
    0 or 1, which every table of indices has. The same seed gives the same samples.
    """
    random = np.random.default_rng(seed)
    arrays = {spec.name: _values(spec, count, random) for spec in signature.inputs}
    return arrays if len(arrays) > 1 else next(iter(arrays.values()))


def one_request(signature: Signature) -> NDArray[Any] | dict[str, NDArray[Any]]:
    """One sample as a client sends it; a whole batch where the model takes nothing less."""
    fixed = next((spec.shape[0] for spec in signature.inputs if spec.shape), None) or 1
    arrays = random_samples(signature, fixed)
    if isinstance(arrays, dict):
        return {name: shortened(array if fixed > 1 else array[0]) for name, array in arrays.items()}
    return shortened(arrays if fixed > 1 else arrays[0])


def shortened(values: NDArray[Any]) -> NDArray[Any]:
    """Floats to four decimals, for people to read."""
    return values.astype(np.float64).round(4) if values.dtype.kind == "f" else values


def _values(spec: TensorSpec, count: int, random: np.random.Generator) -> NDArray[Any]:
    shape = (count, *(FREE_SIZE if size is None else size for size in spec.sample_shape))
    dtype = np.dtype(fed_dtype(spec))
    if dtype.kind != "f":
        return random.integers(0, 2, shape).astype(dtype)
    if spec.scale is not None:
        ends = np.iinfo(spec.dtype)
        low, high = (spec.scale * (end - (spec.zero_point or 0)) for end in (ends.min, ends.max))
        return random.uniform(low, high, shape).astype(dtype)
    return random.standard_normal(shape).astype(dtype)
