"""What every runtime checks of a model file before a library sees it, and how it tells what went wrong."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

from tierwise.core.errors import ModelFileError

if TYPE_CHECKING:
    from pathlib import Path

_MAX_MESSAGE = 300


def check_file(path: Path) -> None:
    """Raises ``ModelFileError`` unless ``path`` is a regular file that can be read and is not empty."""
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise ModelFileError(f"{path}: is a directory, expected a model file")
        if not stat.S_ISREG(mode):
            raise ModelFileError(f"{path}: is not a regular file, expected a model file")
        with path.open("rb") as file:
            if not file.read(1):
                raise ModelFileError(f"{path}: the model file is empty")
    except FileNotFoundError as error:
        raise ModelFileError(f"{path}: no such model file") from error
    except OSError as error:
        raise ModelFileError(f"{path}: cannot read the model file: {error.strerror}") from error
    except ValueError as error:  # a NUL byte in the name
        raise ModelFileError(f"{str(path)!r}: not a file name") from error


def one_line(error: BaseException) -> str:
    """What a library's error says, on one line: users need the cause, not a dump."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    if not lines or isinstance(error, KeyError):  # a key alone tells nobody anything
        return f"unexpected contents ({type(error).__name__})"
    return shortened(lines[0])


def shortened(text: str) -> str:
    """``text`` on one line, of a long one the first sentences; without the control characters of a damaged file."""
    told = "".join(sign if sign.isprintable() else "\N{REPLACEMENT CHARACTER}" for sign in " ".join(text.split()))
    if len(told) <= _MAX_MESSAGE:
        return told
    sentences = told[:_MAX_MESSAGE].rpartition(". ")[0]
    return f"{sentences}." if len(sentences) > _MAX_MESSAGE // 2 else f"{told[:_MAX_MESSAGE]}…"
