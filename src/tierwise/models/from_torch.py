"""Reads the layers out of a trained torch module."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from torch import nn

from tierwise.core.errors import ModelError
from tierwise.models.layers import (
    Conv2d,
    Dense,
    Flatten,
    Layer,
    MaxPool2d,
    Network,
    Shape,
    Sigmoid,
    Softmax,
    output_shape,
)

if TYPE_CHECKING:
    from tierwise.core.tensors import TensorSpec


def from_torch(name: str, module: nn.Sequential, source: TensorSpec, result: TensorSpec) -> Network:
    """The layers of a ``nn.Sequential`` (channels-first inside, channels-last outside) as a network.

    Raises ``ModelError`` for a layer, or a setting of one, that has no counterpart.
    """
    network = Network(name, source, result, ())
    layers: list[Layer] = []
    shape = network.sample_shape
    flattened: Shape | None = None
    for label, child in module.named_children():
        if isinstance(child, nn.ReLU):
            layers[-1:] = [_with_relu(name, layers[-1:])]
            continue
        layer = _layer(label, child)
        if layer is None:
            raise ModelError(f"{name}: layer {label} cannot be exported: {child}")
        if isinstance(layer, Dense) and flattened is not None:
            layer, flattened = _channels_last(layer, flattened), None
        if isinstance(layer, Flatten):
            flattened = shape
        shape = output_shape(layer, shape)
        layers.append(layer)
    return replace(network, layers=tuple(layers))


def _layer(label: str, child: nn.Module) -> Layer | None:
    match child:
        case nn.Linear() | nn.Conv2d(stride=(1, 1), dilation=(1, 1), groups=1, padding="same"):
            return _weighted(label, child)
        case nn.MaxPool2d(kernel_size=int(size), padding=0, dilation=1, ceil_mode=False) if child.stride == size:
            return MaxPool2d(label, size)
        case nn.Flatten(start_dim=1, end_dim=-1):
            return Flatten(label)
        case nn.Sigmoid():
            return Sigmoid(label)
        case nn.Softmax(dim=1):
            return Softmax(label)
        case _:
            return None


def _weighted(label: str, child: nn.Linear | nn.Conv2d) -> Dense | Conv2d:
    weight = child.weight.detach().numpy()
    bias = np.zeros(len(weight), np.float32) if child.bias is None else child.bias.detach().numpy()
    if isinstance(child, nn.Linear):
        return Dense(label, weight, bias)
    return Conv2d(label, weight.transpose(0, 2, 3, 1).copy(), bias)


def _with_relu(name: str, last: list[Layer]) -> Layer:
    """Both formats fuse the activation into the layer before it."""
    match last:
        case [Dense() | Conv2d() as layer]:
            return replace(layer, relu=True)
        case _:
            raise ModelError(f"{name}: a ReLU cannot be exported unless it follows a convolution or a linear layer")


def _channels_last(layer: Dense, shape: Shape) -> Dense:
    """Columns of a dense layer for values flattened channels-last instead of channels-first."""
    height, width, channels = shape
    columns = layer.weight.reshape(-1, channels, height, width).transpose(0, 2, 3, 1)
    return replace(layer, weight=columns.reshape(len(layer.weight), -1).copy())
