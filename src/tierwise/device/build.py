"""``tierwise device build``: from a .tflite file to a folder with readable C, firmware and ``build.json``."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from dataclasses import dataclass, replace
from importlib.resources import as_file, files
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from tierwise.core.errors import ConfigurationError
from tierwise.core.tensors import Signature, TensorSpec
from tierwise.device import toolchain
from tierwise.device.emit import emit_header, emit_source, model_info
from tierwise.device.graph import UnsupportedModelError
from tierwise.device.lowering import lower
from tierwise.device.machines import MPS2, NETDUINOPLUS2, Machine
from tierwise.device.manifest import BUILD_FILE, HOST, TFLM, BlockReport, Build, StepReport
from tierwise.device.memory import MemoryPlan, plan_memory
from tierwise.device.step import Alias, Constant, Step
from tierwise.device.tflite import read_graph

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tierwise.device.boards import BoardProfile
    from tierwise.device.graph import Graph, Tensor

STACK_BYTES: Final = 1024
OPTIMIZE: Final = ("O2", "O3", "Os")
_FIRMWARE: Final = ("app.c", "frames.c", "frames.h", "hal.h")
_HEADERS: Final = ("tw_kernels.h", "tw_math.h", "tw_dsp.h")
_INTERPRETED: Final = "model.tflite"
LONGEST_PAYLOAD: Final = 0xFFFF


class BoardTooSmallError(UnsupportedModelError):
    """The firmware needs more flash or RAM than the board has."""


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """How to build."""

    optimize: str = "O2"
    host: bool = False
    """A program of this machine instead of firmware; without a C compiler, the model for the interpreter."""
    fast: bool | None = None
    """Kernels for DSP instructions; by default for firmware and not on the host."""
    board: str | None = None
    """Name of the board, written into the report and the INFO answer."""
    flash_limit: int | None = None
    """Flash and RAM of the board in bytes; a firmware that takes more is refused."""
    ram_limit: int | None = None
    name: str | None = None
    """Name of the model; by default that of the file."""
    version: str = "1"
    labels: tuple[str, ...] = ()
    threshold: float | None = None
    """Of the model card: a bridge puts the word for a prediction into the answer."""
    flags: tuple[str, ...] = ()
    """Further flags of the compiler (sanitizers, -Werror)."""


@dataclass(frozen=True, eq=False)
class Compilation:
    """A model on its way to firmware: checked, lowered, placed in memory."""

    graph: Graph
    steps: Sequence[Step | Alias]
    plan: MemoryPlan
    options: Options
    machine: Machine | None
    """``None`` for a host build."""


def prepare(model: Path, options: Options) -> Compilation:
    """Reads, checks and lowers ``model``; writes nothing."""
    if options.optimize not in OPTIMIZE:
        raise ConfigurationError(f"optimize is {options.optimize!r}; it must be one of {', '.join(OPTIMIZE)}")
    graph = read_graph(model)
    if options.name is not None:
        graph = replace(graph, name=options.name)
    steps = lower(graph, fast=options.fast if options.fast is not None else not options.host)
    plan = plan_memory(graph, steps)
    _check_payload(graph)
    return Compilation(graph, steps, plan, options, None if options.host else _machine(graph, steps, plan))


def build(model: Path, out: Path, options: Options | None = None) -> Build:
    """Compiles ``model`` (.tflite) into the folder ``out``, which is made where missing.

    The model is checked and compiled in a temporary folder first, so ``out`` changes only when all has succeeded.
    Raises ``ModelFileError`` (unreadable), ``UnsupportedModelError`` (an operator, or too large for machine or
    board), ``DependencyError`` (no compiler) and ``ConfigurationError`` (options, or a folder that holds other files).
    """
    _check_replaceable(out)
    compilation = prepare(model, options or Options())
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".tierwise-device-", dir=out.parent) as work:
        folder = Path(work)
        sources = write_sources(folder / "src", compilation)
        if compilation.machine is None and toolchain.host_compiler() is None:
            shutil.copyfile(model, folder / _INTERPRETED)
        report = _compile(folder, sources, compilation)
        (folder / BUILD_FILE).write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=1) + b"\n")
        _replace(folder, out)
    return report


def build_for_board(model: Path, out: Path, options: Options, board: BoardProfile, *, required: bool) -> Build:
    """``build`` for a board: refused with the numbers where it does not fit, unless the board is not ``required``."""
    limits = {"board": board.name, "flash_limit": board.flash_bytes, "ram_limit": board.ram_bytes}
    try:
        return build(model, out, msgspec.structs.replace(options, **limits))
    except BoardTooSmallError:
        if required:
            raise
        return build(model, out, options)


def signature_of(graph: Graph) -> Signature:
    """Inputs and outputs as every tier describes them."""

    def spec(tensor: Tensor) -> TensorSpec:
        quantization = tensor.quantization if tensor.dtype == "int8" else None
        return TensorSpec(
            name=tensor.name,
            shape=tensor.shape,
            dtype=tensor.dtype,
            scale=quantization.scale if quantization else None,
            zero_point=quantization.zero_point if quantization else None,
        )

    return Signature(tuple(map(spec, graph.inputs)), tuple(map(spec, graph.outputs)))


def _check_payload(graph: Graph) -> None:
    for tensors, extra, what in ((graph.inputs, 0, "inputs"), (graph.outputs, 8, "outputs")):
        size = sum(tensor.bytes for tensor in tensors) + extra
        if size > LONGEST_PAYLOAD:
            raise UnsupportedModelError(
                f"{graph.name}: its {what} take {size} bytes; a frame on the serial line holds {LONGEST_PAYLOAD}"
            )


def _machine(graph: Graph, steps: Sequence[Step | Alias], plan: MemoryPlan) -> Machine:
    """The smallest machine that can hold the model, judged by constants and arena; the linker has the last word."""
    constants = sum(_flash(step) for step in steps)
    port = sum(tensor.bytes for tensor in graph.inputs)
    small = constants + (48 << 10) <= NETDUINOPLUS2.flash_bytes
    small = small and plan.arena_bytes + port + (4 << 10) <= NETDUINOPLUS2.ram_bytes
    return NETDUINOPLUS2 if small else MPS2


def write_sources(folder: Path, compilation: Compilation) -> list[str]:
    """Writes all C into the new folder ``folder``; returns the names of the .c files."""
    folder.mkdir()
    graph, steps, plan, machine = compilation.graph, compilation.steps, compilation.plan, compilation.machine
    target = {
        "target": machine.name if machine else HOST,
        "board": compilation.options.board,
        "clock_hz": machine.clock_hz if machine else None,
        "flash_bytes": machine.flash_bytes if machine else None,
        "ram_bytes": machine.ram_bytes if machine else None,
    }
    info = model_info(graph, compilation.options.version, plan, target)
    (folder / "model.h").write_text(emit_header(graph, plan, info), encoding="ascii")
    (folder / "model.c").write_text(emit_source(graph, steps, plan, info), encoding="ascii")
    kernels = sorted({step.source for step in steps if isinstance(step, Step)})
    machine_files = ("cortex_m.c", "cortex_m.h", "firmware.ld", machine.hal) if machine else ("hal_host.c",)
    with as_file(files("tierwise.device") / "c") as assets:
        for name in (*_HEADERS, *kernels):
            shutil.copyfile(assets / "kernels" / name, folder / name)
        for name in (*_FIRMWARE, *machine_files):
            shutil.copyfile(assets / "firmware" / name, folder / name)
    return ["model.c", *(n for n in (*kernels, *_FIRMWARE, *machine_files) if n.endswith(".c"))]


def _compile(folder: Path, sources: Sequence[str], compilation: Compilation) -> Build:
    graph, options, machine = compilation.graph, compilation.options, compilation.machine
    sizes = None
    target, firmware = HOST, "firmware-host"
    if machine is not None:
        target, firmware = machine.name, "firmware.elf"
        sizes = toolchain.compile_firmware(
            folder, sources, machine, optimize=options.optimize, stack_bytes=STACK_BYTES, flags=options.flags
        )
        _check_limits(graph, sizes, options)
    elif toolchain.host_compiler() is None:
        target, firmware = TFLM, _INTERPRETED
    else:
        toolchain.compile_host(folder, sources, optimize=options.optimize, flags=options.flags)
    return Build(
        model=graph.name,
        model_version=options.version,
        model_crc32=f"{graph.crc32:08x}",
        target=target,
        board=options.board,
        optimize=options.optimize,
        compiler=toolchain.compiler_version(host=machine is None),
        signature=signature_of(graph),
        flash_bytes=sizes.flash if sizes else None,
        ram_bytes=sizes.ram if sizes else None,
        stack_bytes=STACK_BYTES if sizes else None,
        arena_bytes=compilation.plan.arena_bytes,
        macs=sum(step.macs for step in compilation.steps if isinstance(step, Step)),
        firmware=firmware,
        firmware_sha256=hashlib.sha256((folder / firmware).read_bytes()).hexdigest(),
        steps=tuple(_step_report(step) for step in compilation.steps),
        labels=options.labels,
        threshold=options.threshold,
        memory=tuple(BlockReport(b.label, b.offset, b.bytes, b.first, b.last) for b in compilation.plan.blocks),
    )


def _check_limits(graph: Graph, sizes: toolchain.Sizes, options: Options) -> None:
    for what, used, limit in (
        ("flash", sizes.flash, options.flash_limit),
        ("RAM", sizes.ram, options.ram_limit),
    ):
        if limit is not None and used > limit:
            raise BoardTooSmallError(
                f"{graph.name} does not fit the board {options.board}: it needs {used} bytes of {what}, the board has "
                f"{limit}"
            )


def _flash(step: Step | Alias) -> int:
    if isinstance(step, Alias):
        return 0
    constants = [value for value in (*step.fields.values(), *step.arguments) if isinstance(value, Constant)]
    return sum(constant.bytes for constant in constants) + sum(t.bytes for t in step.inputs if t.data is not None)


def _step_report(step: Step | Alias) -> StepReport:
    if isinstance(step, Alias):
        return StepReport(step.operator.name, step.operator.index, "none")
    return StepReport(step.operator.name, step.operator.index, step.kernel, step.macs, _flash(step), step.note)


def _check_replaceable(out: Path) -> None:
    """Only an empty folder, or one with a device build, may be written to."""
    if out.is_dir() and any(out.iterdir()) and not (out / BUILD_FILE).exists():
        raise ConfigurationError(f"{out} holds other files and no device build: name an empty or new folder")


def _replace(folder: Path, out: Path) -> None:
    """Moves the finished build into ``out``, in place of an earlier one; other files there stay."""
    out.mkdir(exist_ok=True)
    for path in sorted(folder.iterdir()):
        target = out / path.name
        if target.is_dir():
            shutil.rmtree(target)
        path.replace(target)
