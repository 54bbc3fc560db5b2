"""The artifacts of a created model: one set of weights, one signature, one answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import safetensors
import safetensors.torch
import torch
from ai_edge_litert import schema_py_generated as schema
from onnx import numpy_helper
from tests.components import need

from tierwise.models.card import ModelCard, load_card, verify
from tierwise.runtimes import load_runtime

FLOAT_FORMATS = ("onnx", "tflite", "pt", "pt2", "safetensors")


class Model:
    """A created model: its folder, card and held-out samples."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.card: ModelCard = load_card(folder)
        with np.load(folder / str(self.card.samples), allow_pickle=False) as samples:
            self.features, self.labels = samples["features"], samples["labels"]

    def file(self, form: str, dtype: str = "float32") -> Path:
        [artifact] = [a for a in self.card.artifacts if (a.format, a.dtype) == (form, dtype)]
        return self.folder / artifact.file

    def outputs(self, path: Path, features: Any = None, runtime: str | None = None) -> np.ndarray:
        loaded = load_runtime(path, runtime=runtime)
        try:
            [outputs] = loaded.run(
                {self.card.signature.inputs[0].name: self.features if features is None else features}
            )
            return np.array(outputs)
        finally:
            loaded.close()


@pytest.fixture(params=["anomaly_detector", "digits"])
def model(request: pytest.FixtureRequest) -> Model:
    return Model(request.getfixturevalue(request.param))


def test_the_card_lists_every_file_with_its_hash(model: Model) -> None:
    listed = {artifact.file for artifact in model.card.artifacts}
    assert listed | {"model.yaml", model.card.samples} == {path.name for path in model.folder.iterdir()}
    for artifact in model.card.artifacts:
        verify(model.card, model.folder / artifact.file)
        assert artifact.size_bytes == (model.folder / artifact.file).stat().st_size
    assert {(a.format, a.dtype) for a in model.card.artifacts} == {(form, "float32") for form in FLOAT_FORMATS} | {
        ("tflite", "int8")
    }


def test_others_may_read_every_file(model: Model) -> None:
    """A container runs as another user."""
    assert all(path.stat().st_mode & 0o044 == 0o044 for path in model.folder.iterdir())


def test_the_preferred_artifact_of_each_runtime(model: Model) -> None:
    name = model.card.name
    files = {
        runtime: model.card.artifact_for(runtime).file for runtime in ("onnx", "litert", "torch", "tflm", "firmware")
    }
    int8 = f"{name}-int8.tflite"
    assert files == {
        "onnx": f"{name}.onnx",
        "litert": f"{name}.tflite",
        "torch": f"{name}.pt",
        "tflm": int8,
        "firmware": int8,
    }


@pytest.mark.parametrize("form", FLOAT_FORMATS)
def test_float_artifacts_have_the_signature_of_the_card(model: Model, form: str) -> None:
    runtime = load_runtime(model.file(form))
    assert runtime.signature == model.card.signature
    runtime.close()


def test_the_int8_artifact_has_it_too_but_for_its_integers(model: Model) -> None:
    runtime = load_runtime(model.file("tflite", "int8"))
    pairs = zip(
        runtime.signature.inputs + runtime.signature.outputs,
        model.card.signature.inputs + model.card.signature.outputs,
        strict=True,
    )
    for int8, real in pairs:
        assert (int8.name, int8.shape, int8.dtype) == (real.name, real.shape, "int8")
        assert int8.scale is not None
        assert int8.zero_point is not None
    runtime.close()


@pytest.mark.parametrize("form", FLOAT_FORMATS)
def test_float_artifacts_agree(model: Model, form: str) -> None:
    reference = model.outputs(model.file("pt"))
    np.testing.assert_allclose(model.outputs(model.file(form)), reference, rtol=0, atol=1e-5)


@pytest.mark.parametrize("form", FLOAT_FORMATS)
@pytest.mark.parametrize("size", [1, 2, 33])
def test_any_batch_size_gives_the_same_answers(model: Model, form: str, size: int) -> None:
    path = model.file(form)
    part = model.outputs(path, model.features[:size])
    assert part.shape[0] == size
    np.testing.assert_allclose(part, model.outputs(path)[:size], rtol=0, atol=1e-6)


@pytest.mark.parametrize("runtime", ["litert", "tflm"])
def test_the_int8_artifact_keeps_its_bound(model: Model, runtime: str) -> None:
    if runtime == "tflm":
        need(package="tflite_micro")
    artifact = model.card.artifact_for(runtime, dtype="int8")
    assert artifact.error_bound is not None
    features = model.features[:200]
    outputs = model.outputs(model.folder / artifact.file, features, runtime)
    reference = model.outputs(model.file("onnx"), features)
    assert 0 < np.abs(outputs - reference).max() <= artifact.error_bound


def test_the_int8_artifact_computes_in_integers_with_a_scale_a_channel(model: Model) -> None:
    graph = tflite_graph(model.file("tflite", "int8"))
    kinds = {tensor.type for tensor in graph.tensors}
    assert kinds <= {schema.TensorType.INT8, schema.TensorType.INT32}, "no float is left"
    for tensor in graph.tensors:
        if tensor.name.endswith(b"/weight"):
            assert len(tensor.quantization.scale) == tensor.shape[0]


def test_int8_inputs_cover_all_of_the_data(model: Model) -> None:
    """Ranges from one large batch hold what is rare; averaged over single samples they would cut it off."""
    runtime = load_runtime(model.file("tflite", "int8"))
    [spec] = runtime.signature.inputs
    runtime.close()
    assert spec.scale is not None
    assert spec.zero_point is not None
    lowest, highest = (spec.scale * (limit - spec.zero_point) for limit in (-128, 127))
    inside = np.mean((model.features >= lowest - spec.scale) & (model.features <= highest + spec.scale))
    assert inside > 0.9999


def test_all_artifacts_hold_the_same_weights(model: Model) -> None:
    state = torch.load(model.file("pt"), weights_only=True)["state_dict"]
    other = safetensors.torch.load_file(model.file("safetensors"))
    exported = torch.export.load(model.file("pt2")).state_dict
    in_onnx = {t.name: numpy_helper.to_array(t) for t in onnx.load(model.file("onnx")).graph.initializer}
    in_tflite = tflite_constants(model.file("tflite"))
    assert set(state) == set(other) == set(exported) == set(in_onnx)
    for name, tensor in state.items():
        weights = tensor.numpy()
        assert torch.equal(tensor, other[name])
        assert torch.equal(tensor, exported[name])
        lite = in_tflite[name.replace(".", "/")]
        for found in (in_onnx[name], lite):
            # Another order of the axes, but the same values.
            np.testing.assert_array_equal(np.sort(found.ravel()), np.sort(weights.ravel()))


def test_checkpoints_name_architecture_and_version(model: Model) -> None:
    checkpoint = torch.load(model.file("pt"), weights_only=True)
    assert set(checkpoint) == {"architecture", "state_dict", "version"}
    assert checkpoint["architecture"] == model.card.architecture == model.card.name
    assert checkpoint["version"] == model.card.version
    with safetensors.safe_open(model.file("safetensors"), "pt") as file:
        assert file.metadata() == {"architecture": model.card.name, "version": model.card.version}


def test_the_onnx_file_is_whole_and_valid(model: Model) -> None:
    onnx.checker.check_model(str(model.file("onnx")), full_check=True)
    loaded = onnx.load(model.file("onnx"), load_external_data=False)
    assert not any(tensor.HasField("data_location") and tensor.data_location for tensor in loaded.graph.initializer)
    assert {entry.key: entry.value for entry in loaded.metadata_props} == {
        "model": model.card.name,
        "version": model.card.version,
    }


def test_tflite_constants_are_aligned(model: Model) -> None:
    """The schema's ``force_align: 16``, which microcontrollers rely on."""
    for dtype in ("float32", "int8"):
        content = model.file("tflite", dtype).read_bytes()
        root = schema.Model.GetRootAs(content, 0)
        starts = [
            buffer._tab.Vector(buffer._tab.Offset(4))
            for buffer in map(root.Buffers, range(root.BuffersLength()))
            if buffer.DataLength()
        ]
        assert starts
        assert all(start % 16 == 0 for start in starts)


def test_tflite_names_are_those_of_the_signature(model: Model) -> None:
    for dtype in ("float32", "int8"):
        packed = schema.ModelT.InitFromPackedBuf(model.file("tflite", dtype).read_bytes(), 0)
        [signature] = packed.signatureDefs
        [graph] = packed.subgraphs
        for maps, indices, spec in (
            (signature.inputs, graph.inputs, model.card.signature.inputs[0]),
            (signature.outputs, graph.outputs, model.card.signature.outputs[0]),
        ):
            [entry] = maps
            [index] = indices
            tensor = graph.tensors[index]
            assert entry.name.decode() == tensor.name.decode() == spec.name
            assert entry.tensorIndex == index
            assert list(tensor.shapeSignature) == [-1, *spec.sample_shape]


def test_no_file_names_a_path_of_this_machine(model: Model) -> None:
    root = str(Path(__file__).parents[2]).encode()
    for path in model.folder.iterdir():
        content = path.read_bytes()
        assert root not in content, path.name
        assert b"site-packages" not in content, path.name


def test_measured_metrics_are_those_of_the_files(model: Model) -> None:
    for artifact in model.card.artifacts:
        outputs = model.outputs(model.folder / artifact.file)
        labels = model.card.label_of(outputs)
        truth = [model.card.labels[index] for index in model.labels]
        assert isinstance(labels, list)
        accuracy = np.mean([found == true for found, true in zip(labels, truth, strict=True)])
        assert artifact.metrics["accuracy"] == pytest.approx(accuracy, abs=1e-3)
        assert artifact.error_bound is not None
        assert artifact.metrics["max_abs_error"] <= artifact.error_bound
        assert artifact.metrics["agreement"] >= (0.99 if artifact.dtype == "int8" else 1.0)


def test_the_models_are_good_and_their_tasks_not_trivial(anomaly_detector: Path, digits: Path) -> None:
    detector, reader = load_card(anomaly_detector), load_card(digits)
    assert 0.93 <= detector.metrics["accuracy"] <= 0.985
    assert detector.metrics["auc"] >= 0.98
    assert reader.metrics["accuracy"] >= 0.96
    for card in (detector, reader):
        for artifact in card.artifacts:
            assert artifact.metrics["accuracy"] >= card.metrics["accuracy"] - 0.01


def test_probabilities_are_inside_the_model(model: Model) -> None:
    outputs = model.outputs(model.file("onnx"))
    assert ((outputs >= 0) & (outputs <= 1)).all()
    if outputs.shape[1] > 1:
        np.testing.assert_allclose(outputs.sum(axis=1), 1, atol=1e-5)


def test_samples_are_labelled_and_held_out(model: Model) -> None:
    assert model.features.dtype == np.float32
    assert model.labels.dtype == np.int64
    assert model.card.data is not None
    assert len(model.features) == len(model.labels) == model.card.data.held_out_samples
    assert model.features.shape[1:] == model.card.signature.inputs[0].sample_shape
    assert set(model.labels.tolist()) == set(range(len(model.card.labels)))


def tflite_graph(path: Path) -> Any:
    return schema.ModelT.InitFromPackedBuf(path.read_bytes(), 0).subgraphs[0]


def tflite_constants(path: Path) -> dict[str, np.ndarray]:
    model = schema.ModelT.InitFromPackedBuf(path.read_bytes(), 0)
    return {
        tensor.name.decode(): np.frombuffer(bytes(model.buffers[tensor.buffer].data), np.float32)
        for tensor in model.subgraphs[0].tensors
        if tensor.type == schema.TensorType.FLOAT32 and model.buffers[tensor.buffer].data is not None
    }
