"""Loads damaged copies of model files, for a test that runs this as a process of its own: a crash would end it.

``python -m tests.runtimes.damage FOLDER COUNT FILE[:RUNTIME]…`` writes each copy to FOLDER, loads it and, where that
works, executes it. Ends with 0 when every copy was loaded or refused with one clear line.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from tierwise.core.errors import TierwiseError
from tierwise.runtimes import load_runtime, warm_up


def damaged(content: bytes, seed: int) -> bytes:
    """A copy with some bytes changed, cut off, overwritten in a row, or replaced altogether."""
    rng = np.random.default_rng(seed)
    copy = bytearray(content)
    match seed % 4:
        case 0:
            for at in rng.integers(0, len(copy), size=int(rng.integers(1, 8))):
                copy[at] = int(rng.integers(256))
        case 1:
            del copy[int(rng.integers(1, len(copy))) :]
        case 2:
            at = int(rng.integers(0, len(copy)))
            copy[at : at + 16] = rng.bytes(16)
        case _:
            # The first bytes stay, so that the copy passes for one of its format.
            keep = int(rng.choice([0, 8, 64]))
            copy[keep:] = rng.bytes(int(rng.integers(1, 400)))
    return bytes(copy)


def main(folder: Path, count: int, files: list[str]) -> None:
    """See above."""
    loaded = refused = 0
    for file in files:
        source, _, name = file.partition(":")
        content = Path(source).read_bytes()
        copy = folder / f"copy{Path(source).suffix}"
        for seed in range(count):
            copy.write_bytes(damaged(content, seed))
            # Flushed, so that the last line names the copy that ended the process.
            sys.stdout.write(f"{file} seed {seed}\n")
            sys.stdout.flush()
            try:
                runtime = load_runtime(copy, runtime=name or None)
                warm_up(runtime, runs=1)
                runtime.close()
                loaded += 1
            except TierwiseError as error:
                if "\n" in str(error) or not str(error).isprintable():
                    raise ValueError(f"not one printable line: {error!r}") from error
                refused += 1
    sys.stdout.write(f"loaded {loaded} refused {refused}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
