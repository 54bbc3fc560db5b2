"""The samples of a run: given, of the card, or made up; in an order that the seed fixes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest

from tierwise.core.errors import ModelError, ModelFileError
from tierwise.core.tensors import Signature, TensorSpec
from tierwise.live.samples import choose_samples
from tierwise.models.card import ModelCard
from tierwise.models.samples import Samples

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
    samples = choose_samples(card(), folder, None, count=10, seed=3).samples
    assert len({sample.request_id for sample in samples}) == 10
    for sample in samples:
        index = int(sample.request_id.rsplit("-", maxsplit=1)[1])
        assert np.asarray(sample.features).tolist() == FEATURES[index].tolist()
        assert sample.truth == ("even", "odd")[index % 2]


def test_the_seed_fixes_the_order(folder: Path) -> None:
    ids = [
        [sample.request_id for sample in choose_samples(card(), folder, None, count=8, seed=seed).samples]
        for seed in (1, 1, 2)
    ]
    assert ids[0] == ids[1] != ids[2]


def test_more_requests_than_samples_go_round_with_ids_of_their_own(folder: Path) -> None:
    samples = choose_samples(card(), folder, None, count=25, seed=0).samples
    assert len({sample.request_id for sample in samples}) == 25
    assert np.array_equal(list(samples[0].features), list(samples[10].features))
    assert np.array_equal(list(samples[0].features), list(samples[20].features))


def test_what_cannot_be_read_is_named(folder: Path) -> None:
    with pytest.raises(ModelFileError, match=r"missing\.npz"):
        choose_samples(card("missing.npz"), folder, None, count=1, seed=0)
    (folder / "broken.npz").write_bytes(b"PK\x03\x04 not really")
    with pytest.raises(ModelFileError, match=r"broken\.npz"):
        choose_samples(card("broken.npz"), folder, None, count=1, seed=0)
    np.savez(folder / "unlike.npz", features=FEATURES, labels=LABELS[:4])
    with pytest.raises(ModelError, match="10 samples and 4 labels"):
        choose_samples(card("unlike.npz"), folder, None, count=1, seed=0)
    with pytest.raises(ModelError, match="a sample has the label 7, the model has 2 labels"):
        choose_samples(card(), folder, Samples(FEATURES[:2], np.array([1, 7])), count=1, seed=0)
    with pytest.raises(ModelError, match="a sample has the label 'prime', the model's are even, odd"):
        choose_samples(card(), folder, Samples(FEATURES[:1], np.array(["prime"])), count=1, seed=0)


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (np.zeros((3, 5), np.float32), r"--samples: sample 1 does not fit the model m: x: expected 2 values .*, got 5"),
        (np.array([[0, 1], [2, np.nan]]), r"sample 2 does not fit the model m: x\[1\] is nan"),
        ({"z": np.zeros((3, 2))}, "expected the inputs x, got z"),
    ],
)
def test_samples_that_the_model_does_not_take_are_refused_before_anything_starts(
    tmp_path: Path, features: Any, message: str
) -> None:
    with pytest.raises(ModelError, match=message):
        choose_samples(card(None), tmp_path, Samples(features), count=1, seed=0)


def test_a_pickle_in_the_archive_is_not_run(folder: Path) -> None:
    np.savez(folder / "pickled.npz", features=np.array([object()]), labels=np.array([0]))
    with pytest.raises(ModelFileError, match=r"pickled\.npz"):
        choose_samples(card("pickled.npz"), folder, None, count=1, seed=0)


def test_given_samples_come_before_the_cards_and_may_name_their_classes(folder: Path) -> None:
    chosen = choose_samples(card(), folder, Samples(FEATURES[:2] + 100, np.array(["odd", "even"])), count=2, seed=0)
    assert chosen.kind == "given"
    assert {(np.asarray(sample.features)[0], sample.truth) for sample in chosen.samples} == {
        (100, "odd"),
        (102, "even"),
    }


def test_without_any_they_are_random_and_have_no_truth(tmp_path: Path) -> None:
    chosen = [choose_samples(card(None), tmp_path, None, count=300, seed=seed) for seed in (1, 1, 2)]
    first, again, other = ([np.asarray(sample.features).tolist() for sample in one.samples] for one in chosen)
    assert first == again != other
    assert (chosen[0].kind, chosen[0].has_truth, len(first)) == ("random", False, 300)
    assert {sample.truth for sample in chosen[0].samples} == {None}
    assert np.abs(np.mean(first)) < 0.5 < np.std(first)


def test_unlabelled_samples_are_sent_without_a_truth(folder: Path) -> None:
    np.savez(folder / "bare.npz", features=FEATURES)
    chosen = choose_samples(card("bare.npz"), folder, None, count=3, seed=0)
    assert (chosen.kind, chosen.has_truth) == ("held-out", False)
    assert not choose_samples(card(labels=()), folder, None, count=3, seed=0).has_truth


def test_several_inputs_are_sent_by_name(tmp_path: Path) -> None:
    two = Signature(
        (TensorSpec("a", (None, 2), "float32"), TensorSpec("b", (None, 3, None), "int64")),
        (TensorSpec("y", (None, 2), "float32"),),
    )
    [sample] = choose_samples(
        msgspec.structs.replace(card(None), signature=two), tmp_path, None, count=1, seed=0
    ).samples
    assert isinstance(sample.features, dict)
    assert {name: (array.shape, array.dtype.name) for name, array in sample.features.items()} == {
        "a": ((2,), "float32"),
        "b": ((3, 32), "int64"),
    }
