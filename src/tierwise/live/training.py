"""Creates a model in a process of its own: ``python -m tierwise.live.training NAME FOLDER``.

Training imports PyTorch with its pool of threads, and converters that write to stderr from C++. Neither belongs into a
process that measures.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tierwise.core.errors import TierwiseError
from tierwise.live.processes import child_process

if TYPE_CHECKING:
    from collections.abc import Callable

_STEP, _ERROR = "step: ", "error: "


async def train_in_child(name: str, folder: Path, *, on_step: Callable[[str], None]) -> None:
    """Creates the model ``name`` in ``folder``. Raises ``TierwiseError`` with what the process said was wrong."""

    def hear(line: str) -> None:
        if line.startswith(_STEP):
            on_step(line.removeprefix(_STEP))

    command: list[str | Path] = [sys.executable, "-m", "tierwise.live.training", name, folder]
    async with child_process(command, name=f"training of {name}", on_line=hear) as child:
        if await child.wait():
            said = [line.removeprefix(_ERROR) for line in child.lines if line.startswith(_ERROR)]
            raise TierwiseError(f"cannot create the model {name}: {said[-1] if said else child.last_words()}")


def main(name: str, folder: str) -> int:
    """Returns the exit code. Steps and errors are lines on stdout."""
    from tierwise.models.create import create_model  # noqa: PLC0415 - only the child needs what training needs
    from tierwise.runtimes import load_runtime  # noqa: PLC0415

    try:
        create_model(name, Path(folder), load=load_runtime, on_step=lambda step: _say(_STEP, step))
    except TierwiseError as error:
        _say(_ERROR, str(error))
        return 1
    return 0


def _say(kind: str, text: str) -> None:
    sys.stdout.write(f"{kind}{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
