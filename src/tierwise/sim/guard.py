"""The end of process groups; as a program, of those that a run leaves behind, however the run itself ended.

A run tells its groups on standard input, ``+123`` when one starts and ``-123`` when it has ended. When that input
closes the run is gone, and what is left of its groups is ended. The module imports nothing of tierwise: it starts fast.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

GRACE_S = 1.0
_PAUSE_S = 0.005


def _reached(group: int, number: int) -> bool:
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):  # nobody is left there
        return False
    return True


def wait_for(done: Callable[[], bool], longest_s: float) -> bool:
    """Whether the condition came to hold in time."""
    deadline = time.monotonic() + longest_s
    while not (held := done()) and time.monotonic() < deadline:
        time.sleep(_PAUSE_S)
    return held


def end_groups(groups: Iterable[int], reap: Callable[[], object] = int) -> None:
    """SIGTERM to all, and after one grace for all of them SIGKILL to those that are still there.

    ``reap`` collects the caller's own children: a group lives as long as its dead leader is not collected.
    """
    left = [group for group in groups if _reached(group, signal.SIGTERM)]

    def all_gone() -> bool:
        reap()
        left[:] = [group for group in left if _reached(group, 0)]
        return not left

    if not wait_for(all_gone, GRACE_S):
        for group in left:
            _reached(group, signal.SIGKILL)


def main() -> None:
    """Keeps the list until the input closes, then ends what is on it."""
    groups = set[int]()
    for line in sys.stdin:
        number = int(line[1:])
        if line.startswith("+"):
            groups.add(number)
        else:
            groups.discard(number)
    end_groups(groups)


if __name__ == "__main__":
    main()
