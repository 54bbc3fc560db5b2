"""Compiling many small models quickly, with sanitizers, and asking TensorFlow Lite Micro the same questions."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from tflite_micro import runtime

import tierwise.device
from tierwise.device.build import Options, prepare, write_sources
from tierwise.device.toolchain import host_compiler

KERNELS = Path(tierwise.device.__file__).parent / "c" / "kernels"
RUNNER = Path(__file__).parent / "runner.c"
FLAGS = (
    "-std=c99", "-O1", "-g", "-Wall", "-Wextra", "-Wshadow", "-Wconversion", "-Werror",
    "-fsanitize=address,undefined", "-fno-sanitize-recover=all",
)  # fmt: skip


class Laboratory:
    """Holds the kernels compiled once; ``run`` compiles one model against them."""

    def __init__(self, folder: Path) -> None:
        compiler = host_compiler()
        assert compiler is not None
        self._compiler = compiler
        self._folder = folder
        self._objects = []
        for source in sorted(KERNELS.glob("*.c")):
            made = folder / f"{source.stem}.o"
            subprocess.run([compiler, *FLAGS, "-c", source, "-o", made], check=True)
            self._objects.append(made)

    def run(self, model: bytes, samples: list[bytes], *, fast: bool) -> list[bytes]:
        """Outputs of the generated C for each sample (all inputs, one behind the other)."""
        with tempfile.TemporaryDirectory(dir=self._folder) as work:
            path = Path(work) / "model.tflite"
            path.write_bytes(model)
            compilation = prepare(path, Options(host=True, fast=fast))
            write_sources(Path(work) / "src", compilation)
            program = Path(work) / "program"
            made = Path(work) / "src"
            subprocess.run(
                [self._compiler, *FLAGS, f"-I{KERNELS}", f"-I{made}", made / "model.c", RUNNER, *self._objects,
                 "-o", program],
                check=True,
            )  # fmt: skip
            done = subprocess.run([program], input=b"".join(samples), capture_output=True, check=False, timeout=60)
            assert done.returncode == 0, done.stderr.decode(errors="replace")[-3000:]
        size = len(done.stdout) // len(samples)
        return [done.stdout[at : at + size] for at in range(0, len(done.stdout), size)]


class Oracle:
    """TensorFlow Lite Micro with the same model."""

    def __init__(self, model: bytes, inputs: int, outputs: int) -> None:
        self._interpreter = runtime.Interpreter.from_bytes(model, arena_size=1 << 20)
        self._inputs = [self._interpreter.get_input_details(index) for index in range(inputs)]
        self._outputs = outputs

    def random_sample(self, rng: np.random.Generator) -> bytes:
        """Random bytes, or reals where an input is float32, for all inputs."""
        parts = []
        for details in self._inputs:
            shape = tuple(details["shape"])
            if details["dtype"] == np.float32:
                parts.append(rng.normal(scale=8.0, size=shape).astype(np.float32).tobytes())
            else:
                parts.append(rng.integers(-128, 128, shape, dtype=np.int8).tobytes())
        return b"".join(parts)

    def run(self, sample: bytes) -> bytes:
        """All outputs for one sample, one behind the other."""
        at = 0
        for index, details in enumerate(self._inputs):
            values: np.ndarray[Any, Any] = np.frombuffer(
                sample, details["dtype"], count=int(np.prod(details["shape"])), offset=at
            )
            self._interpreter.set_input(values.reshape(details["shape"]), index)
            at += values.nbytes
        self._interpreter.invoke()
        return b"".join(self._interpreter.get_output(index).tobytes() for index in range(self._outputs))
