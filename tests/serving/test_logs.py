"""Log lines: one for each event, whatever clients put into their ids."""

from __future__ import annotations

import io
import logging

import msgspec
import pytest

from tierwise.serving.logs import JsonFormatter, TextFormatter, configure_logging
from tierwise.serving.settings import LogSettings


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def record(**facts: object) -> logging.LogRecord:
    made = logging.makeLogRecord({"msg": "request", "levelname": "INFO", "name": "tierwise"})
    vars(made).update(facts)
    return made


@pytest.mark.parametrize("formatter", [JsonFormatter(), TextFormatter()])
def test_a_line_break_in_an_id_forges_no_line(formatter: logging.Formatter) -> None:
    line = formatter.format(record(request_id="x\n02:00:00 error stolen", device_id="\x1b[2Jd"))
    assert len(line.splitlines()) == 1
    assert "\x1b" not in line
    assert "stolen" in line


def test_json_holds_the_facts_and_leaves_out_what_is_not_there() -> None:
    line = msgspec.json.decode(JsonFormatter().format(record(requests=3, http=None)))
    assert line["event"] == "request"
    assert line["level"] == "info"
    assert line["requests"] == 3
    assert "http" not in line


@pytest.mark.parametrize(
    ("form", "stream", "formatter"),
    [
        ("auto", Terminal, TextFormatter),
        ("auto", io.StringIO, JsonFormatter),
        ("json", Terminal, JsonFormatter),
        ("text", io.StringIO, TextFormatter),
    ],
)
def test_by_default_people_get_text_and_programs_json(
    form: str, stream: type[io.StringIO], formatter: type[logging.Formatter], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr", stream())
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    try:
        root.handlers = []
        configure_logging(LogSettings(format=form))
        [handler] = root.handlers
        assert type(handler.formatter) is formatter
    finally:
        root.handlers = before
        root.setLevel(level)
