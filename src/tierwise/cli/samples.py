"""Samples for a model from a file: ``.npz``, ``.npy``, ``.csv`` or ``.json``; ``-`` is standard input."""

from __future__ import annotations

import csv
import io
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from tierwise.core.errors import ConfigurationError, InvalidInputError, RequestError
from tierwise.messaging.features import decode_features
from tierwise.models.samples import Samples, read_npz

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    Features = NDArray[Any] | Mapping[str, NDArray[Any]]

FORMATS = (".npz", ".npy", ".csv", ".json")
LABEL_COLUMNS = ("label", "labels")
"""A column of a CSV with such a heading says what a sample is; it is no feature."""


def read_samples(source: str) -> Features:
    """The features in ``source``, as ``read_labelled`` reads them."""
    return read_labelled(source).features


def read_labelled(source: str, *, option: str = "--input") -> Samples:
    """The numbers in ``source``, in the shape in which they stand there, and their labels where it has some.

    ``.npz``: ``features`` and, where they are known, ``labels``. ``.npy``: any numeric array. ``.csv``: one sample a
    row, after a header (a first row without any number) or none; a column headed ``label`` holds labels, the others
    give float64[rows, columns]. ``.json``: a list flat or nested, or an object with it under ``features`` or
    ``input``, or one array for each named input. Standard input is told by its content: JSON where it begins with
    ``[`` or ``{``, an ``.npy`` or ``.npz`` by its magic number, else CSV.

    Raises ``ConfigurationError`` where nothing can be read, ``InvalidInputError`` or ``ModelError`` for the content.
    """
    if source == "-":
        return _parse(sys.stdin.buffer.read(), "", "standard input")
    path = Path(source)
    suffix = path.suffix.lower()
    if suffix not in FORMATS:
        raise ConfigurationError(f"{option} {source}: expected a file with the suffix {', '.join(FORMATS)}, or -")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{option} {source}: {error.strerror}") from error
    return _parse(content, suffix, source)


def _parse(content: bytes, suffix: str, name: str) -> Samples:
    start = content[:64].lstrip()
    try:
        if suffix == ".npz" or (not suffix and content.startswith(b"PK\x03\x04")):
            return read_npz(io.BytesIO(content), name)
        if suffix == ".npy" or (not suffix and content.startswith(b"\x93NUMPY")):
            return Samples(_parse_npy(content))
        if suffix == ".json" or (not suffix and start[:1] in {b"[", b"{"}):
            return Samples(_parse_json(content))
        return _parse_csv(content)
    except RequestError as error:
        raise InvalidInputError(f"{name}: {error}") from error


def _parse_npy(content: bytes) -> NDArray[Any]:
    try:
        loaded = np.load(io.BytesIO(content), allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise InvalidInputError(f"not a readable .npy file: {str(error).splitlines()[0]}") from error
    if not isinstance(loaded, np.ndarray):
        raise InvalidInputError("an .npz archive; name it .npz")
    return loaded


def _parse_json(content: bytes) -> Features:
    content = content.strip()
    if content.startswith(b"{"):
        try:
            members = msgspec.json.decode(content, type=dict[str, msgspec.Raw])
        except (msgspec.DecodeError, RecursionError) as error:
            raise InvalidInputError(f"not JSON: {error}") from error
        for field in ("features", "input"):
            if field in members:
                return decode_features(members[field], field)
    return decode_features(msgspec.Raw(content), "input")


def _parse_csv(content: bytes) -> Samples:
    try:
        lines = [line for line in csv.reader(io.StringIO(content.decode("utf-8-sig"))) if line]
    except (UnicodeDecodeError, csv.Error) as error:
        raise InvalidInputError(f"not CSV: {error}") from error
    label_at = _label_column(lines[0]) if lines else None
    rows: list[list[float]] = []
    labels: list[str] = []
    for number, line in enumerate(lines, 1):
        try:
            rows.append([float(cell) for column, cell in enumerate(line) if column != label_at])
        except ValueError as error:
            if number == 1 and len(lines) > 1 and not any(map(_is_number, line)):
                continue  # the header
            raise InvalidInputError(f"row {number}: {error}") from error
        if len(rows[-1]) != len(rows[0]):
            raise InvalidInputError(f"row {number} has {len(rows[-1])} values, the first one {len(rows[0])}")
        if label_at is not None:
            labels.append(line[label_at].strip() if label_at < len(line) else "")
    if not rows:
        raise InvalidInputError("no samples")
    return Samples(np.array(rows), _labels(labels) if label_at is not None else None)


def _label_column(header: list[str]) -> int | None:
    return next((at for at, cell in enumerate(header) if cell.strip().lower() in LABEL_COLUMNS), None)


def _labels(words: list[str]) -> NDArray[Any]:
    """Class indices where all are whole numbers, else names."""
    return np.array([int(word) for word in words] if all(word.isdecimal() for word in words) else words)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
