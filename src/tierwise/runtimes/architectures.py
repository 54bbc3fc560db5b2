"""Architectures by name: a checkpoint holds weights only, so its name says which module to build for them.

Any package can register one::

    [project.entry-points."tierwise.architectures"]
    my-detector = "my_package.detector:build"

where ``build()`` returns an untrained ``torch.nn.Module`` with an attribute ``signature``
(``tierwise.core.tensors.Signature``).
"""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import TYPE_CHECKING

from tierwise.core.errors import ModelFileError
from tierwise.runtimes.files import one_line

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint
    from pathlib import Path

    from torch import nn

GROUP = "tierwise.architectures"


def known_architectures() -> list[str]:
    """Names of all registered architectures, sorted."""
    return sorted({point.name for point in entry_points(group=GROUP)})


def find_architecture(path: Path, name: object) -> EntryPoint:
    """The architecture that the file at ``path`` names, not imported yet. Raises ``ModelFileError``."""
    if not isinstance(name, str):
        raise ModelFileError(f"{path}: its architecture must be a name, got {type(name).__name__}")
    points = tuple(entry_points(group=GROUP, name=name))
    if not points:
        raise ModelFileError(
            f"{path}: unknown architecture {name!r}; known are {', '.join(known_architectures()) or 'none'} "
            f"(a package registers one as an entry point of the group {GROUP!r})"
        )
    return points[0]


def build_architecture(path: Path, name: object) -> nn.Module:
    """The untrained module of the architecture that the file at ``path`` names. Raises ``ModelFileError``."""
    from torch import nn  # noqa: PLC0415 -- whether a name is known can be told without PyTorch

    point = find_architecture(path, name)
    try:
        module = point.load()()
    except Exception as error:
        raise ModelFileError(
            f"{path}: the architecture {name!r} ({point.value}) cannot be built: {one_line(error)}"
        ) from error
    if not isinstance(module, nn.Module):
        raise ModelFileError(
            f"{path}: the architecture {name!r} ({point.value}) builds a {type(module).__name__}, not a module"
        )
    return module
