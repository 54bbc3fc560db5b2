"""The card of somebody's own files: what is read, what is kept, what does not fit together."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.runtimes.tiny import onnx_sum
from tierwise.core.errors import ConfigurationError, ModelError, ModelFileError
from tierwise.models.card import load_card, save_card, sha256_of, verify
from tierwise.models.samples import Samples, load_samples
from tierwise.serving.describe import Told, describe

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def pump(anomaly_detector: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "pump"
    folder.mkdir()
    for suffix in (".onnx", "-int8.tflite", ".pt2"):
        shutil.copyfile(anomaly_detector / f"anomaly-detector{suffix}", folder / f"pump{suffix}")
    return folder


def held_out(model: Path) -> Samples:
    return load_samples(model / "samples.npz")


def test_everything_is_read_from_the_files(pump: Path) -> None:
    card = describe([pump / "pump.onnx", pump / "pump-int8.tflite"], Told())
    assert (card.name, card.version, card.task) == ("pump", "1", "regression")
    assert [str(spec) for spec in (*card.signature.inputs, *card.signature.outputs)] == [
        "features float32[?, 32]",
        "probability float32[?, 1]",
    ]
    assert [(a.file, a.format, a.runtimes, a.dtype) for a in card.artifacts] == [
        ("pump.onnx", "onnx", ("onnx",), "float32"),
        ("pump-int8.tflite", "tflite", ("tflm", "firmware", "litert"), "int8"),
    ]
    for artifact in card.artifacts:
        assert verify(card, pump / artifact.file).size_bytes == (pump / artifact.file).stat().st_size


def test_a_card_of_one_int8_file_takes_real_numbers(pump: Path) -> None:
    card = describe([pump / "pump-int8.tflite"], Told())
    assert {spec.dtype for spec in (*card.signature.inputs, *card.signature.outputs)} == {"float32"}


def test_samples_measure_every_file(pump: Path, anomaly_detector: Path) -> None:
    told = Told(labels=("ok", "worn"), threshold=0.5, samples=(None, held_out(anomaly_detector)))
    card = describe([pump], told)
    assert card.task == "binary-classification"
    assert card.samples == "samples.npz"
    measured = {artifact.file: artifact.metrics for artifact in card.artifacts}
    of_its_maker = {artifact.file: artifact.metrics for artifact in load_card(anomaly_detector).artifacts}
    for suffix in (".onnx", "-int8.tflite", ".pt2"):
        assert measured[f"pump{suffix}"]["accuracy"] == of_its_maker[f"anomaly-detector{suffix}"]["accuracy"]
    assert measured["pump.onnx"]["agreement"] == 1
    assert measured["pump-int8.tflite"]["max_abs_error"] > measured["pump.pt2"]["max_abs_error"]


def test_without_labels_only_agreement_is_measured(pump: Path, anomaly_detector: Path) -> None:
    card = describe([pump], Told(samples=(None, Samples(held_out(anomaly_detector).features))))
    assert all(artifact.metrics.keys() == {"agreement", "max_abs_error"} for artifact in card.artifacts)


def test_again_after_an_export_keeps_what_was_told(pump: Path, anomaly_detector: Path) -> None:
    save_card(describe([pump / "pump.onnx"], Told(name="p", version="2", labels=("a", "b"), threshold=0.7)), pump)
    shutil.copyfile(anomaly_detector / "anomaly-detector.pt2", pump / "new.pt2")
    again = describe([pump / "new.pt2"], Told(version="3"))
    assert (again.name, again.version, again.labels, again.threshold) == ("p", "3", ("a", "b"), 0.7)
    assert [artifact.file for artifact in again.artifacts] == ["pump.onnx", "new.pt2"]

    onnx_sum(pump / "pump.onnx")
    save_card(again, pump)
    with pytest.raises(ModelError, match=r"pump.onnx .*are not one model"):
        describe([pump], Told())
    (pump / "new.pt2").unlink()
    for file in ("pump-int8.tflite", "pump.pt2"):
        (pump / file).unlink()
    once_more = describe([pump], Told())
    assert [(one.file, one.sha256) for one in once_more.artifacts] == [("pump.onnx", sha256_of(pump / "pump.onnx"))]


@pytest.mark.parametrize(
    ("told", "said"),
    [
        (Told(labels=("ok",), threshold=0.5), "two labels"),
        (Told(labels=("ok", "worn")), "need a threshold"),
        (Told(name="a pump"), "name"),
    ],
)
def test_what_does_not_fit_is_told(pump: Path, told: Told, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        describe([pump], told)
    assert not (pump / "model.yaml").exists()


def test_samples_that_are_somebody_elses_are_not_overwritten(pump: Path, anomaly_detector: Path) -> None:
    (pump / "samples.npz").write_bytes(b"mine")
    with pytest.raises(ConfigurationError, match="is there already"):
        describe([pump], Told(samples=(None, held_out(anomaly_detector))))
    assert (pump / "samples.npz").read_bytes() == b"mine"
    np.savez(pump / "held.npz", features=held_out(anomaly_detector).array)
    card = describe([pump], Told(samples=(pump / "held.npz", load_samples(pump / "held.npz"))))
    assert card.samples == "held.npz"


def test_files_are_needed_in_one_folder(pump: Path, tmp_path: Path) -> None:
    other = shutil.copyfile(pump / "pump.onnx", tmp_path / "other.onnx")
    with pytest.raises(ConfigurationError, match="stand in one folder"):
        describe([pump / "pump.onnx", other], Told())
    with pytest.raises(ModelFileError, match="no model at"):
        describe([pump / "missing.onnx"], Told())
    (tmp_path / "notes.txt").touch()
    with pytest.raises(ModelFileError, match="not an artifact"):
        describe([tmp_path / "notes.txt"], Told())
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigurationError, match="there is no artifact"):
        describe([tmp_path / "empty"], Told())
