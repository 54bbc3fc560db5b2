"""``tierwise profile``: what a model costs here, or on a board, as a file that scenarios read."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from tierwise.cli.choices import RUNTIME
from tierwise.cli.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import RenderableType

    from tierwise.models.samples import Samples
    from tierwise.report.grid import Grid
    from tierwise.scenario.profile import Profile

_LARGEST = 1024
_NOT_FOR_A_BOARD = ("runtime", "batches", "seconds", "rate", "threads", "trust_pickle")


def parse_sizes(context: click.Context, option: click.Parameter, text: str) -> tuple[int, ...]:
    """``1,2,4`` in ascending order; with 1, which every scenario needs."""
    try:
        sizes = {1, *map(int, text.split(","))}
    except ValueError:
        sizes = {0}
    if not all(1 <= size <= _LARGEST for size in sizes):
        told = f"{text!r}: expected sizes from 1 to {_LARGEST} with commas between, such as 1,2,4,8"
        raise click.BadParameter(told, context, option)
    return tuple(sorted(sizes))


@click.command(epilog="Example:  tierwise profile models/digits --batch 1,8,32 --out digits.profile.yaml")
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--runtime", type=RUNTIME, help="By default the one that fits the file; onnx for a model folder.")
@click.option(
    "--batch",
    "batches",
    callback=parse_sizes,
    metavar="N,N,…",
    default="1,2,4,8,16,32",
    show_default=True,
    help="Samples executed together; 1 is always measured.",
)
@click.option("--samples", help="Samples to run, as .npz, .npy, .csv or .json; with labels they give the accuracy.")
@click.option(
    "--seconds",
    type=click.FloatRange(min=0, min_open=True),
    default=2.0,
    show_default=True,
    help="How long each size is measured.",
)
@click.option(
    "--rate",
    type=click.FloatRange(min=0, min_open=True),
    help="Executions a second, with pauses as in a service that waits for requests; by default without a pause.",
)
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True, help="Threads inside one execution.")
@click.option("--board", help="Count instructions of the int8 firmware instead, and model this board (or .yaml file).")
@click.option("--trust-pickle", is_flag=True, help="Load a pickled PyTorch module, which runs code from the file.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="File; MODEL.RUNTIME.profile.yaml here.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
def profile(
    model: Path,
    *,
    runtime: str | None,
    batches: tuple[int, ...],
    samples: str | None,
    seconds: float,
    rate: float | None,
    threads: int,
    board: str | None,
    trust_pickle: bool,
    out: Path | None,
    as_json: bool,
) -> None:
    """Measure what MODEL costs, a model folder or an artifact, and write it as a file that scenarios read.

    The real runtime executes batches of each size in turn, as a service does. Samples are those given, else those of
    the model's card, else random ones.
    """
    from tierwise.cli.results import make_folder, show  # noqa: PLC0415
    from tierwise.cli.samples import read_labelled  # noqa: PLC0415 -- heavy imports belong to the command
    from tierwise.models.yaml import dump_yaml  # noqa: PLC0415

    if out is not None:
        make_folder(out.parent)
    given = None if samples is None else read_labelled(samples, option="--samples")
    with Progress(wanted=not as_json) as line:

        def tell(share: float) -> None:
            line.tell(f"{share:6.1%}  of the measurement")

        if board is not None:
            _refuse_what_has_no_effect()
            made = _on_board(model, given, board, tell)
        else:
            from tierwise.serving.profile import Effort, measure_profile  # noqa: PLC0415
            from tierwise.serving.settings import ModelSettings  # noqa: PLC0415

            settings = ModelSettings(path=model, runtime=runtime, threads=threads, trust_pickle=trust_pickle)
            made = measure_profile(settings, given, Effort(batches=batches, seconds=seconds, rate_hz=rate), tell)
    file = out or Path(f"{made.model}.{made.board.name if made.board else made.runtime}.profile.yaml")
    dump_yaml(made.model_dump(exclude_none=True), file)
    if as_json:
        click.echo(made.model_dump_json(exclude_none=True))
        return
    show(lambda width: _view(made, width))
    click.echo(f"written to {file}; in a scenario: models.{made.model}.TIER.profile")


def _refuse_what_has_no_effect() -> None:
    """Raises ``click.UsageError`` for an option that a board's profile would pass over in silence."""
    context = click.get_current_context()
    for option in context.command.params:
        if option.name in _NOT_FOR_A_BOARD and context.get_parameter_source(option.name) is ParameterSource.COMMANDLINE:
            raise click.UsageError(f"{option.opts[0]} has no effect with --board, which runs one sample at a time")


def _on_board(model: Path, samples: Samples | None, board: str, tell: Callable[[float], None]) -> Profile:
    from tempfile import TemporaryDirectory  # noqa: PLC0415 -- heavy imports belong to the command

    from tierwise.device.boards import load_board  # noqa: PLC0415
    from tierwise.device.profile import profile_on_board  # noqa: PLC0415
    from tierwise.device.source import find_device_model  # noqa: PLC0415

    with TemporaryDirectory(prefix="tierwise-profile-") as folder:
        return profile_on_board(find_device_model(model), samples, load_board(board), Path(folder), tell)


def _view(made: Profile, width: int) -> RenderableType:
    """The profile as a table, with what it was measured on."""
    from rich.console import Group  # noqa: PLC0415 -- heavy imports belong to the command
    from rich.text import Text  # noqa: PLC0415

    from tierwise.report.tables import grid_table  # noqa: PLC0415

    head = Text(f"{made.model} {made.version}", style="bold")
    head.append(f"  {made.artifact.file} ({made.artifact.dtype}) on {made.runtime}", style="dim")
    return Group(head, Text(made.source), Text(), grid_table(_grid(made), width), *map(Text, _facts(made)), Text())


def _grid(made: Profile) -> Grid:
    from tierwise.report.grid import Grid  # noqa: PLC0415 -- heavy imports belong to the command

    rows = [
        [
            str(one.batch),
            _us(one.mean_us) + (f" ± {_us(one.half_width_us)}" if one.half_width_us else ""),
            *map(_us, (one.p50_us, one.p95_us, one.p99_us)),
            "-" if one.cpu_us is None else _us(one.cpu_us),
            f"{one.batch / one.mean_us * 1e6:,.0f}",
            f"{one.count:,}",
        ]
        for one in made.service
    ]
    columns = ("batch", "mean, µs", "p50", "p95", "p99", "CPU, µs", "samples a second", "measured")
    title = "time of a batch" + (f" at {made.rate_hz:g} executions a second" if made.rate_hz else "")
    return Grid(title + (", modelled" if made.board else ""), columns, rows)


def _facts(made: Profile) -> list[str]:
    from tierwise.report import words  # noqa: PLC0415 -- heavy imports belong to the command

    right = "not known: no labelled samples, or no model card that names the labels"
    if made.accuracy is not None:
        right = f"{words.percent(made.accuracy)} of {made.samples:,} samples"
    facts = {"accuracy": right, "size": words.quantity(made.artifact.size_bytes, "B")}
    if made.peak_memory_bytes is not None:
        facts["peak memory"] = f"{words.quantity(made.peak_memory_bytes, 'B')} of the whole process"
    if made.board is not None:
        facts["instructions"] = f"{words.count(made.board.instructions)} an inference, counted"
        facts["flash, RAM"] = " and ".join(
            words.quantity(n, "B") for n in (made.board.flash_bytes, made.board.ram_bytes)
        )
    if made.energy_uj is not None:
        facts["energy"] = f"{words.energy(made.energy_uj / 1e3)} an inference, modelled"
    return [f"{name:<12}  {fact}" for name, fact in facts.items()]


def _us(value: float) -> str:
    """Microseconds, three digits or more."""
    digits = max(0, 2 - math.floor(math.log10(value))) if value > 0 else 0
    return f"{value:,.{min(digits, 3)}f}"
