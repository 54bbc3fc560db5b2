"""A YAML 1.2 document with the position of every key and value."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.scalarbool import ScalarBoolean
from ruamel.yaml.scalarfloat import ScalarFloat
from ruamel.yaml.scalarint import ScalarInt

from tierwise.core.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

Step = str | int
Location = tuple[Step, ...]

_MAX_BYTES = 4 << 20
_MAX_VALUES = 200_000
_MAX_DEPTH = 40
_NOWHERE = (0, 0)


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong, and where.

    ``line`` and ``column`` count from one; they are 0 where ``file`` is no file but the option that gave the value.
    """

    file: str
    line: int
    column: int
    path: str
    what: str

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}:{self.column}: " if self.line else f"{self.file}: "
        return f"{where}{self.path}: {self.what}" if self.path else where + self.what


class ScenarioError(ConfigurationError):
    """A scenario, or a profile that it names, is wrong. ``problems`` holds every mistake found, in order."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(sorted(problems, key=lambda one: (one.file, one.line, one.column, one.path)))
        super().__init__("\n".join(map(str, self.problems)))


@dataclass
class Document:
    """Plain values (``dict``, ``list``, ``str``, ``int``, ``float``, ``bool``, ``None``) and where they stood."""

    file: str
    data: Any
    values: dict[Location, tuple[int, int]] = field(default_factory=dict)
    keys: dict[Location, tuple[int, int]] = field(default_factory=dict)
    options: dict[Location, str] = field(default_factory=dict)
    """Where values do not come from the file: the option that gave them."""

    def note_option(self, location: Location, value: object, option: str) -> None:
        """Says that the value at ``location``, which stands in ``data`` by now, comes from an option."""
        for known in (self.values, self.keys, self.options):
            for old in [place for place in known if place[: len(location)] == location]:
                del known[old]
        self.options[location] = option
        for place in _places(value, location):
            self.values[place] = self.keys[place] = _NOWHERE

    def problem(self, location: Sequence[Step], what: str, *, at_key: bool = False) -> Problem:
        """A problem at ``location``. Steps that the document has not (names of alternatives) are left out."""
        here: Location = ()
        for step in location:
            if (*here, step) in self.values:
                here = (*here, step)
        line, column = (self.keys if at_key else self.values).get(here) or self.values.get(here, (1, 1))
        given = (self.options.get(here[:length]) for length in range(len(here), 0, -1))
        option = next((option for option in given if option), None)
        return Problem(self.file if option is None else option, line, column, dotted(here), what)


def _places(value: object, here: Location) -> Iterator[Location]:
    yield here
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for step, item in inner:
        yield from _places(item, (*here, step))


def dotted(location: Sequence[Step]) -> str:
    """``devices.sensors.links[0]`` for ``("devices", "sensors", "links", 0)``."""
    text = ""
    for step in location:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text


def read_document(path: Path, kind: str = "scenario") -> Document:
    """Reads a YAML file of this kind. Raises ``ScenarioError`` where it is missing, too large or no YAML."""
    try:
        with path.open("rb") as file:
            raw = file.read(_MAX_BYTES + 1)  # a device gives as much as is asked for
    except OSError as error:
        raise ScenarioError([Problem(str(path), 1, 1, "", f"cannot read the {kind}: {error.strerror}")]) from error
    return parse_document(raw, str(path))


def parse_document(raw: bytes | str, file: str) -> Document:
    """Parses YAML text. Raises ``ScenarioError``."""
    if len(raw) > _MAX_BYTES:
        raise ScenarioError([Problem(file, 1, 1, "", f"larger than {_MAX_BYTES >> 20} MiB")])
    try:
        text = raw.decode("utf-8") if isinstance(raw, bytes) else raw
        tree = YAML(typ="rt", pure=True).load(text)
    except UnicodeDecodeError as error:
        raise ScenarioError([Problem(file, 1, 1, "", f"is not UTF-8 (byte {error.start})")]) from error
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        raise ScenarioError([Problem(file, line, column, "", f"not YAML: {_one_line(error)}")]) from error
    except RecursionError as error:
        raise ScenarioError([Problem(file, 1, 1, "", "not YAML: nested too deep")]) from error
    except (YAMLError, ValueError, TypeError, KeyError, AttributeError, IndexError, AssertionError) as error:
        # The parser has its own slips on hostile input; to the user they are all "not YAML".
        raise ScenarioError([Problem(file, 1, 1, "", f"not YAML: {error}")]) from error
    document = Document(file, None)
    document.data = _plain(tree, (), (1, 1), document)
    return document


def _one_line(error: MarkedYAMLError) -> str:
    return " ".join(str(part).split("\n")[0] for part in (error.context, error.problem) if part)


def _plain(node: object, here: Location, position: tuple[int, int], document: Document) -> object:
    if len(here) > _MAX_DEPTH or len(document.values) > _MAX_VALUES:
        what = "nested too deep, or too many values"
        raise ScenarioError([Problem(document.file, *position, dotted(here[:5]), what)])
    document.values[here] = position
    if isinstance(node, CommentedMap):
        return _plain_map(node, here, document)
    if isinstance(node, CommentedSeq):
        return [_plain(item, (*here, index), _at(node.lc.item(index)), document) for index, item in enumerate(node)]
    return _scalar(node, here, document)


def _plain_map(node: CommentedMap, here: Location, document: Document) -> dict[str, Any]:
    plain = {}
    for key, value in node.items():
        text = str(key)
        location = (*here, text)
        # Merged keys (<<) have no position of their own; they get their mapping's.
        known = node.lc.data is not None and key in node.lc.data
        document.keys[location] = _at(node.lc.key(key)) if known else document.values[here]
        where = _at(node.lc.value(key)) if known else document.values[here]
        plain[text] = _plain(value, location, where, document)
    return plain


def _scalar(node: object, here: Location, document: Document) -> object:
    if node is None:
        return None
    for wrapper, kind in ((ScalarBoolean, bool), (ScalarInt, int), (ScalarFloat, float), (bool, bool)):
        if isinstance(node, wrapper):
            return kind(node)
    for plain in (str, int, float):
        if isinstance(node, plain):
            return plain(node)
    line, column = document.values[here]
    what = f"expected text, a number, true, false or null (got a YAML {type(node).__name__})"
    raise ScenarioError([Problem(document.file, line, column, dotted(here), what)])


def _at(mark: tuple[int, int]) -> tuple[int, int]:
    return mark[0] + 1, mark[1] + 1
