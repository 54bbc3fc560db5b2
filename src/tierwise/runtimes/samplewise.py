"""Batches of any size for an artifact that takes exactly one sample a call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tierwise.runtimes.failures import misfit

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from tierwise.core.runtime import Runtime
    from tierwise.core.tensors import Signature


def has_batch_of_one(signature: Signature) -> bool:
    """Whether every input has a batch dimension that is fixed at one."""
    return all(spec.shape and spec.shape[0] == 1 for spec in signature.inputs)


class SampleWise:
    """A runtime that executes a batch sample by sample on another one and stacks the answers."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self.name = runtime.name
        self.signature = runtime.signature

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> Sequence[NDArray[Any]]:
        """See ``Runtime.run``."""
        sizes = {len(values) for values in inputs.values() if values.ndim}
        if sizes == {1}:
            return self._runtime.run(inputs)
        if error := misfit(self.signature, inputs):
            raise error
        answers = [
            self._runtime.run({name: values[at : at + 1] for name, values in inputs.items()})
            for at in range(sizes.pop())
        ]
        return [np.concatenate(output) for output in zip(*answers, strict=True)]

    def close(self) -> None:
        """Frees the model."""
        self._runtime.close()
