"""C compilers: the ARM one for firmware, the machine's own for host builds."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tierwise.core.errors import DependencyError
from tierwise.core.subprocesses import tied_to_parent
from tierwise.device.graph import UnsupportedModelError
from tierwise.device.machines import CPU_FLAGS, Machine

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

ARM_COMPILER: Final = "arm-none-eabi-gcc"
_OBJCOPY: Final = "arm-none-eabi-objcopy"
_SIZE: Final = "arm-none-eabi-size"
_ARM_PROGRAMS: Final = (ARM_COMPILER, _OBJCOPY, _SIZE)
ARM_HINT: Final = "install it (Debian: apt install gcc-arm-none-eabi libnewlib-arm-none-eabi) or build with --host"
_WARNINGS: Final = ("-std=c99", "-Wall", "-Wextra", "-Wshadow", "-Wconversion")
_IN_ORDER: Final = "-fno-schedule-insns"
"""Loading ahead of use needs more registers than the kernels leave; these cores execute in order anyway."""
_TIMEOUT_S: Final = 300.0


@dataclass(frozen=True)
class Sizes:
    """What a firmware takes, in bytes. ``ram`` counts variables and the reserved stack."""

    flash: int
    ram: int


def have_arm() -> bool:
    """Whether firmware can be compiled here."""
    return all(shutil.which(program) is not None for program in _ARM_PROGRAMS)


def host_compiler() -> str | None:
    """The machine's own C compiler: ``CC``, else cc, gcc or clang."""
    return next((name for name in (os.environ.get("CC"), "cc", "gcc", "clang") if name and shutil.which(name)), None)


def compile_firmware(
    folder: Path,
    sources: Sequence[str],
    machine: Machine,
    *,
    optimize: str,
    stack_bytes: int,
    flags: Sequence[str] = (),
) -> Sizes:
    """Compiles ``sources`` in ``folder/src`` into ``folder/firmware.elf`` and ``firmware.bin``; returns the sizes.

    The same sources give the same bytes wherever the folder lies. Raises ``DependencyError`` without a whole ARM
    toolchain or where it fails, ``UnsupportedModelError`` where the machine's memory is too small.
    """
    for program in _ARM_PROGRAMS:
        if shutil.which(program) is None:
            raise DependencyError(f"{program} is not on the PATH: {ARM_HINT}")
    layout = {
        "TW_FLASH_START": machine.flash_start,
        "TW_FLASH_BYTES": machine.flash_bytes,
        "TW_RAM_START": machine.ram_start,
        "TW_RAM_BYTES": machine.ram_bytes,
        "TW_STACK_BYTES": stack_bytes,
    }
    _run(
        [
            ARM_COMPILER, *CPU_FLAGS, f"-{optimize}", _IN_ORDER, *_WARNINGS, *flags, "-ffunction-sections",
            "-fdata-sections", f"-DTW_INTERRUPT={machine.interrupt}", f"-DTW_CLOCK_HZ={machine.clock_hz}u",
            *sources, "-nostartfiles", "-static", "-Wl,--gc-sections", "-Wl,--build-id=none",
            *(f"-Wl,--defsym={name}={value:#x}" for name, value in layout.items()),
            "-T", "firmware.ld", "-o", "../firmware.elf",
        ],
        folder / "src",
    )  # fmt: skip
    _run([_OBJCOPY, "-O", "binary", "firmware.elf", "firmware.bin"], folder)
    return _sizes(_run([_SIZE, "-A", "firmware.elf"], folder))


def compile_host(folder: Path, sources: Sequence[str], *, optimize: str, flags: Sequence[str] = ()) -> None:
    """Compiles ``sources`` in ``folder/src`` into the program ``folder/firmware-host``.

    Raises ``DependencyError`` without a C compiler or where it fails.
    """
    compiler = host_compiler()
    if compiler is None:
        raise DependencyError("no C compiler is on the PATH; install gcc, or use the tflm runtime for this model")
    _run([compiler, f"-{optimize}", *_WARNINGS, *flags, *sources, "-o", "../firmware-host"], folder / "src")


def compiler_version(*, host: bool) -> str:
    """First line of what the compiler says about itself. Raises ``DependencyError`` where it fails."""
    compiler = host_compiler() if host else ARM_COMPILER
    if compiler is None or shutil.which(compiler) is None:
        return "none"
    return _run([compiler, "--version"]).partition("\n")[0]


def _sizes(report: str) -> Sizes:
    rows = [line.split() for line in report.splitlines()]
    sections = {row[0]: int(row[1]) for row in rows if len(row) == 3 and row[1].isdigit()}  # noqa: PLR2004 - name, size, address
    data = sections.get(".data", 0)
    return Sizes(
        flash=sections.get(".text", 0) + sections.get(".ARM.exidx", 0) + data,
        ram=sections.get(".stack", 0) + data + sections.get(".bss", 0),
    )


def _run(command: Sequence[str], folder: Path | None = None) -> str:
    """What ``command`` prints; it ends with this process, however that ends."""
    environment = {**os.environ, "LC_ALL": "C", "SOURCE_DATE_EPOCH": "0"}
    program = shutil.which(command[0])
    if program is None:
        raise DependencyError(f"{command[0]} is not on the PATH: install the compiler it belongs to")
    try:
        result = subprocess.run(  # noqa: S603 - programs named above, arguments built here
            tied_to_parent(program, command),
            cwd=folder, capture_output=True, text=True, errors="replace", check=False, timeout=_TIMEOUT_S,
            env=environment,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise DependencyError(f"{command[0]} did not end within {_TIMEOUT_S:g} s") from None
    if result.returncode == 0:
        return result.stdout
    overflow = [line for line in result.stderr.splitlines() if "overflowed by" in line or "will not fit" in line]
    if overflow:
        raise UnsupportedModelError("the firmware does not fit the machine: " + "; ".join(overflow))
    raise DependencyError(f"{command[0]} failed with exit code {result.returncode}:\n{result.stderr.strip()[:2000]}")
