"""What executes a model file: one small file per runtime behind ``tierwise.core.runtime.Runtime``.

A runtime's library is imported when its first model is loaded, so an edge service never needs the cloud's packages.
"""

from __future__ import annotations

from tierwise.runtimes.loading import load_runtime, runtimes_for
from tierwise.runtimes.warmup import warm_up

__all__ = ["load_runtime", "runtimes_for", "warm_up"]
