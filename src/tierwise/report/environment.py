"""Where a measurement was made: without the machine and the versions a latency means little."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from tierwise import __version__

_CPU_NAMES = ("model name", "Model", "Hardware", "cpu model")
PACKAGES = ("onnxruntime", "ai-edge-litert", "torch", "tflite-micro", "numpy", "uvloop", "mqtt5")


def environment_facts() -> dict[str, str]:
    """Names and values, in the order in which they are shown."""
    facts = {
        "processor": f"{cpu_name()}, {available_cpus()} of {os.cpu_count()} cores",
        "memory": _memory(),
        "system": f"{platform.system()} {platform.release()}, {platform.machine()}",
        "Python": platform.python_version(),
        "tierwise": __version__,
    }
    for package in PACKAGES:
        try:
            facts[package] = version(package)
        except PackageNotFoundError:
            continue
    return {name: value for name, value in facts.items() if value}


def available_cpus() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cpu_name() -> str:
    """The processor as the system calls it."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines() if cpuinfo.exists() else []
    names = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    found = next((names[name] for name in _CPU_NAMES if names.get(name)), "") or platform.processor()
    return found or platform.machine()


def _memory() -> str:
    try:
        return f"{os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 2**30:.1f} GiB"
    except (ValueError, OSError):  # a system that does not tell
        return ""
