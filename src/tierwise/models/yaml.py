"""Typed YAML 1.2: a file becomes a struct, and what is wrong in it is told by file and line."""

from __future__ import annotations

import io
import os
from typing import TYPE_CHECKING, TypeVar

import msgspec
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.scalarstring import DoubleQuotedScalarString

from tierwise.core.errors import ModelFileError
from tierwise.models.misfits import Misfit, misfits

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

MAX_BYTES = 1 << 20

T = TypeVar("T")


def load_yaml(path: Path, type_: type[T]) -> T:
    """Reads one YAML document as ``type_``.

    Raises ``ModelFileError`` when the file is missing, larger than 1 MiB, not YAML, or does not fit the type; then the
    message has a line for everything that is wrong.
    """
    text = _read(path)
    try:
        # Pure Python: the C loader knows YAML 1.1 only, where ``no`` is false.
        content = YAML(typ="safe", pure=True).load(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{path}:{mark.line + 1}" if mark else str(path)
        raise ModelFileError(f"{where}: not YAML: {error.problem or error.context}") from error
    except (YAMLError, ValueError, RecursionError) as error:
        reason = str(error).splitlines()[0] if str(error) else "nested too deeply"
        raise ModelFileError(f"{path}: not YAML: {reason}") from error
    if problems := list(misfits(content, type_)):
        raise ModelFileError(_lines(path, text, problems))
    return msgspec.convert(content, type_)


def located(path: Path, problems: Iterable[Misfit]) -> str:
    """A line for each of the problems of a file that is YAML, with the line of the file. Raises ``ModelFileError``."""
    return _lines(path, _read(path), problems)


def _lines(path: Path, text: str, problems: Iterable[Misfit]) -> str:
    return "\n".join(_told(path, text, problem) for problem in problems)


def _told(path: Path, text: str, problem: Misfit) -> str:
    """``model.yaml:12: artifacts[0].file: is missing``."""
    dotted = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in problem.where).removeprefix(".")
    line = _line_of(text, list(problem.where))
    return f"{path}:{line}: {dotted + ': ' if dotted else ''}{problem.what}"


def dump_yaml(content: object, path: Path) -> None:
    """Writes plain dicts, lists and scalars as YAML, replacing the file atomically.

    Raises ``ModelFileError`` when it cannot be written.
    """
    yaml = YAML()
    yaml.width = 110
    yaml.indent(mapping=2, sequence=4, offset=2)
    stream = io.StringIO()
    yaml.dump(_styled(content), stream)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        try:
            temporary.write_text(stream.getvalue(), encoding="utf-8")
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise ModelFileError(f"cannot write {path}: {error.strerror}") from error


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
        if len(raw) > MAX_BYTES:
            raise ModelFileError(f"{path}: larger than {MAX_BYTES} bytes, so not a model card")
        return raw.decode("utf-8")
    except OSError as error:
        raise ModelFileError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ModelFileError(f"{path}: not YAML: not UTF-8 at byte {error.start}") from error


def _line_of(text: str, steps: list[str | int]) -> int:
    """One-based line of the deepest node on the way that exists."""
    node = YAML(typ="safe", pure=True).compose(io.StringIO(text))
    line = node.start_mark.line if node is not None else 0
    for step in steps:
        children = getattr(node, "value", None)
        if isinstance(step, int) and isinstance(children, list) and step < len(children):
            node = children[step]
            line = node.start_mark.line
            continue
        pairs = children if isinstance(children, list) else []
        found = next((pair for pair in pairs if isinstance(pair, tuple) and pair[0].value == step), None)
        if found is None:
            break
        line, node = found[0].start_mark.line, found[1]
    return line + 1


def _styled(content: object) -> object:
    """Short lists of scalars on one line, everything else as blocks."""
    if isinstance(content, dict):
        return CommentedMap((key, _styled(value)) for key, value in content.items())
    if isinstance(content, list | tuple):
        sequence = CommentedSeq(_styled(value) for value in content)
        if not any(isinstance(value, dict | list | tuple) for value in content):
            sequence.fa.set_flow_style()
        return sequence
    if isinstance(content, str) and content.startswith("?"):
        return DoubleQuotedScalarString(content)  # ruamel writes `?` plainly and reads it as the key of a mapping
    return content
