"""Where a sweep's points run: processes here, or a Dask cluster."""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import os
import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tierwise.core.errors import DependencyError, TransportError

if TYPE_CHECKING:
    from collections.abc import Iterator

_CONNECT_S = 10


@contextmanager
def open_executor(*, dask: str | None = None, workers: int | None = None) -> Iterator[concurrent.futures.Executor]:
    """Processes of this machine, or with ``dask`` the cluster at that address.

    Raises ``DependencyError`` where ``distributed`` is not installed, ``TransportError`` where nobody answers.
    """
    if dask is None:
        # Fresh interpreters: a fork of a process with threads can hang.
        context = multiprocessing.get_context("spawn")
        with concurrent.futures.ProcessPoolExecutor(workers, mp_context=context, initializer=_end_with_parent) as pool:
            yield pool
        return
    try:
        from distributed import Client  # noqa: PLC0415 -- optional
    except ImportError as error:
        raise DependencyError("a Dask cluster needs distributed: pip install 'tierwise[cluster]'") from error
    try:
        client = Client(dask, timeout=_CONNECT_S)
    except (OSError, ValueError, TimeoutError) as error:
        raise TransportError(f"cannot reach the Dask scheduler {dask}: {error}") from error
    try:
        yield client.get_executor()
    finally:
        client.close()


def _end_with_parent() -> None:
    """A worker whose parent is killed would wait for work for ever; Ctrl-C ends it without a word."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_wait_and_end, args=(parent,), daemon=True).start()


def _wait_and_end(parent: multiprocessing.process.BaseProcess) -> None:
    parent.join()
    os._exit(1)
