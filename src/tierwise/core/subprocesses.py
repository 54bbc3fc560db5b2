"""A command whose process ends with the one that starts it, however that ends."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

# Runs in the child before the program: Linux is asked to kill it when its parent dies. It is a program of its own
# because code between fork and exec can deadlock where the parent has threads. The parent may have died before the
# request was made, and then nobody would end the child: so it looks once more, which `setpriv --pdeathsig` does not.
_TIED_TO_PARENT = """
import ctypes, os, signal, sys
parent = int(sys.argv[1])
ctypes.CDLL(None).prctl(1, signal.SIGKILL)
if os.getppid() != parent:
    sys.exit("the parent process ended first")
os.execv(sys.argv[2], sys.argv[3:])
"""


def tied_to_parent(program: str, arguments: Sequence[str]) -> list[str]:
    """Command line that runs ``program`` and kills it when the calling process dies, on Linux.

    ``program`` is the path of its file, ``arguments`` are what it sees as its own, the name first. The process id and
    the inherited file descriptors are those of the started process. Elsewhere than on Linux nothing is tied.
    """
    program = str(Path(program).absolute())  # the child may start in another folder
    if sys.platform != "linux":
        return [program, *arguments[1:]]
    # -S and -I: the few lines need nothing but the standard library, and start fast.
    return [sys.executable, "-I", "-S", "-c", _TIED_TO_PARENT, str(os.getpid()), program, *arguments]
