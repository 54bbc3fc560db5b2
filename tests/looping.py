"""A model that can be asked to compute for ever: it blocks whatever executes it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.components import need
from tests.runtimes.tiny import node, onnx_model, tensor

if TYPE_CHECKING:
    from pathlib import Path

FOR_EVER: dict[str, Any] = {"input": [1e15]}
SHORTLY: dict[str, Any] = {"input": [3]}


def looping_model(path: Path) -> Path:
    """``turns`` [batch, 1] → ``turned`` [batch, 1]: takes the cosine so many times. Fast on the zeros of a warm-up."""
    need(package="onnx")
    from onnx import helper  # noqa: PLC0415  the line above names it when it is missing

    turn = helper.make_graph(
        [node("Identity", ["goes_on"], ["still_goes_on"]), node("Cos", ["value"], ["turned_value"])],
        "turn",
        [tensor("turn", "INT64", []), tensor("goes_on", "BOOL", []), tensor("value", "FLOAT", ["batch", 1])],
        [tensor("still_goes_on", "BOOL", []), tensor("turned_value", "FLOAT", ["batch", 1])],
    )
    return onnx_model(
        path,
        [
            node("ReduceSum", ["turns"], ["sum"], keepdims=0),
            node("Cast", ["sum"], ["count"], to=7),  # INT64
            node("Loop", ["count", "", "turns"], ["turned"], body=turn),
        ],
        [tensor("turns", "FLOAT", ["batch", 1])],
        [tensor("turned", "FLOAT", ["batch", 1])],
    )
