"""A first look into the pickle of a PyTorch checkpoint: its operations are read, and none of them is executed.

PyTorch's own loader decides what is loaded. This only tells early what it would refuse for certain, and lets pass
whatever is not certain.
"""

from __future__ import annotations

import io
import pickletools
import struct
import warnings
import zipfile
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from typing import TYPE_CHECKING, Any

from tierwise.core.errors import ModelFileError, UntrustedModelError
from tierwise.runtimes.architectures import find_architecture

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

HOW_TO_SAVE = 'torch.save({"architecture": NAME, "state_dict": model.state_dict()}, FILE)'
_SHOWN = 3

_LARGEST = 1_000_000
"""A longer pickle, in bytes, is left to PyTorch: reading its operations would take as long as PyTorch's import."""
_OLD_FORM_PICKLES = 4
"""Before PyTorch 1.6 a file began with a magic number, a version and facts of the machine, and then the content."""
_MEMO = ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE")
_FIRST = 16
_LOCAL_HEADER = struct.Struct("<26xHH")
"""Of a member in a zip file: at its end the lengths of the name and of the extra field, which follow it."""
_PLAIN = (
    "collections.OrderedDict", "collections.Counter", "_codecs.encode",
    "builtins.bytearray", "builtins.set", "builtins.complex",
)  # fmt: skip
"""What weights may need beside PyTorch's own types."""


def check_pickle(path: Path) -> None:
    """Raises ``ModelFileError`` where the pickle in a ``.pt`` or ``.pth`` file is damaged or names an architecture that
    nobody has registered, and ``UntrustedModelError`` where loading it would run code."""
    content, pickles = _content(path)
    first: list[tuple[str, Any]] = []
    refused = set()
    try:
        for operation, argument in _operations(content, pickles):
            if operation == "PROTO":  # begins a pickle
                first.clear()
            if len(first) < _FIRST and operation not in _MEMO:
                first.append((operation, argument))
            if operation == "GLOBAL" and not _may_be_plain(name := _modern(argument)):
                refused.add(name)
    except ValueError as error:
        is_certain = len(content) < _LARGEST and not isinstance(error, UnicodeDecodeError)  # or a class in any language
        if is_certain and not refused:
            raise ModelFileError(f"{path}: truncated, damaged or not a PyTorch checkpoint") from error
    if refused:
        raise pickled_object(path, refused)
    match first:
        case [("PROTO", _), ("EMPTY_DICT", _), ("MARK", _), (_, "architecture"), (_, str(architecture)), *_]:
            find_architecture(path, architecture)


def pickled_object(path: Path, classes: Collection[str]) -> UntrustedModelError:
    """What to do about a file that holds objects of these classes."""
    # The author's own classes say most.
    names = sorted(classes, key=lambda name: (name.startswith("torch."), name))
    names = names if len(names) <= _SHOWN else [*names[:_SHOWN], "…"]
    return UntrustedModelError(
        f"{path}: is a pickled object ({', '.join(names)}), and loading it would run code from the file. "
        f"Save the weights with {HOW_TO_SAVE}, or export to .pt2 or .onnx; if you trust the file, pass --trust-pickle"
    )


def _content(path: Path) -> tuple[bytes, int]:
    """The bytes in which the pickles are, and how many; none where that is PyTorch's business."""
    try:
        with path.open("rb") as file:
            if not zipfile.is_zipfile(file):
                file.seek(0)
                return file.read(_LARGEST), _OLD_FORM_PICKLES
            with zipfile.ZipFile(file) as archive:
                members = archive.infolist()
            names = [member.filename.partition("/")[2] for member in members]
            if names.count("data.pkl") != 1 or "constants.pkl" in names:  # an exported program or TorchScript
                return b"", 0
            member = members[names.index("data.pkl")]
            if member.compress_type != zipfile.ZIP_STORED or member.file_size >= _LARGEST:
                return b"", 0
            # Not by `archive.open`: PyTorch can be told to write no checksums, which it would insist on.
            file.seek(member.header_offset)
            lengths = _LOCAL_HEADER.unpack(file.read(_LOCAL_HEADER.size))
            file.seek(sum(lengths), io.SEEK_CUR)
            return file.read(member.file_size), 1
    except (zipfile.BadZipFile, struct.error, ValueError, NotImplementedError, OSError):
        return b"", 0  # PyTorch reads zip files in its own way, and tells what is wrong with them


def _operations(content: bytes, pickles: int) -> Iterator[tuple[str, Any]]:
    stream = io.BytesIO(content)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about escape sequences, which damaged names may hold
        for _ in range(pickles):
            for operation, argument, _ in pickletools.genops(stream):
                yield operation.name, argument


def _modern(argument: str) -> str:
    """Module and name that an operation asks for; pickles of protocol 2 have the names of Python 2."""
    module, _, name = argument.partition(" ")
    module, name = NAME_MAPPING.get((module, name), (IMPORT_MAPPING.get(module, module), name))
    return f"{module}.{name}"


def _may_be_plain(name: str) -> bool:
    """Of PyTorch's own types only the modules are told for certain; which others it allows changes with its version."""
    return name in _PLAIN or (name.startswith("torch.") and not name.startswith("torch.nn.modules."))
