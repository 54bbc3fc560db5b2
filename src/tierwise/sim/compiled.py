"""Functions that numba compiles where it is installed, and that run as they are where it is not.

The same source has both executions, so a machine without numba gets the same trace, only later. Compiled code is kept
in the user's cache folder under a name made of the sources' hash: it never outlives a change of any of them.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

try:
    import numba
    import numba.extending
except ImportError:  # the extra `sim` is not installed
    numba = None

INSTALLED: bool = numba is not None
"""Whether numba is there."""
COMPILES: bool = numba is not None and not numba.config.DISABLE_JIT
"""Whether ``compiled`` does anything here."""

Function = TypeVar("Function", bound="Callable[..., Any]")


def _cache_folder() -> Path:
    digest = hashlib.sha256()
    here = Path(__file__).parent
    rules = here.parent / "policy" / "rules.py"
    for path in [
        here / "compiled.py",
        here / "numerics.py",
        here / "queues.py",
        rules,
        *sorted(here.glob("kernel/*.py")),
    ]:
        digest.update(path.read_bytes())
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "tierwise" / "kernel" / digest.hexdigest()[:16]


if COMPILES and not numba.config.CACHE_DIR:
    numba.config.CACHE_DIR = str(_cache_folder())


def must_compile() -> bool:
    """Whether the next run pays for compiling, which takes some ten seconds: none was kept by an earlier one."""
    return COMPILES and not any(Path(numba.config.CACHE_DIR).rglob("*.nbc"))


def compiled(function: Function, *, large: bool = False) -> Function:
    """The function, compiled at its first call; ``py_func`` is the original.

    All are inlined into their callers, except ``large`` ones: passing the tables on costs more than the work. They
    allocate nothing, so reference counting is off.
    """
    if not COMPILES:
        return function
    result: Function = numba.njit(cache=True, error_model="numpy", _nrt=False, forceinline=not large)(function)
    return result


def compiled_apart(function: Function) -> Function:
    """Like ``compiled``, not inlined."""
    return compiled(function, large=True)


def undispatched(function: Function) -> Function:
    """The compiled code itself, for calls with the very arguments of the last: numba's look at their types takes 2 µs.

    The function where it is not compiled, or not for one set of types only.
    """
    compiled_for = list(getattr(function, "overloads", {}).values())
    return compiled_for[0].entry_point if len(compiled_for) == 1 else function


def shared(function: Function) -> Function:
    """A function of arithmetic alone: inlined where compiled code calls it, and left as it is for arrays."""
    if not COMPILES:
        return function
    result: Function = numba.extending.register_jitable(function)
    return result
