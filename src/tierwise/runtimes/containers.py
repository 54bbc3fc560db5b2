"""A first look at a PyTorch file without PyTorch, whose import alone takes seconds."""

from __future__ import annotations

import struct
import zipfile
from typing import TYPE_CHECKING

from tierwise.core.errors import ModelFileError

if TYPE_CHECKING:
    from pathlib import Path

_PICKLE_MAGIC = b"\x80"
"""First byte of a pickle: files of PyTorch before 1.6 have no zip around it."""
_HEADER_LENGTH = struct.Struct("<Q")


def check_container(path: Path) -> None:
    """Raises ``ModelFileError`` where the file can be told at once to be truncated, damaged or something else."""
    if path.suffix.lower() == ".safetensors":
        _check_safetensors(path)
    elif not zipfile.is_zipfile(path):
        with path.open("rb") as file:
            old_form = path.suffix.lower() != ".pt2" and file.read(1) == _PICKLE_MAGIC
        if not old_form:
            what = "a .pt2 file" if path.suffix.lower() == ".pt2" else "a PyTorch checkpoint"
            raise ModelFileError(f"{path}: truncated, damaged or not {what}")


def _check_safetensors(path: Path) -> None:
    """The file begins with the length of its JSON header as uint64, little-endian."""
    with path.open("rb") as file:
        start = file.read(_HEADER_LENGTH.size + 1)
    size = path.stat().st_size
    if len(start) <= _HEADER_LENGTH.size or start[-1:] != b"{" or _HEADER_LENGTH.unpack_from(start)[0] > size:
        raise ModelFileError(f"{path}: truncated or damaged .safetensors file")
