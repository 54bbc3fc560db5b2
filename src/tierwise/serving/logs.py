"""Log lines on stderr: one JSON object each, or text where somebody reads them on a terminal."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from tierwise.serving.settings import LogSettings

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def _facts(record: logging.LogRecord) -> dict[str, Any]:
    return {name: value for name, value in vars(record).items() if name not in _STANDARD and value is not None}


class JsonFormatter(logging.Formatter):
    """``{"time", "level", "event", …}`` in one line."""

    def format(self, record: logging.LogRecord) -> str:
        """Puts the record's ``extra`` fields beside the event."""
        line = {
            "time": round(record.created, 6),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
            **_facts(record),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return msgspec.json.encode(line, enc_hook=str).decode()


class TextFormatter(logging.Formatter):
    """``12:00:00 info serving model=…``."""

    def format(self, record: logging.LogRecord) -> str:
        """Puts the record's ``extra`` fields behind the event as ``name=value``."""
        facts = " ".join(f"{name}={_on_one_line(value)}" for name, value in _facts(record).items())
        line = (
            f"{self.formatTime(record, '%H:%M:%S')} {record.levelname.lower()} {record.getMessage()} {facts}".rstrip()
        )
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


def _on_one_line(value: Any) -> str:  # noqa: ANN401 -- whatever is logged
    """Ids come from clients: a line break in one must not look like a line of ours."""
    text = str(value)
    return text if text.isprintable() else repr(text)


def configure_logging(settings: LogSettings) -> None:
    """Sends the log of this process to stderr in the chosen form."""
    handler = logging.StreamHandler(sys.stderr)
    is_read = settings.format == "text" or (settings.format == "auto" and sys.stderr.isatty())
    handler.setFormatter(TextFormatter() if is_read else JsonFormatter())
    logging.basicConfig(level=settings.level.upper(), handlers=[handler], force=True)
