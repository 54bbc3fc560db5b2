"""A first look at a PyTorch file without PyTorch, whose import alone takes seconds."""

from __future__ import annotations

import struct
import sys
import zipfile
from typing import TYPE_CHECKING

import msgspec

from tierwise.core.errors import ModelFileError
from tierwise.runtimes.architectures import find_architecture
from tierwise.runtimes.pickles import check_pickle

if TYPE_CHECKING:
    from pathlib import Path

_PICKLE_MAGIC = b"\x80"
"""First byte of a pickle: files of PyTorch before 1.6 have no zip around it."""
_PICKLED = (".pt", ".pth")
_HEADER_LENGTH = struct.Struct("<Q")
_LONGEST_HEADER = 100_000_000
"""What safetensors itself accepts, in bytes."""


class _Entry(msgspec.Struct):
    """A tensor's part of the header, or the metadata, which has no offsets."""

    data_offsets: tuple[int, int] = (0, 0)
    architecture: str | None = None


def check_container(path: Path, *, trust_pickle: bool = False) -> None:
    """Raises ``ModelFileError`` where the file can be told at once to be truncated, damaged or something else, and
    ``UntrustedModelError`` where it can be told to hold code that nobody has allowed with ``trust_pickle``."""
    if path.suffix.lower() == ".safetensors":
        _check_safetensors(path)
    elif not zipfile.is_zipfile(path):
        with path.open("rb") as file:
            old_form = path.suffix.lower() != ".pt2" and file.read(1) == _PICKLE_MAGIC
        if not old_form:
            what = "a .pt2 file" if path.suffix.lower() == ".pt2" else "a PyTorch checkpoint"
            raise ModelFileError(f"{path}: truncated, damaged or not {what}")
    # A program that has imported PyTorch may have allowed more classes, and saves no time.
    if path.suffix.lower() in _PICKLED and not trust_pickle and "torch" not in sys.modules:
        check_pickle(path)


def _check_safetensors(path: Path) -> None:
    """The file is the length of its header (uint64, little-endian), the header in JSON, and the data it speaks of."""
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(_HEADER_LENGTH.size)
        length = _HEADER_LENGTH.unpack(start)[0] if len(start) == _HEADER_LENGTH.size else 0
        header = file.read(length) if 0 < length <= min(size, _LONGEST_HEADER) else b""
    try:
        tensors = msgspec.json.decode(header, type=dict[str, _Entry])
    except (msgspec.DecodeError, RecursionError) as error:
        raise ModelFileError(f"{path}: truncated, damaged or not a .safetensors file") from error
    needed = _HEADER_LENGTH.size + length + max((entry.data_offsets[1] for entry in tensors.values()), default=0)
    if needed > size:
        raise ModelFileError(f"{path}: truncated .safetensors file: it has {size} bytes of {needed}")
    if (metadata := tensors.get("__metadata__")) is not None and metadata.architecture is not None:
        find_architecture(path, metadata.architecture)
