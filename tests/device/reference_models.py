"""The five MLPerf Tiny architectures with random weights.

Cost and operators depend on the architecture alone, so these stand in where the trained files are not at hand.
Shapes: mlcommons/tiny, benchmark/training. Flatten is written as converters do for a free batch size: SHAPE,
STRIDED_SLICE and PACK compute the shape of a RESHAPE.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from tests.device.tflite_writer import ModelBuilder

if TYPE_CHECKING:
    from collections.abc import Callable

_RELU = 1


class _Network:
    """A chain of layers; each method returns the number of its output tensor."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self._rng = np.random.default_rng(1)
        self._b = ModelBuilder()
        self._shapes: dict[int, tuple[int, ...]] = {}
        self.input = self._tensor(shape, 3)

    def _tensor(self, shape: tuple[int, ...], zero_point: int = -128, scale: float = 0.05) -> int:
        tensor = self._b.tensor(shape, scale=scale, zero_point=zero_point)
        self._shapes[tensor] = shape
        return tensor

    def _filters(self, shape: tuple[int, ...], axis: int) -> list[int]:
        count, fan_in = shape[axis], math.prod(shape) // shape[axis] if axis == 0 else math.prod(shape[:-1])
        scales = self._rng.uniform(0.5, 1.0, count) / (64 * math.sqrt(fan_in))
        weights = self._b.tensor(shape, scale=scales.tolist(), axis=axis, data=self._rng.integers(-127, 128, shape))
        bias = self._b.tensor(
            [count], "int32", scale=(scales * 0.05).tolist(), data=self._rng.integers(-500, 500, count)
        )
        return [weights, bias]

    def conv(self, x: int, channels: int, kernel: tuple[int, int], stride: int = 1, *, relu: bool = True) -> int:
        batch, height, width, depth = self._shapes[x]
        y = self._tensor((batch, -(-height // stride), -(-width // stride), channels), -128 if relu else 4)
        self._b.operator(
            "CONV_2D", [x, *self._filters((channels, *kernel, depth), 0)], [y], "Conv2D", padding=0, strideH=stride,
            strideW=stride, fusedActivationFunction=_RELU if relu else 0,
        )  # fmt: skip
        return y

    def depthwise(self, x: int, kernel: tuple[int, int], stride: int = 1, *, same: bool = True) -> int:
        batch, height, width, depth = self._shapes[x]
        if same:
            out = (batch, -(-height // stride), -(-width // stride), depth)
        else:
            out = (batch, height - kernel[0] + 1, width - kernel[1] + 1, depth)
        y = self._tensor(out)
        self._b.operator(
            "DEPTHWISE_CONV_2D", [x, *self._filters((1, *kernel, depth), 3)], [y], "DepthwiseConv2D",
            padding=0 if same else 1, strideH=stride, strideW=stride, depthMultiplier=1, fusedActivationFunction=_RELU,
        )  # fmt: skip
        return y

    def add(self, a: int, b: int) -> int:
        y = self._tensor(self._shapes[a])
        self._b.operator("ADD", [a, b], [y], "Add", fusedActivationFunction=_RELU)
        return y

    def average(self, x: int) -> int:
        batch, height, width, depth = self._shapes[x]
        y = self._tensor((batch, 1, 1, depth))
        self._b.operator(
            "AVERAGE_POOL_2D", [x], [y], "Pool2D", padding=1, strideH=height, strideW=width, filterHeight=height,
            filterWidth=width,
        )  # fmt: skip
        return y

    def flatten(self, x: int) -> int:
        rank, size = len(self._shapes[x]), math.prod(self._shapes[x])
        shape = self._b.tensor([rank], "int32", scale=None)
        batch = self._b.tensor([], "int32", scale=None)
        packed = self._b.tensor([2], "int32", scale=None)
        rest = self._b.tensor([], "int32", scale=None, data=np.array(size))
        ends = [self._b.tensor([1], "int32", scale=None, data=np.array([value])) for value in (0, 1, 1)]
        self._b.operator("SHAPE", [x], [shape], "Shape")
        self._b.operator("STRIDED_SLICE", [shape, *ends], [batch], "StridedSlice", shrinkAxisMask=1)
        self._b.operator("PACK", [batch, rest], [packed], "Pack", valuesCount=2)
        y = self._tensor((1, size))
        self._b.operator("RESHAPE", [x, packed], [y], "Reshape")
        return y

    def dense(self, x: int, channels: int, *, relu: bool = False) -> int:
        depth = self._shapes[x][-1]
        y = self._tensor((1, channels), -128 if relu else 9, 0.1)
        scale = 0.01 / math.sqrt(depth)
        weights = self._b.tensor([channels, depth], scale=scale, data=self._rng.integers(-127, 128, (channels, depth)))
        bias = self._b.tensor([channels], "int32", scale=scale * 0.05, data=self._rng.integers(-500, 500, channels))
        self._b.operator(
            "FULLY_CONNECTED", [x, weights, bias], [y], "FullyConnected", fusedActivationFunction=_RELU if relu else 0
        )
        return y

    def softmax(self, x: int) -> int:
        y = self._tensor(self._shapes[x], -128, 1 / 256)
        self._b.operator("SOFTMAX", [x], [y], "Softmax", beta=1.0)
        return y

    def finish(self, output: int) -> bytes:
        return self._b.finish([self.input], [output])


def anomaly() -> bytes:
    """Autoencoder 640-128x4-8-128x4-640."""
    network = _Network((1, 640))
    x = network.input
    for width in (128, 128, 128, 128, 8, 128, 128, 128, 128):
        x = network.dense(x, width, relu=True)
    return network.finish(network.dense(x, 640))


def keyword() -> bytes:
    """DS-CNN on 49 x 10 features, 12 classes."""
    network = _Network((1, 49, 10, 1))
    x = network.conv(network.input, 64, (10, 4), 2)
    for _ in range(4):
        x = network.conv(network.depthwise(x, (3, 3)), 64, (1, 1))
    return network.finish(network.softmax(network.dense(network.flatten(network.average(x)), 12)))


def image() -> bytes:
    """ResNet on 32 x 32 x 3 images, 10 classes."""
    network = _Network((1, 32, 32, 3))
    x = network.conv(network.input, 16, (3, 3))
    for channels, stride in ((16, 1), (32, 2), (64, 2)):
        y = network.conv(network.conv(x, channels, (3, 3), stride), channels, (3, 3), relu=False)
        x = network.add(x if stride == 1 else network.conv(x, channels, (1, 1), stride, relu=False), y)
    return network.finish(network.softmax(network.dense(network.flatten(network.average(x)), 10)))


def wake_vision() -> bytes:
    """MobileNet v1 0.25 on 96 x 96 x 3 images, 2 classes."""
    network = _Network((1, 96, 96, 3))
    x = network.conv(network.input, 8, (3, 3), 2)
    blocks = [(16, 1), (32, 2), (32, 1), (64, 2), (64, 1), (128, 2), *[(128, 1)] * 5, (256, 2), (256, 1)]
    for channels, stride in blocks:
        x = network.conv(network.depthwise(x, (3, 3), stride), channels, (1, 1))
    return network.finish(network.softmax(network.dense(network.flatten(network.average(x)), 2)))


def wake_word() -> bytes:
    """DS-TCN on 30 frames of 40 features, 3 classes."""
    network = _Network((1, 30, 1, 40))
    x = network.input
    for channels, taps in ((128, 3), (64, 5), (64, 10), (32, 15)):
        x = network.conv(network.depthwise(x, (taps, 1), same=False), channels, (1, 1))
    return network.finish(network.dense(network.flatten(x), 3))


MODELS: dict[str, Callable[[], bytes]] = {
    "anomaly": anomaly,
    "keyword": keyword,
    "image": image,
    "wake-vision": wake_vision,
    "wake-word": wake_word,
}
