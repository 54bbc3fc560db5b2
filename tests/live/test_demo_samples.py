"""Held-out samples: those of the file, in an order that the seed fixes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from tierwise.core.errors import ModelError, ModelFileError
from tierwise.core.tensors import Signature, TensorSpec
from tierwise.live.samples import held_out_samples
from tierwise.models.card import ModelCard

if TYPE_CHECKING:
    from pathlib import Path

FEATURES = np.arange(20, dtype=np.float32).reshape(10, 2)
LABELS = np.arange(10) % 2


def card(samples: str | None = "samples.npz", labels: tuple[str, ...] = ("even", "odd")) -> ModelCard:
    signature = Signature((TensorSpec("x", (None, 2), "float32"),), (TensorSpec("y", (None, 2), "float32"),))
    return ModelCard(
        name="m", version="1", task="multiclass-classification", signature=signature, labels=labels, samples=samples,
        artifacts=(),
    )  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    np.savez(tmp_path / "samples.npz", features=FEATURES, labels=LABELS)
    return tmp_path


def test_every_sample_has_the_truth_of_its_row(folder: Path) -> None:
    samples = held_out_samples(card(), folder, count=10, seed=3)
    assert len({sample.request_id for sample in samples}) == 10
    for sample in samples:
        index = int(sample.request_id.rsplit("-", maxsplit=1)[1])
        assert sample.features.tolist() == FEATURES[index].tolist()
        assert sample.truth == ("even", "odd")[index % 2]


def test_the_seed_fixes_the_order(folder: Path) -> None:
    ids = [[sample.request_id for sample in held_out_samples(card(), folder, count=8, seed=seed)] for seed in (1, 1, 2)]
    assert ids[0] == ids[1] != ids[2]


def test_more_requests_than_samples_go_round_with_ids_of_their_own(folder: Path) -> None:
    samples = held_out_samples(card(), folder, count=25, seed=0)
    assert len({sample.request_id for sample in samples}) == 25
    assert samples[0].features.tolist() == samples[10].features.tolist() == samples[20].features.tolist()


def test_what_cannot_be_read_is_named(folder: Path) -> None:
    with pytest.raises(ModelError, match="no held-out samples"):
        held_out_samples(card(None), folder, count=1, seed=0)
    with pytest.raises(ModelFileError, match=r"missing\.npz"):
        held_out_samples(card("missing.npz"), folder, count=1, seed=0)
    (folder / "broken.npz").write_bytes(b"PK\x03\x04 not really")
    with pytest.raises(ModelFileError, match=r"broken\.npz"):
        held_out_samples(card("broken.npz"), folder, count=1, seed=0)
    np.savez(folder / "unlike.npz", features=FEATURES, labels=LABELS[:4])
    with pytest.raises(ModelError, match="10 samples and 4 labels"):
        held_out_samples(card("unlike.npz"), folder, count=1, seed=0)
    with pytest.raises(ModelError, match="the card names 0 labels"):
        held_out_samples(card(labels=()), folder, count=10, seed=0)


def test_a_pickle_in_the_archive_is_not_run(folder: Path) -> None:
    np.savez(folder / "pickled.npz", features=np.array([object()]), labels=np.array([0]))
    with pytest.raises(ModelFileError, match=r"pickled\.npz"):
        held_out_samples(card("pickled.npz"), folder, count=1, seed=0)
