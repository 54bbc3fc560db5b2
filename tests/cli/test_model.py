"""``tierwise model card`` and ``inspect --example``, and samples with labels: what a newcomer copies works."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner

from tierwise.cli.model import model
from tierwise.cli.predict import predict
from tierwise.cli.samples import read_labelled
from tierwise.core.clocks import monotonic_ns
from tierwise.core.errors import InvalidInputError, ModelFileError
from tierwise.messaging.payloads import decode_request
from tierwise.messaging.predict_body import decode_predict
from tierwise.models.card import load_card
from tierwise.runtimes import load_runtime
from tierwise.runtimes.inputs import to_inputs

if TYPE_CHECKING:
    from pathlib import Path


def invoke(command: object, *arguments: object) -> str:
    result = CliRunner().invoke(command, [str(argument) for argument in arguments], catch_exceptions=False)  # type: ignore[arg-type]  # a click command
    assert result.exit_code == 0, result.output
    return result.output


def test_card_writes_what_serve_and_inspect_read(anomaly_detector: Path, tmp_path: Path) -> None:
    for suffix in (".onnx", "-int8.tflite"):
        shutil.copyfile(anomaly_detector / f"anomaly-detector{suffix}", tmp_path / f"pump{suffix}")
    files = [tmp_path / "pump.onnx", tmp_path / "pump-int8.tflite"]
    said = invoke(model, "card", *files, "--labels", "ok, worn", "--threshold", 0.7, "--version", 2)
    assert said.startswith(f"pump 2 in {tmp_path / 'model.yaml'}\n")
    card = load_card(tmp_path)
    assert (card.labels, card.threshold, card.version) == (("ok", "worn"), 0.7, "2")
    assert msgspec.json.decode(invoke(model, "card", tmp_path, "--json"))["version"] == "2"
    told = invoke(model, "inspect", tmp_path)
    assert "labels         ok, worn" in told
    assert "threshold      0.7" in told
    assert "other files    pump-int8.tflite" in told


@pytest.mark.parametrize("name", ["", "anomaly-detector.onnx", "anomaly-detector.pt2", "anomaly-detector-int8.tflite"])
def test_the_example_is_a_request_for_both_transports_that_the_model_takes(
    anomaly_detector: Path, tmp_path: Path, name: str
) -> None:
    given = anomaly_detector
    if name:  # without the card, and so without its samples
        given = shutil.copyfile(anomaly_detector / name, tmp_path / name)
    text = invoke(model, "inspect", given, "--example").encode()
    over_mqtt = decode_request(text, received_ns=monotonic_ns()).request.features
    over_http = decode_predict(text, received_ns=monotonic_ns()).features
    assert np.array_equal(np.asarray(over_mqtt), np.asarray(over_http))
    runtime = load_runtime(given if name else anomaly_detector / "anomaly-detector.onnx")
    [answer] = runtime.run(to_inputs(over_mqtt, runtime.signature)[0])
    runtime.close()
    assert 0 <= float(np.asarray(answer).item()) <= 1


def test_a_card_of_another_name_is_not_taken_for_the_one_beside_it(anomaly_detector: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(anomaly_detector, tmp_path / "copy")
    other = shutil.copyfile(folder / "model.yaml", folder / "model2.yaml")
    with pytest.raises(ModelFileError, match=r"a model card is called model\.yaml"):
        invoke(model, "inspect", other)


def test_the_samples_of_a_model_are_predicted_with_their_accuracy(anomaly_detector: Path) -> None:
    arguments = ("--model", anomaly_detector, "--input", anomaly_detector / "samples.npz")
    figures = json.loads(invoke(predict, *arguments, "--json"))
    assert figures["accuracy"] == pytest.approx(load_card(anomaly_detector).artifacts[0].metrics["accuracy"], abs=1e-4)
    result = CliRunner().invoke(predict, [str(argument) for argument in arguments])
    assert result.stderr == f"accuracy {figures['accuracy']:.4g} on {len(figures['prediction'])} samples\n"


def test_labelled_samples_without_labels_of_the_model_are_told(anomaly_detector: Path, tmp_path: Path) -> None:
    bare = shutil.copyfile(anomaly_detector / "anomaly-detector.onnx", tmp_path / "a b.onnx")
    arguments = ["--model", str(bare), "--input", str(anomaly_detector / "samples.npz")]
    result = CliRunner().invoke(predict, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    assert "no accuracy: the samples are labelled, but no card names the model's labels; " in result.stderr
    assert f"`tierwise model card '{bare}' --labels … --threshold …`" in result.stderr
    as_json = CliRunner().invoke(predict, [*arguments, "--json"], catch_exceptions=False)
    assert "accuracy" not in json.loads(as_json.stdout)


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        (
            "shape: [null, 32]",
            "shape: [null, 33]",
            "signature.inputs[0].shape: {onnx} has [null, 32], the card says [n",
        ),
        ("shape: [null, 32]", "shape: [32]", "signature.inputs[0].shape: {onnx} has [null, 32], the card says [32]"),
        ("dtype: float32", "dtype: float64", "signature.inputs[0].dtype: {onnx} has float32, the card says float64"),
        (
            "runtimes: [onnx]\n    dtype: float32",
            "runtimes: [onnx]\n    dtype: int8",
            "artifacts[{at}].dtype: {onnx} is float32, the card says int8",
        ),
        ("format: onnx", "format: tflite", "artifacts[{at}].format: {onnx} is onnx, the card says tflite"),
    ],
)
def test_a_card_that_says_something_else_than_its_file_is_refused(
    anomaly_detector: Path, tmp_path: Path, before: str, after: str, message: str
) -> None:
    folder = shutil.copytree(anomaly_detector, tmp_path / "pump")
    card = folder / "model.yaml"
    text = card.read_text()
    assert before in text
    card.write_text(text.replace(before, after, 1))
    onnx = "anomaly-detector.onnx"
    at = [one.file for one in load_card(folder).artifacts].index(onnx)
    with pytest.raises(ModelFileError) as caught:
        invoke(model, "inspect", folder)
    told = str(caught.value)
    assert told.startswith(f"{card}:"), told
    assert message.format(onnx=onnx, at=at) in told
    assert told.endswith(f"`tierwise model card {folder}` brings the card up to date")
    invoke(model, "card", folder)
    assert "[null, 32]" in card.read_text()
    invoke(model, "inspect", folder)


def test_a_folder_without_a_card_says_what_writes_one(anomaly_detector: Path, tmp_path: Path) -> None:
    shutil.copyfile(anomaly_detector / "anomaly-detector.onnx", tmp_path / "pump.onnx")
    with pytest.raises(ModelFileError, match=f"there is no model.yaml; `tierwise model card {tmp_path}` writes it"):
        invoke(model, "inspect", tmp_path)
    invoke(model, "card", tmp_path)
    assert "pump.onnx" in invoke(model, "inspect", tmp_path)


def test_a_column_headed_label_is_no_feature(tmp_path: Path) -> None:
    file = tmp_path / "s.csv"
    file.write_text("a,Label,b\n1,worn,2\n3,ok,4\n")
    samples = read_labelled(str(file))
    assert np.asarray(samples.features).tolist() == [[1, 2], [3, 4]]
    assert samples.labels is not None
    assert samples.labels.tolist() == ["worn", "ok"]
    file.write_text("a,label\n1,0\n3,1\n")
    labels = read_labelled(str(file)).labels
    assert labels is not None
    assert labels.tolist() == [0, 1]
    file.write_text("1,2\n3,4\n")
    assert read_labelled(str(file)).labels is None
    file.write_text("a,label\nx,ok\n")
    with pytest.raises(InvalidInputError, match="row 2"):
        read_labelled(str(file))
