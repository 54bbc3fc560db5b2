"""Real models on real samples."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.components import need
from tests.scenario.examples import MINIMAL
from tests.sim.runs import load, trace_of
from tierwise.core.errors import ConfigurationError, ModelError
from tierwise.sim import simulate
from tierwise.sim.answers import classes, compute_answers
from tierwise.sim.plan import build_plan
from tierwise.sim.truth import samples_of

if TYPE_CHECKING:
    from pathlib import Path

SAMPLES = 400


@pytest.fixture
def models(tmp_path: Path) -> dict[str, str]:
    """Two artifacts of one model: the mean of four features, exact, and with its weights rounded away."""
    need(package="onnx")
    need(package="onnxruntime")
    import onnx  # noqa: PLC0415 -- optional
    from onnx import TensorProto, helper, numpy_helper  # noqa: PLC0415

    def save(name: str, weights: list[float]) -> None:
        graph = helper.make_graph(
            [helper.make_node("MatMul", ["x", "w"], ["p"])],
            "mean",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 4])],
            [helper.make_tensor_value_info("p", TensorProto.FLOAT, [None, 1])],
            [numpy_helper.from_array(np.array(weights, np.float32).reshape(4, 1), "w")],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
        onnx.save(model, tmp_path / name)

    save("good.onnx", [0.25] * 4)
    save("poor.onnx", [0.0, 0.0, 0.0, 1.0])
    x = np.random.default_rng(3).random((SAMPLES, 4)).astype(np.float32)
    np.savez(tmp_path / "data.npz", x=x, y=(x.mean(axis=1) >= 0.5).astype(int), other=np.zeros(SAMPLES, int))
    return {
        "models.m": "{device: {artifact: poor.onnx, service: 1ms, source: t}, edge: {artifact: good.onnx, source: t},"
        " cloud: {service: 1ms, source: t}, data: {file: data.npz}}",
        "devices.sensors.model": "m",
        "devices.sensors.traffic": "{pattern: poisson, rate: 20/s}",
    }


def test_accuracy_is_that_of_the_model_on_the_samples(tmp_path: Path, models: dict[str, str]) -> None:
    accuracy = {}
    for tier in ("device", "edge"):
        scenario = load(tmp_path, MINIMAL, models | {"placement": tier})
        summary = simulate(scenario, answers=compute_answers(scenario))
        assert summary.accuracy is not None
        accuracy[tier] = summary.accuracy
        assert summary.by_tier[tier].quality.f1 is not None
    assert accuracy["edge"] == 1.0
    poor = compute_answers(load(tmp_path, MINIMAL, models))["m", "device"]
    assert accuracy["device"] == pytest.approx((poor.labels == poor.truth).mean(), abs=0.03)


def test_a_cascade_escalates_the_samples_the_model_is_unsure_of(tmp_path: Path, models: dict[str, str]) -> None:
    scenario = load(tmp_path, MINIMAL, models | {"placement": "{cascade: [device, edge], threshold: 0.4}"})
    answers = compute_answers(scenario)
    vector = simulate(scenario, engine="vector", answers=answers)
    assert simulate(scenario, engine="event", answers=answers).trace_sha256 == vector.trace_sha256
    device_only = simulate(load(tmp_path, MINIMAL, models | {"placement": "device"}), answers=answers)
    assert vector.accuracy is not None
    assert device_only.accuracy is not None
    assert vector.accuracy > device_only.accuracy + 0.05
    share = (answers["m", "device"].confidences < 0.4).mean()
    assert vector.by_tier["edge"].answered / vector.answered == pytest.approx(share, abs=0.05)


def test_the_trace_shows_prediction_label_and_truth(tmp_path: Path, models: dict[str, str]) -> None:
    from tierwise.core.trace import read_trace_csv  # noqa: PLC0415

    scenario = load(tmp_path, MINIMAL, models | {"run.duration": "1s"})
    answers = compute_answers(scenario)
    simulate(scenario, answers=answers, out=tmp_path / "out")
    rows = read_trace_csv(tmp_path / "out" / "trace.csv")
    assert {row.truth for row in rows if row.outcome == "answered"} == {"0", "1"}
    assert all(row.label == row.truth for row in rows if row.outcome == "answered")
    assert all(0 <= float(row.prediction or "nan") <= 1 for row in rows if row.outcome == "answered")


@pytest.mark.parametrize(
    ("change", "value"),
    [
        ("models.m.device.artifact", "good.onnx"),
        ("models.m.data.labels", "other"),
        ("models.m.threshold", "0.8"),
        ("models.m.data.file", "less.npz"),
    ],
)
def test_its_fields_change_the_result(tmp_path: Path, models: dict[str, str], change: str, value: str) -> None:
    np.savez(tmp_path / "less.npz", x=np.zeros((5, 4), np.float32), y=np.zeros(5, int))
    device = models | {"placement": "device"}
    before, after = (load(tmp_path, MINIMAL, changes) for changes in (device, device | {change: value}))
    assert (
        simulate(before, answers=compute_answers(before)).accuracy
        != simulate(after, answers=compute_answers(after)).accuracy
    )


@pytest.mark.parametrize(
    ("change", "value", "error", "kind"),
    [
        ("models.m.data.features", "z", "has no z", ConfigurationError),
        ("models.m.data.labels", "z", "has no z", ConfigurationError),
        ("models.m.data.file", "none.npz", "cannot read the samples", ConfigurationError),
        ("models.m.edge.artifact", "none.onnx", "none.onnx", ModelError),
        ("models.m.edge.runtime", "litert", "litert", ConfigurationError),
        ("models.m.data.labels", "x", "samples and", ConfigurationError),
    ],
)
def test_what_cannot_be_run_is_told(
    tmp_path: Path, models: dict[str, str], *, change: str, value: str, error: str, kind: type[Exception]
) -> None:
    with pytest.raises(kind, match=error):
        compute_answers(load(tmp_path, MINIMAL, models | {change: value}))


def test_samples_are_the_same_whoever_asks(tmp_path: Path, models: dict[str, str]) -> None:
    scenario = load(tmp_path, MINIMAL, models)
    answers = compute_answers(scenario)
    plan = build_plan(scenario, 1, answers)
    rows, _ = trace_of(scenario, "vector", 1)
    from tierwise.sim.rows import from_matrix  # noqa: PLC0415

    sample = samples_of(plan, from_matrix(rows), SAMPLES)
    assert sample.min() >= 0
    assert len(np.unique(sample)) > SAMPLES / 2


def test_scores_and_probabilities_become_classes() -> None:
    labels, sure = classes(np.array([[0.9], [0.5], [0.1]]), 0.5)
    assert labels.tolist() == [1, 1, 0]
    assert sure.tolist() == pytest.approx([0.8, 0.0, 0.8])
    labels, sure = classes(np.array([[1.0, 3.0, 0.0]]), 0.5)
    assert labels.tolist() == [1]
    assert sure[0] == pytest.approx(np.exp(3) / (np.exp(1) + np.exp(3) + 1))
    _, sure = classes(np.array([[0.2, 0.8]]), 0.5)
    assert sure[0] == pytest.approx(0.8)
