"""A network as a short list of layers with numpy weights: the one form that every artifact is written from.

Images are channels-last ([batch, height, width, channels]), as TensorFlow Lite has them; dense weights expect values
flattened in that order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tierwise.core.errors import ModelError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import nn

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


def from_torch(name: str, module: nn.Sequential, source: TensorSpec, result: TensorSpec) -> Network:
    """The layers of a trained ``nn.Sequential`` (channels-first inside, channels-last outside).

    Raises ``ModelError`` for a layer, or a setting of one, that has no counterpart here.
    """
    layers: list[Layer] = []
    shape = _sample_shape(source)
    unflattened: Shape | None = None
    for label, child in module.named_children():
        kind = type(child).__name__
        if kind == "ReLU":
            layers[-1] = _with_relu(layers[-1])
            continue
        layer = _LAYERS[kind](label, child) if kind in _LAYERS else None
        if layer is None or (isinstance(layer, Conv2d) and not _keeps_size(child)):
            raise ModelError(f"{name}: layer {label} cannot be exported: {child}")
        if isinstance(layer, Dense) and unflattened is not None:
            layer = _channels_last(layer, unflattened)
            unflattened = None
        if isinstance(layer, Flatten):
            unflattened = shape
        shape = output_shape(layer, shape)
        layers.append(layer)
    return Network(name, source, result, tuple(layers))


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
            size = 1
            for extent in shape:
                size *= extent
            return (size,)
        case _:
            return shape


def _sample_shape(spec: TensorSpec) -> Shape:
    return tuple(size for size in spec.sample_shape if size is not None)


def _weights(child: nn.Module) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    state = child.state_dict()
    return state["weight"].numpy(), state["bias"].numpy()


def _dense(name: str, child: nn.Module) -> Dense:
    return Dense(name, *_weights(child))


def _conv(name: str, child: nn.Module) -> Conv2d:
    weight, bias = _weights(child)
    return Conv2d(name, weight.transpose(0, 2, 3, 1).copy(), bias)


_LAYERS = {
    "Linear": _dense,
    "Conv2d": _conv,
    "MaxPool2d": lambda name, child: MaxPool2d(name, int(child.kernel_size)),
    "Flatten": lambda name, _: Flatten(name),
    "Sigmoid": lambda name, _: Sigmoid(name),
    "Softmax": lambda name, _: Softmax(name),
}


def _keeps_size(child: nn.Module) -> bool:
    return (child.stride, child.dilation, child.groups, child.padding) == ((1, 1), (1, 1), 1, "same")


def _with_relu(layer: Layer) -> Layer:
    if isinstance(layer, Dense):
        return Dense(layer.name, layer.weight, layer.bias, relu=True)
    if isinstance(layer, Conv2d):
        return Conv2d(layer.name, layer.weight, layer.bias, relu=True)
    raise ModelError(f"a ReLU after {layer.name} cannot be exported: it must follow a convolution or a linear layer")


def _channels_last(layer: Dense, shape: Shape) -> Dense:
    """Columns of a dense layer for values flattened channels-last instead of channels-first."""
    height, width, channels = shape
    columns = layer.weight.reshape(-1, channels, height, width).transpose(0, 2, 3, 1)
    return Dense(layer.name, columns.reshape(len(layer.weight), -1).copy(), layer.bias, layer.relu)
