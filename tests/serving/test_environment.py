"""Variables that somebody writes down for a service: those it would refuse, and those it would not read."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from tierwise.cli.serve import serve
from tierwise.serving.environment import problems, unknown_variables
from tierwise.serving.settings import fields

VALUES = {bool: "true", int: "3", float: "1.5"}


def test_a_slip_is_told_with_what_was_meant() -> None:
    [line] = unknown_variables({"TIERWISE_TREADS": "2", "TIERWISE_THREADS": "2", "PATH": "/bin"})
    assert line == "TIERWISE_TREADS is set, but is no setting (did you mean `TIERWISE_THREADS`?); see docs/settings.md"


def test_what_others_set_is_no_slip() -> None:
    service = {f"TIERWISE_EDGE_{end}": "x" for end in ("SERVICE_HOST", "SERVICE_PORT", "PORT", "PORT_8080_TCP_ADDR")}
    assert unknown_variables(service | {"TIERWISE_INFLUX_TOKEN": "secret"}) == []


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("TIERWISE_LOG_FORMAT", "xml", "expected auto, json, text, got 'xml'"),
        ("TIERWISE_QUEUE_SIZE", "many", "expected a whole number, got 'many'"),
        ("TIERWISE_QUEUE_SIZE", "0", "expected a number of at least 1, got 0"),
        ("TIERWISE_DRAIN_S", "soon", "expected a number, got 'soon'"),
        ("TIERWISE_TRUST_PICKLE", "maybe", "expected true or false, got 'maybe'"),
        ("TIERWISE_HTTP", "a:b:c:", "expected HOST:PORT or 'off'"),
        ("TIERWISE_RUNTIME", "caffe", "expected onnx, litert, torch, tflm, got 'caffe'"),
        ("TIERWISE_TRACE_RATIO", "2", "expected at most 1"),
    ],
)
def test_what_a_service_refuses_is_told_before_it_starts(name: str, text: str, said: str) -> None:
    [line] = problems({name: text, "TIERWISE_DRAIN_S": "1"} if name != "TIERWISE_DRAIN_S" else {name: text})
    assert line.startswith(f"{name}: ")
    assert said in line
    refused = CliRunner().invoke(serve, ["--model", "nothing.onnx"], env={name: text})
    assert refused.exit_code != 0, "the service itself"
    assert "no model at" not in str(refused.exception)


def test_what_a_service_takes_is_no_problem() -> None:
    plain = {"TIERWISE_HTTP": "0.0.0.0:0", "TIERWISE_MQTT": "off", "TIERWISE_TRUST_PICKLE": "ON", "UNKNOWN": "x"}
    assert problems(plain) == []
    for field in fields():
        if (text := VALUES.get(field.type)) is not None and field.setting.env != "TIERWISE_TRACE_RATIO":
            assert problems({field.setting.env: text}) == []
