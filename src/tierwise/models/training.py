"""Trains a classifier the same way every time: fixed seed, one thread, no global state left behind."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy as np
    from numpy.typing import NDArray


@contextlib.contextmanager
def reproducible(seed: int) -> Iterator[None]:
    """One thread, deterministic kernels and a fixed seed; what was set before comes back."""
    threads = torch.get_num_threads()
    strict = torch.are_deterministic_algorithms_enabled()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        torch.set_num_threads(1)
        torch.use_deterministic_algorithms(True)  # noqa: FBT003  torch takes it by position only
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(strict)
            torch.set_num_threads(threads)


def train(
    build: Callable[[], nn.Module],
    features: NDArray[np.float32],
    labels: NDArray[np.int64],
    *,
    seed: int,
    epochs: int,
    batch_size: int,
    learning_rate: float,
) -> nn.Module:
    """Builds a module that ends in probabilities and fits it with Adam, the rate falling along a half cosine.

    ``features`` [n, ...], ``labels`` class indices [n]; one output value a sample is the probability of class 1.
    Returns it in evaluation mode, its weights frozen.
    """
    inputs, targets = torch.from_numpy(features), torch.from_numpy(labels)
    with reproducible(seed):
        module = build()
        optimizer = torch.optim.Adam(module.parameters(), lr=learning_rate, weight_decay=1e-3)
        steps = epochs * -(-len(inputs) // batch_size)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        for _ in range(epochs):
            for batch in torch.split(torch.randperm(len(inputs)), batch_size):
                optimizer.zero_grad()
                _loss(module(inputs[batch]), targets[batch]).backward()  # type: ignore[no-untyped-call]  # torch's own
                optimizer.step()
                schedule.step()
    return module.eval().requires_grad_(requires_grad=False)


def predict(module: nn.Module, features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Outputs of a module for a batch, without gradients."""
    with torch.inference_mode():
        outputs: NDArray[np.float32] = module(torch.from_numpy(features)).numpy()
    return outputs


def _loss(probabilities: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Cross entropy of probabilities: the modules have their sigmoid or softmax inside."""
    if probabilities.shape[1] == 1:
        return functional.binary_cross_entropy(probabilities[:, 0], targets.float())
    return functional.nll_loss(torch.log(probabilities.clamp_min(1e-12)), targets)
