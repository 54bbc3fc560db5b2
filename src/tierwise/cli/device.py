"""``tierwise device``: compile a model for a microcontroller, run it there, watch it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tierwise.cli.serve import given_values, setting_option
from tierwise.serving.settings import fields

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from tierwise.device.boards import BoardProfile
    from tierwise.device.manifest import Build
    from tierwise.device.runtime import FirmwareRuntime, InterpretedRuntime, Measured

FOLDER = click.Path(path_type=Path)
_OF_SERVICES = {("mqtt", "request_topic"), ("mqtt", "share_group")}
"""A device has topics of its own, and no replicas."""
_RECEIVE_MAX = 1024
"""Requests of QoS 1 that the broker may have on their way to the bridge."""


@click.group
def device() -> None:
    """Compile a model for a microcontroller, run it there, watch it."""


@device.command(
    short_help="Turn an int8 model into C and Cortex-M firmware.",
    epilog="Example:  tierwise device build models/digits --out firmware",
)
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--out", type=FOLDER, required=True, help="Folder of the C, the firmware and build.json.")
@click.option("--board", help="Board whose flash and RAM it must fit; nucleo-l4r5zi where it does. Or a .yaml file.")
@click.option(
    "--optimize", type=click.Choice(["O2", "O3", "Os"]), default="O2", show_default=True, help="Compiler optimisation."
)
@click.option("--host", is_flag=True, help="A program of this machine; needs no ARM toolchain.")
@click.option("--portable", is_flag=True, help="Portable kernels only, without DSP instructions.")
@click.option("--name", help="Name of the model; by default that of its card, or of the file.")
@click.option("--model-version", help="Version of the model; by default that of its card, or 1.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
def build(
    model: Path,
    out: Path,
    *,
    board: str | None,
    optimize: str,
    name: str | None,
    model_version: str | None,
    host: bool,
    portable: bool,
    as_json: bool,
) -> None:
    """Turn MODEL, a model folder or an int8 .tflite file, into C and into Cortex-M firmware.

    The C in OUT/src needs no heap and no library; the firmware answers inference requests over a serial line and gives
    bit for bit the answers of TensorFlow Lite Micro.
    """
    import msgspec  # noqa: PLC0415 -- heavy imports belong to the command

    from tierwise.device.boards import DEFAULT_BOARD, load_board  # noqa: PLC0415
    from tierwise.device.build import Options, build_for_board  # noqa: PLC0415
    from tierwise.device.source import find_device_model  # noqa: PLC0415

    source = find_device_model(model)
    options = Options(
        optimize=optimize,
        host=host,
        fast=False if portable else None,
        name=name or source.name,
        version=model_version or source.version,
        labels=source.labels,
        threshold=source.threshold,
    )
    profile = load_board(board or DEFAULT_BOARD)
    report = build_for_board(source.file, out, options, profile, required=board is not None)
    if as_json:
        click.echo(msgspec.json.encode(report))
    else:
        _print_build(report, out)


@device.command(
    short_help="Run samples on the device built in FOLDER.",
    epilog="Example:  tierwise device run firmware --input samples.csv --json",
)
@click.argument("folder", type=FOLDER)
@click.option("--input", "source", required=True, help="Samples as .npz, .npy, .csv or .json; - reads standard input.")
@click.option("--board", help="Board whose time and energy are modelled; by default that of the build.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
def run(folder: Path, source: str, board: str | None, *, as_json: bool) -> None:
    """Run samples on the device built in FOLDER: one, or a batch with a row each.

    Instructions are counted by the emulator and repeat exactly. Time and energy are modelled from them for a board.
    """
    import msgspec  # noqa: PLC0415 -- heavy imports belong to the command

    from tierwise.cli.samples import read_samples  # noqa: PLC0415
    from tierwise.device.manifest import read_build  # noqa: PLC0415
    from tierwise.device.runtime import open_device  # noqa: PLC0415
    from tierwise.runtimes.inputs import to_inputs  # noqa: PLC0415

    report = read_build(folder)
    profile = _profile(board or report.board)
    inputs, _ = to_inputs(read_samples(source), report.signature)
    with open_device(folder) as running:
        answers = running.measure(inputs)
    if as_json:
        click.echo(msgspec.json.encode(_as_json(report, answers, profile)))
    else:
        _print_answers(report, answers, profile)


@device.command(epilog="Example:  tierwise device monitor firmware")
@click.argument("folder", type=FOLDER)
def monitor(folder: Path) -> None:
    """Start the device built in FOLDER and talk to it line by line.

    A line of numbers (JSON or separated by commas) is a sample and is answered with its outputs; `info` asks what the
    device runs; the end of the input ends the device.
    """
    from tierwise.device.runtime import FirmwareRuntime, open_device  # noqa: PLC0415 -- heavy imports

    with open_device(folder) as running:
        build_report = running.emulator.build if isinstance(running, FirmwareRuntime) else None
        what = f"{build_report.model} on {build_report.target}" if build_report else "the interpreter"
        click.echo(f"READY {what}; a line of numbers is a sample, `info` asks, the end of the input ends it")
        for line in sys.stdin:
            _answer_line(running, line.strip())


def _broker_options(command: Callable[..., None]) -> Callable[..., None]:
    """The settings of a service that say how to reach the broker, and how much is read from it."""
    for field in reversed([field for field in fields() if field.path not in _OF_SERVICES]):
        if field.path[0] == "mqtt" or field.path == ("limits", "max_payload_bytes"):
            command = setting_option(field, field.default)(command)
    return command


@device.command(
    short_help="Connect the device built in FOLDER to an MQTT broker.",
    epilog="Example:  tierwise device bridge firmware --mqtt localhost --device-id press-7 --input s.csv",
)
@click.argument("folder", type=FOLDER)
@click.option("--device-id", required=True, help="Name of the device in topics and messages.")
@click.option(
    "--input", "source", help="Samples that the device senses, as .npz, .npy, .csv or .json; - reads standard input."
)
@click.option(
    "--role",
    type=click.Choice(["sensor", "device"]),
    default="device",
    show_default=True,
    help="sensor: asks the edge and takes the answer. device: infers itself and publishes the result.",
)
@click.option("--request-topic", help="Where a sensor asks; ml/inference/request by default.")
@click.option("--serve", "serve_topic", help="Also answer what arrives on this topic, until interrupted.")
@click.option("--board", help="Board whose time and energy are modelled; by default that of the build.")
@_broker_options
def bridge(
    folder: Path,
    *,
    device_id: str,
    source: str | None,
    role: str,
    request_topic: str | None,
    serve_topic: str | None,
    board: str | None,
    **options: Any,  # noqa: ANN401 -- values of the broker's settings
) -> None:
    """Connect the device built in FOLDER to an MQTT broker, over its serial line.

    The broker is named as for `tierwise serve`, by options or the environment. With --serve it goes on until SIGTERM
    or Ctrl-C.
    """
    import dataclasses  # noqa: PLC0415 -- heavy imports belong to the command

    from tierwise.cli.samples import read_samples  # noqa: PLC0415
    from tierwise.core.errors import ConfigurationError  # noqa: PLC0415
    from tierwise.device.bridge import BridgeSettings, run_bridge  # noqa: PLC0415
    from tierwise.device.manifest import read_build  # noqa: PLC0415
    from tierwise.messaging.topics import REQUEST_TOPIC  # noqa: PLC0415
    from tierwise.runtimes.inputs import to_inputs  # noqa: PLC0415
    from tierwise.serving.mqtt import connection_settings  # noqa: PLC0415
    from tierwise.serving.settings import build as build_settings  # noqa: PLC0415

    report = read_build(folder)
    given = build_settings({("model", "path"): folder, **given_values(options)})
    if given.mqtt.endpoint is None:
        raise ConfigurationError("--mqtt off: a bridge needs a broker")
    if source is None and serve_topic is None:
        raise ConfigurationError("nothing to do: give --input, --serve or both")
    settings = BridgeSettings(
        device_id=device_id,
        request_topic=request_topic or REQUEST_TOPIC,
        serve_topic=serve_topic,
        board=_profile(board or report.board),
        max_payload_bytes=given.limits.max_payload_bytes,
    )
    inputs = to_inputs(read_samples(source), report.signature)[0] if source is not None else {}
    count = len(next(iter(inputs.values()))) if inputs else 0
    samples = [{name: values[at : at + 1] for name, values in inputs.items()} for at in range(count)]
    connection = connection_settings(
        given.mqtt,
        given.mqtt.endpoint,
        service_id=device_id,
        receive_max=_RECEIVE_MAX,
        max_payload_bytes=settings.max_payload_bytes,
    )
    connection = dataclasses.replace(connection, fail_fast=True)
    told = _until_told_to_stop(
        run_bridge(folder, connection, settings, samples, as_sensor=role == "sensor", on_line=click.echo)
    )
    if told is not None and serve_topic is None:  # samples are left; who serves has no end of its own
        raise SystemExit(128 + told)


def _until_told_to_stop(work: Coroutine[Any, Any, None]) -> int | None:
    """Runs ``work``; SIGTERM and Ctrl-C end it in order, like a service. Returns the signal that did."""
    import asyncio  # noqa: PLC0415 -- heavy imports belong to the command
    import signal  # noqa: PLC0415

    told: list[int] = []

    async def run() -> None:
        task = asyncio.ensure_future(work)

        def stop(number: int) -> None:
            told.append(number)
            task.cancel()

        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop, number)
        try:
            await task
        except asyncio.CancelledError:
            if not told:
                raise

    asyncio.run(run())
    return told[0] if told else None


def _answer_line(running: FirmwareRuntime | InterpretedRuntime, line: str) -> None:
    """One line of the monitor; what is wrong with it is said and the device goes on."""
    import msgspec  # noqa: PLC0415 -- heavy imports belong to the command
    import numpy as np  # noqa: PLC0415

    from tierwise.core.errors import TierwiseError  # noqa: PLC0415
    from tierwise.device.runtime import FirmwareRuntime  # noqa: PLC0415
    from tierwise.runtimes.inputs import to_inputs  # noqa: PLC0415

    if not line:
        return
    if line == "info":
        info = running.info() if isinstance(running, FirmwareRuntime) else {"runtime": running.name}
        click.echo(msgspec.json.encode(info))
        return
    try:
        values = msgspec.json.decode(line if line.startswith("[") else f"[{line}]", type=list[Any])
        inputs, _ = to_inputs(np.array(values, dtype=np.float64), running.signature)
        for answer in running.measure(inputs):
            counted = "not measured" if answer.instructions is None else f"{answer.instructions} instructions"
            click.echo(f"{_values(answer)}\t{counted}")
    except (ValueError, TypeError, TierwiseError) as error:
        click.echo(f"error: {error}", err=True)


def _profile(board: str | None) -> BoardProfile | None:
    from tierwise.device.boards import load_board  # noqa: PLC0415 -- heavy imports belong to the command

    return None if board is None else load_board(board)


def _as_json(report: Build, answers: list[Measured], profile: BoardProfile | None) -> dict[str, Any]:
    counts = [answer.instructions for answer in answers]
    known = [None if profile is None else count for count in counts]
    labels = _labels(report, answers)
    stacks = [answer.stack_bytes for answer in answers if answer.stack_bytes is not None]
    return {
        **({} if labels is None else {"labels": labels}),
        "outputs": [[float(v) for values in answer.outputs for v in values.ravel()] for answer in answers],
        "raw_outputs": [[v.item() for values in answer.raw for v in values.ravel()] for answer in answers],
        "instructions": counts,
        "latency_ms": [None if n is None or profile is None else profile.latency_ms(n) for n in known],
        "energy_mj": [None if n is None or profile is None else profile.energy_mj(n) for n in known],
        "modelled_board": profile.name if profile is not None else None,
        "flash_bytes": report.flash_bytes,
        "ram_bytes": report.ram_bytes,
        "stack_bytes": max(stacks) if stacks else None,
        "model_crc32": report.model_crc32,
        "model": report.model,
        "model_version": report.model_version,
        "target": report.target,
    }


def _labels(report: Build, answers: list[Measured]) -> list[str] | None:
    """A word for each first output, where the model's card has some."""
    labels = [report.label_of(answer.outputs[0].ravel() if report.threshold is None else answer.outputs[0].item())
              for answer in answers]  # fmt: skip
    return [label for label in labels if isinstance(label, str)] or None


def _values(answer: Measured) -> str:
    return " ".join(f"{value:.6g}" for values in answer.outputs for value in values.ravel())


def _print_answers(report: Build, answers: list[Measured], profile: BoardProfile | None) -> None:
    labels = _labels(report, answers) or [""] * len(answers)
    for answer, label in zip(answers, labels, strict=True):
        click.echo(f"{_values(answer)}\t{label}".rstrip())
    counts = [answer.instructions for answer in answers if answer.instructions is not None]
    if not counts:
        click.echo(f"instructions: not measured (target {report.target})", err=True)
        return
    from tierwise.report import words  # noqa: PLC0415 -- heavy imports belong to the command

    mean = sum(counts) / len(counts)
    click.echo(f"instructions: {mean:,.0f} an inference, counted on the emulated {report.target}", err=True)
    if profile is not None:
        click.echo(
            f"modelled for the board {profile.name}: {words.ms(profile.latency_ms(mean))} ms, "
            f"{words.energy(profile.energy_mj(mean))} an inference (not measured)",
            err=True,
        )


def _print_build(report: Build, out: Path) -> None:
    from tierwise.device.manifest import HOST  # noqa: PLC0415 -- heavy imports belong to the command

    where = "this machine" if report.target == HOST else f"the emulated machine {report.target}"
    click.echo(f"{report.model} {report.model_version} (CRC32 {report.model_crc32}) for {where} in {out}")
    if report.flash_bytes is not None and report.ram_bytes is not None:
        click.echo(f"  flash {report.flash_bytes:,} bytes, RAM {report.ram_bytes:,} bytes", nl=False)
        click.echo(f" (arena {report.arena_bytes:,}, stack {report.stack_bytes:,})")
        board = f"fits the board {report.board}" if report.board else "fits no known board"
        click.echo(f"  {board}; SHA-256 of the firmware {report.firmware_sha256[:16]}…")
    else:
        click.echo(f"  arena {report.arena_bytes:,} bytes; instructions will not be measured")
    for step in report.steps:
        note = f"  (portable: {step.note})" if step.note else ""
        click.echo(f"  {step.index:>3} {step.operator:<20} {step.kernel:<20} {step.macs:>12,} MAC{note}")
