"""Placement rules."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tierwise.policy import Situation, cascade, escalates, expression, fallback, fixed
from tierwise.scenario.expression import parse_expression


def test_a_fixed_tier_is_asked_once() -> None:
    rule = fixed("edge")
    assert rule(Situation()) == "edge"
    assert rule(Situation(asked=("edge",), failed=True)) is None


def test_a_cascade_escalates_unsure_answers_only() -> None:
    rule = cascade(["device", "edge", "cloud"], 0.8)
    assert rule(Situation()) == "device"
    assert rule(Situation(asked=("device",), confidence=0.79)) == "edge"
    assert rule(Situation(asked=("device",), confidence=0.8)) is None
    assert rule(Situation(asked=("device", "edge"), confidence=0.1)) == "cloud"
    assert rule(Situation(asked=("device", "edge", "cloud"), confidence=0.1)) is None


def test_a_failed_escalation_keeps_the_answer_there_is() -> None:
    assert cascade(["edge", "cloud"], 0.8)(Situation(asked=("edge", "cloud"), failed=True)) is None


def test_fallback_goes_on_only_after_a_failure() -> None:
    rule = fallback(["cloud", "device"])
    assert rule(Situation(asked=("cloud",), confidence=0.0)) is None
    assert rule(Situation(asked=("cloud",), failed=True)) == "device"
    assert rule(Situation(asked=("cloud", "device"), failed=True)) is None


@given(st.floats(0, 1), st.floats(0, 1))
def test_escalates_is_strict(confidence: float, threshold: float) -> None:
    assert escalates(confidence, threshold) == (confidence < threshold)


@pytest.mark.parametrize(
    ("text", "situation", "tier"),
    [
        ("edge", Situation(), "edge"),
        ("cloud if queue_edge > 10 else edge", Situation(queues={"edge": 11}), "cloud"),
        ("cloud if queue_edge > 10 else edge", Situation(queues={"edge": 10}), "edge"),
        ("device if battery > 0.5 and not queue_cloud else edge", Situation(battery=0.6), "device"),
        ("device if group == 'cams' else edge if queue_edge * 2 < 7 else cloud", Situation(group="cams"), "device"),
        ("edge if -1 < queue_edge - 3 <= 0 else cloud", Situation(queues={"edge": 3}), "edge"),
        ("edge if -1 < queue_edge - 3 <= 0 else cloud", Situation(queues={"edge": 4}), "cloud"),
        ("edge if -queue_edge < -2 else cloud", Situation(queues={"edge": 3}), "edge"),
        ("edge if 'a' < group != 'cams' else cloud", Situation(group="b"), "edge"),
        ("edge if (queue_edge > 1) == True else cloud", Situation(queues={"edge": 3}), "edge"),
        ("edge if time_s % 2 < 1 or queue_cloud - 3 >= 0 else cloud", Situation(time_s=3.0), "cloud"),
    ],
)  # fmt: skip
def test_expressions(text: str, situation: Situation, tier: str) -> None:
    assert expression(parse_expression(text))(situation) == tier


def test_an_expression_knows_its_tiers() -> None:
    assert parse_expression("cloud if queue_edge > 10 else edge").tiers == ("cloud", "edge")


@pytest.mark.parametrize(
    "text",
    ["mars", "__import__('os')", "edge if open('x') else cloud", "edge if x.y else cloud", "edge if", "1", "x" * 1001],
)
def test_nothing_else_is_admitted(text: str) -> None:
    with pytest.raises(ValueError, match=r"tier|rules"):
        parse_expression(text)


def test_what_cannot_be_computed_is_an_error() -> None:
    with pytest.raises(ValueError, match="rule 'edge if 1 / queue_edge > 1 else cloud': division by zero"):
        expression(parse_expression("edge if 1 / queue_edge > 1 else cloud"))(Situation())
