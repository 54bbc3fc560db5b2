"""LiteRT and TensorFlow Lite Micro: resizing, quantised ends, names, and files that contradict themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from tests.runtimes.tiny import edited_tflite

from tierwise.core.errors import InvalidInputError, ModelFileError
from tierwise.runtimes import load_runtime
from tierwise.runtimes.quantization import dequantize, quantize

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from numpy.typing import NDArray


def first_graph(edit: Callable[[Any], None]) -> Callable[[Any], None]:
    """The edit, applied to the model's first graph."""
    return lambda model: edit(model.subgraphs[0])


def test_an_int8_model_states_scale_and_zero_point(artifacts: Mapping[str, Path]) -> None:
    for runtime in ("litert", "tflm"):
        signature = load_runtime(artifacts["int8"], runtime=runtime).signature
        for spec in (*signature.inputs, *signature.outputs):
            assert spec.dtype == "int8"
            assert spec.scale is not None
            assert spec.scale > 0
            assert spec.zero_point is not None


@pytest.mark.parametrize("runtime", ["litert", "tflm"])
def test_integers_of_the_models_own_dtype_are_taken_as_they_are(
    artifacts: Mapping[str, Path], samples: NDArray[np.float32], runtime: str
) -> None:
    loaded = load_runtime(artifacts["int8"], runtime=runtime)
    q = quantize(samples[:3], loaded.signature.inputs[0])
    assert q.dtype == np.int8
    (from_integers,) = loaded.run({"features": q})
    (from_reals,) = loaded.run({"features": samples[:3]})
    np.testing.assert_array_equal(from_integers, from_reals)
    assert from_reals.dtype == np.float32


def test_what_comes_out_lies_on_the_outputs_steps(artifacts: Mapping[str, Path], samples: NDArray[np.float32]) -> None:
    loaded = load_runtime(artifacts["int8"])
    (answer,) = loaded.run({"features": samples[:50]})
    spec = loaded.signature.outputs[0]
    np.testing.assert_array_equal(dequantize(quantize(answer, spec), spec), answer)


def test_the_interpreter_is_resized_only_when_the_batch_size_changes(artifacts: Mapping[str, Path]) -> None:
    loaded: Any = load_runtime(artifacts[".tflite"])
    interpreter = loaded._interpreter
    resized: list[tuple[int, ...]] = []
    original = interpreter.resize_tensor_input

    def resize(index: int, shape: tuple[int, ...]) -> None:
        resized.append(tuple(shape))
        original(index, shape)

    interpreter.resize_tensor_input = resize
    for batch in (1, 1, 3, 3, 3, 1, 32, 32):
        loaded.run({"features": np.zeros((batch, 32), np.float32)})
    assert resized == [(1, 32), (3, 32), (1, 32), (32, 32)]


def test_a_failed_resize_does_not_spoil_the_next_call(artifacts: Mapping[str, Path]) -> None:
    loaded = load_runtime(artifacts[".tflite"])
    before = loaded.run({"features": np.ones((2, 32), np.float32)})[0]
    with pytest.raises(InvalidInputError):
        loaded.run({"features": np.ones((2, 16), np.float32)})
    np.testing.assert_array_equal(loaded.run({"features": np.ones((2, 32), np.float32)})[0], before)


def test_a_graph_that_holds_its_batch_size_runs_sample_by_sample(digits: Path, tmp_path: Path) -> None:
    def hold(model: Any) -> None:
        graph = model.subgraphs[0]
        shape = next(tensor for tensor in graph.tensors if tensor.name == b"flatten/shape")
        model.buffers[shape.buffer].data = np.array([1, 64], np.int32).view(np.uint8)

    source = digits / "digits.tflite"
    held = load_runtime(edited_tflite(source, tmp_path / "held.tflite", hold))
    with np.load(digits / "samples.npz") as archive:
        images = archive["features"][:5]
    np.testing.assert_allclose(
        held.run({"image": images})[0], load_runtime(source).run({"image": images})[0], atol=1e-6
    )


def test_names_are_the_tensors_where_the_file_has_no_signature(artifacts: Mapping[str, Path], tmp_path: Path) -> None:
    def unnamed(model: Any) -> None:
        model.signatureDefs = None
        model.subgraphs[0].tensors[0].name = b"serving_default_x:0"

    loaded = load_runtime(edited_tflite(artifacts[".tflite"], tmp_path / "unnamed.tflite", unnamed))
    assert loaded.signature.inputs[0].name == "serving_default_x:0"
    assert loaded.run({"serving_default_x:0": np.zeros((1, 32), np.float32)})[0].shape == (1, 1)


def test_names_are_the_signatures_where_it_has_one(artifacts: Mapping[str, Path], tmp_path: Path) -> None:
    def renamed(model: Any) -> None:
        model.signatureDefs[0].inputs[0].name = b"bands"

    loaded = load_runtime(edited_tflite(artifacts[".tflite"], tmp_path / "renamed.tflite", renamed))
    assert loaded.signature.inputs[0].name == "bands"


def no_graph(model: Any) -> None:
    model.subgraphs = []


def no_outputs(graph: Any) -> None:
    graph.outputs = np.array([], np.int32)


def stray_input(graph: Any) -> None:
    graph.inputs = np.array([99], np.int32)


def stray_operand(graph: Any) -> None:
    graph.operators[0].inputs = np.array([0, 2, 99], np.int32)


def left_out_output(graph: Any) -> None:
    graph.operators[0].outputs = np.array([-1], np.int32)


def stray_operator(graph: Any) -> None:
    graph.operators[0].opcodeIndex = 12


def stray_buffer(graph: Any) -> None:
    graph.tensors[2].buffer = 1000


def short_weights(model: Any) -> None:
    buffer = model.buffers[model.subgraphs[0].tensors[2].buffer]
    buffer.data = buffer.data[:-4]


def wrong_weight_shape(graph: Any) -> None:
    graph.tensors[2].shape = np.array([16, 33], np.int32)


def negative_shape(graph: Any) -> None:
    graph.tensors[1].shape = np.array([1, -16], np.int32)


def impossible_type(graph: Any) -> None:
    graph.tensors[1].type = 77


def odd_zero_points(graph: Any) -> None:
    graph.tensors[0].quantization.zeroPoint = np.array([1, 2, 3])


def scale_that_is_no_number(graph: Any) -> None:
    graph.tensors[0].quantization.scale = np.array([np.nan], np.float32)


def text_input(graph: Any) -> None:
    graph.tensors[0].type = 5


@pytest.mark.parametrize("runtime", ["litert", "tflm"])
@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (no_graph, "no graph with inputs and outputs"),
        (first_graph(no_outputs), "no graph with inputs and outputs"),
        (first_graph(stray_input), "the graph names an input or output that is not there"),
        (first_graph(stray_operand), "operator 0 names a tensor that is not there"),
        (first_graph(left_out_output), "operator 0 names a tensor that is not there"),
        (first_graph(stray_operator), "operator 0 has no code"),
        (first_graph(stray_buffer), "its buffer is not there"),
        (short_weights, "bytes of data, expected"),
        (first_graph(wrong_weight_shape), "bytes of data, expected"),
        (first_graph(negative_shape), "impossible type 9 or shape"),
        (first_graph(impossible_type), "impossible type 77"),
        (first_graph(odd_zero_points), "1 scales, but 3 zero points"),
        (first_graph(scale_that_is_no_number), "a scale that is not a positive number"),
        (first_graph(text_input), "not a tensor of numbers"),
    ],
    ids=lambda value: getattr(value, "__name__", None) or str(value)[:30],
)
def test_a_file_that_contradicts_itself_is_told_and_not_executed(
    artifacts: Mapping[str, Path], tmp_path: Path, edit: Callable[[Any], None], message: str, runtime: str
) -> None:
    path = edited_tflite(artifacts["int8"], tmp_path / "edited.tflite", edit)
    with pytest.raises(ModelFileError, match=message) as caught:
        load_runtime(path, runtime=runtime)
    assert "\n" not in str(caught.value)


def test_eight_bytes_that_crash_a_trusting_reader(tmp_path: Path) -> None:
    # The offset of the root table points behind the end of the file.
    path = tmp_path / "crafted.tflite"
    path.write_bytes(b"\x18\x00\x00\x00TFL3")
    for runtime in ("litert", "tflm"):
        with pytest.raises(ModelFileError, match="truncated or damaged"):
            load_runtime(path, runtime=runtime)


def test_an_operator_that_the_micro_runtime_lacks(artifacts: Mapping[str, Path], tmp_path: Path) -> None:
    def exotic(model: Any) -> None:
        for code in model.operatorCodes:
            code.builtinCode = code.deprecatedBuiltinCode = 32  # CUSTOM
            code.customCode = b"NoSuchOperator"

    path = edited_tflite(artifacts["int8"], tmp_path / "exotic.tflite", exotic)
    for runtime in ("litert", "tflm"):
        with pytest.raises(ModelFileError) as caught:
            load_runtime(path, runtime=runtime)
        assert "\n" not in str(caught.value)
