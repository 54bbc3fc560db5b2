"""``tierwise predict`` on models with outputs of every form."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from tests.components import need
from tests.runtimes.tiny import node, onnx_model, tensor
from tierwise.cli.predict import predict
from tierwise.core.errors import InferenceError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def onnx_packages() -> None:
    need(package="onnx")
    need(package="onnxruntime")


def run(model: Path, samples: str, *options: str) -> str:
    result = CliRunner().invoke(
        predict, ["--model", str(model), "--input", "-", *options], input=samples, catch_exceptions=False
    )
    assert result.exit_code == 0, result.output
    return result.output


def grid(path: Path) -> Path:
    """``values`` [n, 4] → ``grid`` [n, 2, 2]."""
    return onnx_model(
        path,
        [node("Reshape", ["values", "shape"], ["grid"])],
        [tensor("values", "FLOAT", ["n", 4])],
        [tensor("grid", "FLOAT", ["n", 2, 2])],
        shape=[-1, 2, 2],
    )


def extremes(path: Path) -> Path:
    """``values`` [n, 3] → ``largest`` [n, 1] and, as int64, ``where`` [n, 1]."""
    return onnx_model(
        path,
        [
            node("ReduceMax", ["values"], ["largest"], axes=[1], keepdims=1),
            node("ArgMax", ["values"], ["where"], axis=1, keepdims=1),
        ],
        [tensor("values", "FLOAT", ["n", 3])],
        [tensor("largest", "FLOAT", ["n", 1]), tensor("where", "INT64", ["n", 1])],
    )


def logarithm(path: Path) -> Path:
    """``values`` [n, 2] → ``log`` [n, 2]: NaN below zero."""
    return onnx_model(
        path,
        [node("Log", ["values"], ["log"])],
        [tensor("values", "FLOAT", ["n", 2])],
        [tensor("log", "FLOAT", ["n", 2])],
    )


def test_an_output_of_more_dimensions_is_printed_a_line_a_sample(tmp_path: Path) -> None:
    model = grid(tmp_path / "grid.onnx")
    assert run(model, "1,2,3,4.5") == "[1 2] [3 4.5]\n"
    assert run(model, "1,2,3,4\n5,6,7,8\n") == "[1 2] [3 4]\n[5 6] [7 8]\n"
    assert json.loads(run(model, "1,2,3,4", "--json"))["prediction"] == [[[1, 2], [3, 4]]]


def test_all_of_several_outputs_are_printed_by_name(tmp_path: Path) -> None:
    model = extremes(tmp_path / "extremes.onnx")
    assert run(model, "1,9.5,3\n7,2,3\n") == "largest=9.5\twhere=1\nlargest=7\twhere=0\n"
    assert run(model, "[1, 9.5, 3]") == "largest=9.5\twhere=1\n"


def test_whole_numbers_keep_all_their_digits(tmp_path: Path) -> None:
    model = onnx_model(
        tmp_path / "same.onnx",
        [node("Identity", ["values"], ["same"])],
        [tensor("values", "INT64", ["n", 2])],
        [tensor("same", "INT64", ["n", 2])],
    )
    assert run(model, "[1234567890123, 2]") == "1234567890123 2\n"


@pytest.mark.parametrize("options", [[], ["--json"]])
@pytest.mark.parametrize("samples", ["[-1, 1]", "[0, 1]"], ids=["NaN", "infinity"])
def test_nan_and_infinity_are_errors_as_in_a_service(tmp_path: Path, samples: str, options: list[str]) -> None:
    model = logarithm(tmp_path / "log.onnx")
    with pytest.raises(InferenceError, match="model log gave NaN or infinity"):
        run(model, samples, *options)
