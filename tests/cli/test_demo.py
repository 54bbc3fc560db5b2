"""What ``tierwise demo`` prints for people: no blanks at the ends, and commands that work when they are copied."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from tests.report.traces import live_trace
from tierwise.cli.demo import _print, _program
from tierwise.live.demo import DemoResult, DemoSettings
from tierwise.live.results import Files
from tierwise.report.summary import summarise


def printed(capsys: pytest.CaptureFixture[str], model: str) -> list[str]:
    summary = msgspec.structs.replace(
        summarise(live_trace()), left_out={"device": "there is no compiler"}, caveat="The samples are random."
    )
    files = Files(Path("demo/trace.csv"), Path("demo/report.html"), None, "no picture: no matplotlib")
    _print(DemoResult(summary=summary, files=files, problems=()), DemoSettings(model=model))
    return capsys.readouterr().out.splitlines()


def test_the_text_begins_at_once_and_no_line_ends_in_blanks(capsys: pytest.CaptureFixture[str]) -> None:
    lines = printed(capsys, "anomaly-detector")
    assert lines[0].strip()
    assert [line for line in lines if line != line.rstrip()] == []
    assert "device  Left out: there is no compiler." in lines
    assert lines.index("The samples are random.") < lines.index("device  Left out: there is no compiler.")


def test_what_comes_next_fits_the_model_that_was_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(capsys, "digits")[-2:] == [
        "Next: tierwise demo --model YOUR.onnx",
        "      tierwise serve --model models/digits --mqtt off",
    ]
    assert printed(capsys, "my pump.onnx")[-2:] == [
        "Next: tierwise serve --model 'my pump.onnx' --mqtt off",
        "      tierwise deploy 'my pump.onnx' --target compose --out deployed",
    ]


@pytest.mark.parametrize(
    ("typed", "shown"),
    [
        (".venv/bin/tierwise", ".venv/bin/tierwise"),
        ("/usr/bin/tierwise", "tierwise"),
        ("tierwise", "tierwise"),
        ("/x/tierwise/__main__.py", "tierwise"),
    ],
)
def test_the_program_is_called_as_it_was_typed(typed: str, shown: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", [typed, "demo"])
    assert _program() == shown
