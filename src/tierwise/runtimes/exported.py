"""Exported programs: ``.pt2`` files of ``torch.export.save``.

``torch.export.load`` (2.13) is not safe on a file that nobody vouches for: it falls back to full unpickling for the
sample inputs, unpickles weights and constants that ask for it, evaluates symbolic sizes as Python, and takes compiled
libraries. A model needs none of that. So the archive is read here first, in memory; what could run code from it is
refused, and the loader gets a fresh archive of the members that were looked at.
"""

from __future__ import annotations

import ast
import io
import json
import logging
import re
import warnings
import zipfile
from typing import TYPE_CHECKING, Any

import torch

from tierwise.core.errors import ModelFileError, UntrustedModelError
from tierwise.core.tensors import Signature, TensorSpec
from tierwise.runtimes.files import one_line
from tierwise.runtimes.signatures import parse_signature

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from torch import nn

_SIGNATURE_FILE = "signature.json"
# What stands for a size is a symbol, or arithmetic on symbols and numbers.
_SIZE_FUNCTIONS = frozenset({
    "Add", "CeilDiv", "CeilToInt", "CleanDiv", "Eq", "FloatTrueDiv", "Float", "FloorDiv", "FloorToInt", "Ge", "Gt",
    "IntTrueDiv", "Integer", "Le", "Lt", "Max", "Min", "Mod", "ModularIndexing", "Mul", "Ne", "Pow", "PowByNatural",
    "PythonMod", "Rational", "Symbol", "ToFloat", "TruncToInt", "Where",
})  # fmt: skip
_SYMBOL = re.compile(r"[a-z]{1,4}\d{1,9}")
_ALLOWED_NODES = (
    ast.Expression, ast.Call, ast.Name, ast.Load, ast.Constant, ast.keyword, ast.BinOp, ast.UnaryOp, ast.operator,
    ast.unaryop, ast.Compare, ast.cmpop,
)  # fmt: skip
# Computing operators only; of them, two touch files.
_OPERATOR = re.compile(
    r"torch\.ops\.(aten|prims|higher_order|quantized|quantized_decomposed|torchvision)\.[a-z_]\w*(\.\w+)?"
    r"|_operator\.[a-z]\w*|math\.[a-z]\w*|torch\.sym_[a-z]\w*|torch\._sym_[a-z]\w*"
)
_FILE_OPERATORS = ("torch.ops.aten.from_file", "torch.ops.aten.save")


class ExportedModule:
    """An exported program whose own checks of its input shapes run when the shapes change: they cost three calls."""

    def __init__(self, module: nn.Module) -> None:
        self._checked: Callable[..., Any] = module
        self._unchecked: Callable[..., Any] = module.forward
        self._shapes: list[torch.Size] = []

    def __call__(self, *tensors: torch.Tensor) -> Any:  # noqa: ANN401  # whatever the program gives
        shapes = [tensor.shape for tensor in tensors]
        if shapes == self._shapes:
            return self._unchecked(*tensors)
        answer = self._checked(*tensors)
        self._shapes = shapes
        return answer


def load_exported(path: Path, *, trust_pickle: bool) -> tuple[ExportedModule, Signature]:
    """The program in a ``.pt2`` file and its signature (``signature.json`` in the file, else read off the program).

    Raises ``ModelFileError`` or, where loading could run code from the file and ``trust_pickle`` is not set,
    ``UntrustedModelError``.
    """
    members = _read_members(path)
    if not any(name.endswith("/models/model.json") for name in members):
        raise ModelFileError(f"{path}: not an exported program; write .pt2 files with torch.export.save")
    if not trust_pickle and (reason := _reason_to_distrust(members)):
        raise UntrustedModelError(
            f"{path}: {reason}, and loading it could run code from the file. "
            "Export the model again with torch.export.save; if you trust the file, pass --trust-pickle"
        )
    extra: dict[str, Any] = {_SIGNATURE_FILE: ""}
    # It logs a failure with its traceback before it raises it.
    logger = logging.getLogger("torch.export")
    was_disabled, logger.disabled = logger.disabled, True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.export.load(_archive(members), extra_files=extra)
            module = ExportedModule(program.module())
            signature = _signature(path, program, extra[_SIGNATURE_FILE])
    except ModelFileError:
        raise
    except Exception as error:
        raise ModelFileError(f"{path}: truncated, damaged or unsuitable .pt2 file: {one_line(error)}") from error
    finally:
        logger.disabled = was_disabled
    return module, signature


def _read_members(path: Path) -> dict[str, bytes]:
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            # Members are never compressed, so none is larger than the file.
            if all(entry.compress_type == zipfile.ZIP_STORED for entry in entries):
                return {entry.filename: archive.read(entry) for entry in entries}
    except Exception as error:
        raise ModelFileError(f"{path}: truncated, damaged or not a .pt2 file: {one_line(error)}") from error
    raise ModelFileError(f"{path}: not a .pt2 file of torch.export.save (its members are compressed)")


def _archive(members: dict[str, bytes]) -> io.BytesIO:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name), content)
    target.seek(0)
    return target


def _reason_to_distrust(members: dict[str, bytes]) -> str | None:
    """What in the archive could run code when it is loaded, or ``None``."""
    for name, content in members.items():
        place = name.partition("/")[2]
        if place.startswith(("data/aotinductor/", "data/weights/", "data/constants/")):
            if place.startswith("data/aotinductor/"):
                return "it holds compiled code"
            file = place.rpartition("/")[2]
            if file.endswith(".pt") or file.startswith(("custom_obj", "opaque_obj")):
                return f"it holds a pickled object ({file})"
        if place.startswith("data/sample_inputs/") and not _loads_as_weights(content):
            return "its sample inputs are pickled objects"
        if place.endswith(".json") and not place.startswith("extra/"):
            try:
                reason = next(filter(None, map(_distrust_entry, _entries(json.loads(content)))), None)
            except (ValueError, RecursionError):
                return f"{place} cannot be read"
            if reason:
                return reason
    return None


def _entries(value: object) -> Iterator[tuple[str, object]]:
    """All (key, value) pairs at any depth; JSON inside of strings is looked into as well."""
    stack = [value]
    while stack:
        match stack.pop():
            case dict() as mapping:
                yield from mapping.items()
                stack.extend(mapping.values())
            case list() as values:
                stack.extend(values)
            case str() as text if text.startswith(("{", "[")):
                stack.append(json.loads(text))


def _distrust_entry(entry: tuple[str, object]) -> str | None:
    match entry:
        case "use_pickle", True:
            return "it holds pickled weights"
        case (("__enum__" | "default_factory_module"), _):
            return "its input structure imports modules"
        case "expr_str", text if not _is_size(text):
            return "a symbolic size in it is not arithmetic"
        case "target", str() as target if not _OPERATOR.fullmatch(target) or target.startswith(_FILE_OPERATORS):
            return f"it calls {target!r}"
    return None


def _is_size(text: object) -> bool:
    """Whether evaluating it can only compute: names and calls of a fixed set, numbers, and symbols by name."""
    try:
        tree = ast.parse(text, mode="eval") if isinstance(text, str) else None
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return tree is not None and all(_is_harmless(node) for node in ast.walk(tree))


def _is_harmless(node: ast.AST) -> bool:
    match node:
        case ast.Name(id=name):
            return name in _SIZE_FUNCTIONS or _SYMBOL.fullmatch(name) is not None
        case ast.Constant(value=str() as text):
            return _SYMBOL.fullmatch(text) is not None
        case ast.Constant(value=value):
            return isinstance(value, (bool, int, float))
        case ast.Call(func=func):
            return isinstance(func, ast.Name) and func.id in _SIZE_FUNCTIONS
    return isinstance(node, _ALLOWED_NODES)


def _loads_as_weights(content: bytes) -> bool:
    """The test that the loader makes first; where it fails, the loader unpickles everything."""
    if not content:
        return True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.load(io.BytesIO(content), weights_only=True)
    except Exception:  # noqa: BLE001  # whatever is wrong with it: it is not plain weights
        return False
    return True


def _signature(path: Path, program: torch.export.ExportedProgram, stated: str) -> Signature:
    if stated and stated.strip() not in {"", "{}"}:
        return parse_signature(path, stated.encode())
    values = {node.name: node.meta.get("val") for node in program.graph.nodes}
    inputs, outputs = program.graph_signature.user_inputs, program.graph_signature.user_outputs
    if any(not isinstance(values.get(str(name)), torch.Tensor) for name in (*inputs, *outputs)):
        raise ModelFileError(f"{path}: only tensors can be inputs and outputs")
    examples: Any = program.example_inputs  # typed as always there; files without them exist
    if examples and examples[1]:
        raise ModelFileError(f"{path}: its inputs are keyword arguments; export it with positional ones")
    names = ["output"] if len(outputs) == 1 else [f"output_{at}" for at in range(len(outputs))]
    return Signature(
        inputs=tuple(_spec(str(name), values[str(name)]) for name in inputs),
        outputs=tuple(_spec(name, values[str(node)]) for name, node in zip(names, outputs, strict=True)),
    )


def _spec(name: str, value: torch.Tensor) -> TensorSpec:
    dimensions: list[object] = list(value.shape)  # integers, or symbols where free
    sizes = tuple(size if isinstance(size, int) else None for size in dimensions)
    return TensorSpec(name, sizes, str(value.dtype).removeprefix("torch."))
