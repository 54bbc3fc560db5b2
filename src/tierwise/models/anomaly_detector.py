"""The architecture of ``anomaly-detector``: 32 band energies in, the probability of a defect out."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import nn

from tierwise.core.tensors import Signature, TensorSpec

SIGNATURE = Signature(
    inputs=(TensorSpec("features", (None, 32), "float32"),),
    outputs=(TensorSpec("probability", (None, 1), "float32"),),
)


class AnomalyDetector(nn.Sequential):
    """32 → 16 (ReLU) → 1 (sigmoid). The sigmoid is inside, so every tier yields the same number."""

    signature = SIGNATURE

    def __init__(self) -> None:
        super().__init__(
            OrderedDict(
                hidden=nn.Linear(32, 16),
                relu=nn.ReLU(),
                logit=nn.Linear(16, 1),
                sigmoid=nn.Sigmoid(),
            )
        )

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Band energies float32 [batch, 32] to probabilities float32 [batch, 1]."""
        values = features
        for layer in self:
            values = layer(values)
        return values


def build() -> nn.Module:
    """The untrained module; entry point ``tierwise.architectures``: ``anomaly-detector``."""
    return AnomalyDetector()
