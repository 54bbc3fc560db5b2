"""What the models are trained on, and the architectures that checkpoints name."""

from __future__ import annotations

from importlib.metadata import entry_points

import numpy as np
import pytest
from tests.components import need

from tierwise.models.catalog import RECIPES


@pytest.mark.parametrize("name", RECIPES)
def test_every_model_is_an_architecture_by_its_name(name: str) -> None:
    need(package="torch")
    [entry] = entry_points(group="tierwise.architectures", name=name)
    assert entry.value == RECIPES[name].architecture
    module = entry.load()()
    assert [spec.name for spec in module.signature.inputs]
    assert not any(parameter.isnan().any() for parameter in module.parameters())


def test_digits_are_the_real_ones_with_a_fifth_of_each_class_held_out() -> None:
    need(package="sklearn")
    data = RECIPES["digits"].dataset(1)
    (images, labels), (held_out, truth) = data.training, data.held_out
    assert images.shape[1:] == held_out.shape[1:] == (8, 8, 1)
    assert len(images) + len(held_out) == 1797, "all of the UCI test part"
    assert images.dtype == held_out.dtype == np.float32
    assert (images.min(), images.max()) == (0.0, 1.0)
    share = np.bincount(truth) / (np.bincount(labels) + np.bincount(truth))
    np.testing.assert_allclose(share, 0.2, atol=0.01)
    assert not np.array_equal(data.held_out[1], RECIPES["digits"].dataset(2).held_out[1]), "the seed decides"


def test_no_recording_is_both_trained_on_and_held_out() -> None:
    data = RECIPES["anomaly-detector"].dataset(1)
    training = {row.tobytes() for row in data.training[0]}
    assert not training & {row.tobytes() for row in data.held_out[0]}
    assert len(data.held_out[0]) == 2000
