"""A network as a short list of layers with numpy weights: the one form that every artifact is written from.

Images are channels-last ([batch, height, width, channels]), as TensorFlow Lite has them; dense weights expect values
flattened in that order.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from tierwise.core.tensors import TensorSpec


@dataclass(frozen=True, slots=True)
class Dense:
    """y = x · weightᵀ + bias. ``weight`` float32 [out, in], ``bias`` float32 [out]."""

    name: str
    weight: NDArray[np.float32]
    bias: NDArray[np.float32]
    relu: bool = False


@dataclass(frozen=True, slots=True)
class Conv2d:
    """Convolution of stride 1 that keeps height and width. ``weight`` float32 [out, height, width, in]."""

    name: str
    weight: NDArray[np.float32]
    bias: NDArray[np.float32]
    relu: bool = False


@dataclass(frozen=True, slots=True)
class MaxPool2d:
    """Maximum over squares of ``size``, that far apart."""

    name: str
    size: int


@dataclass(frozen=True, slots=True)
class Flatten:
    """[batch, height, width, channels] to [batch, values]."""

    name: str


@dataclass(frozen=True, slots=True)
class Sigmoid:
    """1 / (1 + e^-x)."""

    name: str


@dataclass(frozen=True, slots=True)
class Softmax:
    """e^x over its sum along the last axis."""

    name: str


Layer = Dense | Conv2d | MaxPool2d | Flatten | Sigmoid | Softmax
Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Network:
    """A chain of layers between one named input and one named output (both float32, batch first)."""

    name: str
    input: TensorSpec
    output: TensorSpec
    layers: tuple[Layer, ...]

    @property
    def sample_shape(self) -> Shape:
        """Shape of one input sample."""
        return tuple(size for size in self.input.sample_shape if size is not None)


def output_shape(layer: Layer, shape: Shape) -> Shape:
    """Shape of one sample after a layer, without the batch dimension."""
    match layer:
        case Dense():
            return (layer.weight.shape[0],)
        case Conv2d():
            return (*shape[:2], layer.weight.shape[0])
        case MaxPool2d():
            return (shape[0] // layer.size, shape[1] // layer.size, shape[2])
        case Flatten():
            return (math.prod(shape),)
        case _:
            return shape
