"""How long the package and the command line take to start, and how much disk the edge install takes."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from benchmarks.example import scratch
from benchmarks.table import Row

RUNS = 15


def measure() -> list[Row]:
    """Best of several runs: what the machine's other work adds is not ours."""
    empty_ms = _best_ms([sys.executable, "-c", "pass"])
    import_ms = _best_ms([sys.executable, "-c", "import tierwise"])
    help_ms = _best_ms([str(Path(sys.executable).with_name("tierwise")), "--help"])
    return [
        Row("import tierwise", f"{import_ms:.0f} ms", f"{empty_ms:.0f} ms empty Python", import_ms, "<=", 150, "ms"),
        Row("tierwise --help", f"{help_ms:.0f} ms", f"{empty_ms:.0f} ms empty Python", help_ms, "<=", 250, "ms"),
        _install_size(),
    ]


def _best_ms(command: list[str]) -> float:
    times = []
    for _ in range(RUNS):
        started = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        times.append((time.perf_counter() - started) * 1e3)
    return min(times)


def _install_size() -> Row:
    """Installs ``tierwise[edge]`` into a folder of its own; no torch, no bytecode."""
    root = Path(__file__).parent.parent
    with scratch() as folder:
        command = [
            sys.executable,
            "-m",
            "pip",
            "install",
            "--quiet",
            "--no-compile",
            "--target",
            folder,
            f"{root}[edge]",
        ]
        subprocess.run(command, check=True)
        size_mib = sum(file.stat().st_size for file in Path(folder).rglob("*") if file.is_file()) / 2**20
        packages = len(list(Path(folder).glob("*.dist-info")))
        if (Path(folder) / "torch").exists():
            raise SystemExit("the edge install contains torch")
    return Row("pip install tierwise[edge]", f"{size_mib:.0f} MiB", f"{packages} packages", size_mib, "<=", 250, "MiB")
