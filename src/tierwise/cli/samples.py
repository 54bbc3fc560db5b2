"""Samples for a model from a file: ``.npy``, ``.csv`` or ``.json``; ``-`` is standard input."""

from __future__ import annotations

import csv
import io
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from tierwise.core.errors import ConfigurationError, InvalidInputError, TierwiseError
from tierwise.messaging.features import decode_features

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    Features = NDArray[Any] | Mapping[str, NDArray[Any]]

FORMATS = (".npy", ".csv", ".json")


def read_samples(source: str) -> Features:
    """The numbers in ``source``, in the shape in which they stand there.

    ``.npy``: any numeric array. ``.csv``: one sample a row, after a header (a first row without any number) or
    none; gives float64[rows, columns]. ``.json``: a list flat or nested, or an object with it under ``features`` or
    ``input``, or one array for each named input. Standard input is told by its content: JSON where it begins with
    ``[`` or ``{``, an ``.npy`` by its magic number, else CSV.

    Raises ``ConfigurationError`` where nothing can be read, ``InvalidInputError`` for the content.
    """
    if source == "-":
        return _parse(sys.stdin.buffer.read(), "", "standard input")
    path = Path(source)
    if path.suffix.lower() not in FORMATS:
        raise ConfigurationError(f"--input {source}: expected a file with the suffix {', '.join(FORMATS)}, or -")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"--input {source}: {error.strerror}") from error
    return _parse(content, path.suffix.lower(), source)


def _parse(content: bytes, suffix: str, name: str) -> Features:
    start = content[:64].lstrip()
    try:
        if suffix == ".npy" or (not suffix and content.startswith(b"\x93NUMPY")):
            return _parse_npy(content)
        if suffix == ".json" or (not suffix and start[:1] in {b"[", b"{"}):
            return _parse_json(content)
        return _parse_csv(content)
    except TierwiseError as error:
        raise InvalidInputError(f"{name}: {error}") from error


def _parse_npy(content: bytes) -> NDArray[Any]:
    try:
        loaded = np.load(io.BytesIO(content), allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise InvalidInputError(f"not a readable .npy file: {str(error).splitlines()[0]}") from error
    if not isinstance(loaded, np.ndarray):
        raise InvalidInputError("an .npz archive; give one array as .npy")
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


def _parse_csv(content: bytes) -> NDArray[np.float64]:
    try:
        lines = [line for line in csv.reader(io.StringIO(content.decode("utf-8-sig"))) if line]
    except (UnicodeDecodeError, csv.Error) as error:
        raise InvalidInputError(f"not CSV: {error}") from error
    rows: list[list[float]] = []
    for number, line in enumerate(lines, 1):
        try:
            rows.append([float(cell) for cell in line])
        except ValueError as error:
            if number == 1 and len(lines) > 1 and not any(map(_is_number, line)):
                continue  # the header
            raise InvalidInputError(f"row {number}: {error}") from error
        if len(rows[-1]) != len(rows[0]):
            raise InvalidInputError(f"row {number} has {len(rows[-1])} values, the first one {len(rows[0])}")
    if not rows:
        raise InvalidInputError("no samples")
    return np.array(rows)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
