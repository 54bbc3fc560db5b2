"""ONNX Runtime: session options, dtypes, fixed batches, and models that cannot be served."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from tests.components import need
from tests.runtimes.tiny import node, onnx_model, onnx_sum, tensor

from tierwise.core.errors import InferenceError, InvalidInputError, ModelFileError
from tierwise.runtimes import load_runtime, warm_up

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def onnx_packages() -> None:
    """ONNX Runtime, and ``onnx`` to write models with."""
    need(package="onnxruntime")
    need(package="onnx")


def options_of(runtime: Any) -> Any:
    """The session's options as ONNX Runtime holds them."""
    return runtime._session.get_session_options()


def test_spinning_is_off_and_one_thread_computes(tmp_path: Path) -> None:
    options = options_of(load_runtime(onnx_sum(tmp_path / "sum.onnx")))
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"
    assert options.get_session_config_entry("session.inter_op.allow_spinning") == "0"
    assert options.intra_op_num_threads == 1
    assert options.inter_op_num_threads == 1


def test_nothing_is_reported_to_the_maker_of_the_library(tmp_path: Path) -> None:
    """With its telemetry on, it keeps what it will send and a name for this machine below the home folder."""
    model, home = onnx_sum(tmp_path / "sum.onnx"), tmp_path / "home"
    home.mkdir()
    env = {name: value for name, value in os.environ.items() if not name.startswith(("ORT_", "XDG_"))}
    code = "import sys; from tierwise.runtimes import load_runtime; load_runtime(sys.argv[1])"
    command = [sys.executable, "-c", code, str(model)]
    subprocess.run(command, env={**env, "HOME": str(home)}, check=True, timeout=60)
    assert list(home.iterdir()) == []


def test_threads_are_a_choice(tmp_path: Path) -> None:
    assert options_of(load_runtime(onnx_sum(tmp_path / "sum.onnx"), threads=2)).intra_op_num_threads == 2


def test_the_model_runs_on_the_cpu(tmp_path: Path) -> None:
    runtime: Any = load_runtime(onnx_sum(tmp_path / "sum.onnx"))
    assert runtime._session.get_providers() == ["CPUExecutionProvider"]


def test_a_fixed_batch_of_one_takes_any_batch(tmp_path: Path) -> None:
    runtime = load_runtime(onnx_sum(tmp_path / "sum.onnx", batch=1))
    assert runtime.signature.inputs[0].shape == (1, 4)
    (sums,) = runtime.run({"values": np.arange(12, dtype=np.float32).reshape(3, 4)})
    np.testing.assert_array_equal(sums, [[6], [22], [38]])
    assert runtime.run({"values": np.ones((1, 4), np.float32)})[0].tolist() == [[4]]


def test_another_fixed_batch_is_kept_to(tmp_path: Path) -> None:
    runtime = load_runtime(onnx_sum(tmp_path / "sum.onnx", batch=4))
    assert runtime.run({"values": np.ones((4, 4), np.float32)})[0].shape == (4, 1)
    with pytest.raises(InvalidInputError, match=r"expected float32\[4, 4\], got shape \[3, 4\]"):
        runtime.run({"values": np.ones((3, 4), np.float32)})


@pytest.mark.parametrize(("onnx_dtype", "dtype"), [("DOUBLE", "float64"), ("INT64", "int64"), ("INT32", "int32")])
def test_dtypes_are_those_of_the_file(tmp_path: Path, onnx_dtype: str, dtype: str) -> None:
    runtime = load_runtime(onnx_sum(tmp_path / "sum.onnx", dtype=onnx_dtype))
    assert runtime.signature.inputs[0].dtype == dtype
    (sums,) = runtime.run({"values": np.full((2, 4), 3, dtype)})
    assert sums.dtype == dtype
    assert sums.tolist() == [[12], [12]]


def test_several_inputs_and_outputs_keep_their_order(tmp_path: Path) -> None:
    path = onnx_model(
        tmp_path / "two.onnx",
        [node("Sub", ["b", "a"], ["difference"]), node("Add", ["a", "b"], ["sum"])],
        [tensor("b", "FLOAT", ["n", 2]), tensor("a", "FLOAT", ["n", 2])],
        [tensor("sum", "FLOAT", ["n", 2]), tensor("difference", "FLOAT", ["n", 2])],
    )
    runtime = load_runtime(path)
    assert [spec.name for spec in runtime.signature.inputs] == ["b", "a"]
    sums, differences = runtime.run({"a": np.full((1, 2), 1, np.float32), "b": np.full((1, 2), 5, np.float32)})
    assert (sums.tolist(), differences.tolist()) == ([[6, 6]], [[4, 4]])


def test_free_dimensions_are_warmed_up_with_a_size_that_works(tmp_path: Path) -> None:
    path = onnx_model(
        tmp_path / "conv.onnx",
        [node("Conv", ["signal", "kernel"], ["filtered"])],
        [tensor("signal", "FLOAT", ["n", 1, "time"])],
        [tensor("filtered", "FLOAT", ["n", 1, "out"])],
        kernel=np.ones((1, 1, 5), np.float32),
    )
    runtime = load_runtime(path)
    assert runtime.signature.inputs[0].shape == (None, 1, None)
    assert warm_up(runtime, runs=2) > 0


def test_text_outputs_are_refused_with_what_to_do(tmp_path: Path) -> None:
    path = onnx_model(
        tmp_path / "label.onnx",
        [node("LabelEncoder", ["key"], ["word"], domain="ai.onnx.ml", keys_int64s=[1], values_strings=["a"])],
        [tensor("key", "INT64", ["n", 1])],
        [tensor("word", "STRING", ["n", 1])],
    )
    with pytest.raises(ModelFileError, match=r"word is a tensor\(string\); only tensors of numbers"):
        load_runtime(path)


def test_a_failing_execution_is_one_line_and_leaves_stderr_alone(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = onnx_model(
        tmp_path / "gather.onnx",
        [node("Gather", ["table", "index"], ["row"])],
        [tensor("index", "INT64", ["n", 1])],
        [tensor("row", "FLOAT", ["n", 1])],
        table=np.zeros(3, np.float32),
    )
    runtime = load_runtime(path)
    with pytest.raises(InferenceError, match="failed on this input") as caught:
        runtime.run({"index": np.array([[7]])})
    assert "\n" not in str(caught.value)
    assert runtime.run({"index": np.array([[2]])})[0].tolist() == [[0]]
    assert capfd.readouterr().err == ""


def test_an_operator_that_the_library_lacks(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = onnx_sum(tmp_path / "sum.onnx")
    path.write_bytes(path.read_bytes().replace(b"ReduceSum", b"ReduceXyz"))
    with pytest.raises(ModelFileError, match=r"not a usable ONNX model: .*ReduceXyz"):
        load_runtime(path)
    assert capfd.readouterr().err == ""


def test_outputs_belong_to_the_caller_and_forms_can_be_mixed(tmp_path: Path) -> None:
    runtime = load_runtime(onnx_sum(tmp_path / "sum.onnx"))
    kept = [runtime.run({"values": np.full((1, 4), value, np.float32)})[0] for value in (1, 2)]
    (batch,) = runtime.run({"values": np.ones((3, 4), np.float32)})
    strided = np.arange(8, dtype=np.float32).reshape(1, 8)[:, ::2]
    (after,) = runtime.run({"values": strided})
    assert [sums.tolist() for sums in (*kept, batch, after)] == [[[4]], [[8]], [[4]] * 3, [[12]]]


def test_one_sample_is_checked_like_a_batch(tmp_path: Path) -> None:
    runtime = load_runtime(onnx_sum(tmp_path / "sum.onnx"))
    for wrong in ({"values": np.ones((1, 4), np.float64)}, {"values": np.ones((1, 3), np.float32)}, {}):
        with pytest.raises(InvalidInputError):
            runtime.run(wrong)


def test_outputs_whose_size_is_their_own_are_not_taken_for_batches(tmp_path: Path) -> None:
    path = onnx_model(
        tmp_path / "found.onnx",
        [node("NonZero", ["values"], ["places"]), node("ReduceSum", ["values"], ["sum"], keepdims=0)],
        [tensor("values", "FLOAT", ["batch", 4])],
        [tensor("places", "INT64", [2, "found"]), tensor("sum", "FLOAT", [])],
    )
    runtime = load_runtime(path)
    for values, found in (([[1, 0, 1, 0]], 2), ([[1, 1, 1, 0]], 3)):
        assert runtime.run({"values": np.array(values, np.float32)})[0].shape == (2, found)


def test_a_model_whose_outputs_are_not_what_it_declares_is_served_all_the_same(tmp_path: Path) -> None:
    path = onnx_model(
        tmp_path / "twice.onnx",
        [node("Concat", ["values", "values"], ["twice"], axis=0)],
        [tensor("values", "FLOAT", ["batch", 4])],
        [tensor("twice", "FLOAT", ["batch", 4])],
    )
    runtime = load_runtime(path)
    for value in (1, 2):
        assert runtime.run({"values": np.full((1, 4), value, np.float32)})[0].tolist() == [[value] * 4] * 2
