"""The architecture of ``digits``: an 8x8 grey image in, the probability of each digit out."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import nn

from tierwise.core.tensors import Signature, TensorSpec

SIGNATURE = Signature(
    inputs=(TensorSpec("image", (None, 8, 8, 1), "float32"),),
    outputs=(TensorSpec("probabilities", (None, 10), "float32"),),
)


class Digits(nn.Sequential):
    """Two convolutions with pooling, one dense layer, softmax inside.

    The image comes channels-last, as cameras and TensorFlow Lite have it: so all artifacts share one signature and
    the one for microcontrollers needs no transposition.
    """

    signature = SIGNATURE

    def __init__(self) -> None:
        super().__init__(
            OrderedDict(
                conv1=nn.Conv2d(1, 8, 3, padding="same"),
                relu1=nn.ReLU(),
                pool1=nn.MaxPool2d(2),
                conv2=nn.Conv2d(8, 16, 3, padding="same"),
                relu2=nn.ReLU(),
                pool2=nn.MaxPool2d(2),
                flatten=nn.Flatten(),
                dense=nn.Linear(64, 10),
                softmax=nn.Softmax(dim=1),
            )
        )

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Grey values 0 (paper) to 1 (ink), float32 [batch, 8, 8, 1], to probabilities float32 [batch, 10]."""
        values = image.permute(0, 3, 1, 2)
        for layer in self:
            values = layer(values)
        return values


def build() -> nn.Module:
    """The untrained module; entry point ``tierwise.architectures``: ``digits``."""
    return Digits()
