"""Calls before the first request: they pay what a runtime does lazily, and tell how long a call takes."""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from tierwise.core.errors import RequestError
from tierwise.runtimes.quantization import fed_dtype

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tierwise.core.runtime import Runtime
    from tierwise.core.tensors import Signature

_BUDGET_S = 0.5
# Tried in turn for dimensions that the signature leaves free: a kernel or a stride may need more than one value.
_FREE_SIZES = (1, 32, 224)


def warm_up(runtime: Runtime, *, runs: int = 10) -> float:
    """Executes the model on zeros, one sample a call; returns the median time of a warm call in seconds.

    One call is not counted; then up to ``runs`` are timed (at least one; no further one once half a second has
    passed). Raises what ``Runtime.run`` raises when the model does not even execute on zeros.
    """
    inputs = _first_that_runs(runtime)
    times_s: list[float] = []
    ends_at = time.perf_counter() + _BUDGET_S
    while not times_s or (len(times_s) < runs and time.perf_counter() < ends_at):
        started = time.perf_counter()
        runtime.run(inputs)
        times_s.append(time.perf_counter() - started)
    return statistics.median(times_s)


def zeros(signature: Signature, *, batch: int = 1, free: int = 1) -> dict[str, NDArray[Any]]:
    """A batch of zeros that fits the signature; dimensions left free get the size ``free``."""
    return {
        spec.name: np.zeros(
            [
                batch if axis == 0 and size is None else free if size is None else size
                for axis, size in enumerate(spec.shape)
            ],
            dtype=fed_dtype(spec),
        )
        for spec in signature.inputs
    }


def _first_that_runs(runtime: Runtime) -> dict[str, NDArray[Any]]:
    has_free = any(size is None for spec in runtime.signature.inputs for size in spec.sample_shape)
    *small, last = _FREE_SIZES if has_free else _FREE_SIZES[:1]
    for free in small:
        inputs = zeros(runtime.signature, free=free)
        try:
            runtime.run(inputs)
        except RequestError:
            continue
        return inputs
    inputs = zeros(runtime.signature, free=last)
    runtime.run(inputs)
    return inputs
