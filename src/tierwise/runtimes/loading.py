"""Chooses the runtime for a model file and loads it."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tierwise.core.errors import ConfigurationError, DependencyError, ModelFileError
from tierwise.runtimes.containers import check_container
from tierwise.runtimes.files import check_file

if TYPE_CHECKING:
    from types import ModuleType

    from tierwise.core.runtime import Runtime


class _Kind(NamedTuple):
    module: str
    suffixes: tuple[str, ...]
    packages: tuple[str, ...]
    extra: str


# In order of preference where several runtimes load one suffix.
_KINDS = {
    "onnx": _Kind("tierwise.runtimes.onnx", (".onnx",), ("onnxruntime",), "edge"),
    "litert": _Kind("tierwise.runtimes.litert", (".tflite",), ("ai_edge_litert",), "edge"),
    "torch": _Kind(
        "tierwise.runtimes.torch", (".pt", ".pth", ".pt2", ".safetensors"), ("torch", "safetensors"), "cloud"
    ),
    "tflm": _Kind("tierwise.runtimes.tflm", (".tflite",), ("tflite_micro",), "device"),
}


def runtimes_for(path: Path) -> list[str]:
    """Names of the runtimes that load files with this suffix, the preferred one first."""
    return [name for name, kind in _KINDS.items() if path.suffix.lower() in kind.suffixes]


def suffixes_of(runtime: str) -> tuple[str, ...]:
    """What the names of files for a runtime end with, with the dot."""
    return _KINDS[runtime].suffixes


def missing_package(runtime: str) -> str | None:
    """What to install for a runtime, ``onnxruntime: pip install 'tierwise[edge]'``; ``None`` where all is there."""
    kind = _KINDS[runtime]
    missing = [package for package in kind.packages if importlib.util.find_spec(package) is None]
    return f"{' and '.join(missing)}: pip install 'tierwise[{kind.extra}]'" if missing else None


def load_runtime(path: Path, *, runtime: str | None = None, threads: int = 1, trust_pickle: bool = False) -> Runtime:
    """Loads a model file.

    ``runtime`` is ``onnx``, ``litert``, ``torch`` or ``tflm``; ``None`` chooses by the suffix. ``threads`` is how many
    threads one call may use. ``trust_pickle`` allows a pickled PyTorch module, whose loading runs code from the file.

    Raises ``ConfigurationError`` where the runtime is unknown or does not load such files, ``DependencyError`` where
    its library is not installed, ``ModelFileError`` where the file is missing, unreadable, truncated or of another
    format, and ``UntrustedModelError`` for a pickled module that nobody has allowed.
    """
    path = Path(path)
    if threads < 1:
        raise ConfigurationError(f"threads must be at least 1, got {threads}")
    if runtime is not None and runtime not in _KINDS:
        raise ConfigurationError(f"unknown runtime {runtime!r}; known are {', '.join(_KINDS)}")
    check_file(path)
    fitting = runtimes_for(path)
    if not fitting:
        known = ", ".join(f"{suffix} ({name})" for name, kind in _KINDS.items() for suffix in kind.suffixes)
        raise ModelFileError(f"{path}: the suffix {path.suffix!r} is not one of a model file; known are {known}")
    name = runtime or fitting[0]
    if name not in fitting:
        loads = ", ".join(_KINDS[name].suffixes)
        raise ConfigurationError(
            f"{path}: the {name} runtime loads {loads}; for {path.suffix.lower()} use {' or '.join(fitting)}"
        )
    if name == "torch":
        # What is no model is told in milliseconds, not after PyTorch's import.
        check_container(path, trust_pickle=trust_pickle)
    module = _module(name)
    options = {"trust_pickle": trust_pickle} if name == "torch" else {}
    loaded: Runtime = module.load(path, threads=threads, **options)
    signature = loaded.signature
    if not all(spec.name.isprintable() for spec in (*signature.inputs, *signature.outputs)):
        raise ModelFileError(f"{path}: damaged: it names its tensors with control characters")
    return loaded


def _module(name: str) -> ModuleType:
    kind = _KINDS[name]
    try:
        return importlib.import_module(kind.module)
    except ImportError as error:
        package = (error.name or "").partition(".")[0]
        if package == "tierwise":
            raise
        missing = package or " and ".join(kind.packages)
        raise DependencyError(
            f"the {name} runtime needs the Python package {missing} ({error}): pip install 'tierwise[{kind.extra}]'"
        ) from error
