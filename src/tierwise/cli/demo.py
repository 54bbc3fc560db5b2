"""``tierwise demo``: the main job in one command."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tierwise.core.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.progress import TaskID

    from tierwise.core.trace import TraceRow
    from tierwise.live.demo import DemoResult, DemoSettings, Listener
    from tierwise.messaging.settings import MqttConnectionSettings

TERMINATED = 143


FOLDER = click.Path(path_type=Path)


@click.command(
    context_settings={"show_default": True},
    epilog="Example:  tierwise demo --model digits --edge-runtime litert --requests 500",
)
@click.option(
    "--model",
    default="anomaly-detector",
    help="anomaly-detector, digits, or yours: an .onnx, .tflite or PyTorch file, or a model folder.",
)
@click.option("--samples", help="What to send, as .npz, .npy, .csv or .json; by default the model's, else random ones.")
@click.option("--requests", default=200, help="Requests to each tier.")
@click.option("--rate", "rate_hz", default=50.0, help="Requests a second to each tier.")
@click.option("--edge-runtime", type=click.Choice(["onnx", "litert"]), help="What the edge runs; onnx where it can.")
@click.option(
    "--cloud-runtime", type=click.Choice(["torch", "onnx", "litert"]), default="torch", help="What the cloud runs."
)
@click.option("--latency-ms", default=50.0, help="One-way delay of the cloud's simulated network, in milliseconds.")
@click.option("--device/--no-device", default=True, help="Also on an emulated microcontroller, where tools are there.")
@click.option("--board", default="nucleo-l4r5zi", help="Board that the device's time and energy are modelled for.")
@click.option("--out", type=FOLDER, default=Path("demo"), help="Folder of the results.")
@click.option("--models", type=FOLDER, default=Path("models"), help="Folder of created models.")
@click.option(
    "--mqtt",
    metavar="HOST:PORT",
    help="Your broker instead of a private one. TIERWISE_MQTT_USERNAME, TIERWISE_MQTT_PASSWORD_FILE, TIERWISE_MQTT_TLS "
    "and TIERWISE_MQTT_CA_FILE hold for it.",
)
@click.option("--seed", default=0, help="Which held-out samples, in which order.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
def demo(mqtt: str | None, samples: str | None, *, as_json: bool, **options: Any) -> None:  # noqa: ANN401 - fields of the settings
    """Answer real requests on the device, at the edge and in the cloud, side by side.

    Starts a private MQTT broker, an edge service, a cloud service behind a simulated network, firmware on an emulated
    microcontroller, and a sensor that sends held-out samples to each. Shows latency, accuracy and agreement, and writes
    trace.csv and report.html. The firmware's answers are real; its time and energy are modelled for the board.

    Your own model runs on the tiers that it has a file for; the others are left out and told.
    """
    # Heavy imports belong to the command, not to `--help`.
    from tierwise.cli.samples import read_labelled  # noqa: PLC0415
    from tierwise.live.demo import DemoSettings  # noqa: PLC0415

    given = (samples, read_labelled(samples, option="--samples")) if samples is not None else None
    settings = DemoSettings(mqtt=_connection(mqtt), samples=given, **options)
    _log_to_file(settings.out)
    result = _run(settings, show_progress=not as_json and sys.stderr.isatty())
    if as_json:
        _print_json(result)
    else:
        _print(result, settings)
    for line in result.problems:
        click.echo(f"tierwise: {line}", err=True)
    sys.exit(1 if result.problems else 0)


def _run(settings: DemoSettings, *, show_progress: bool) -> DemoResult:
    import asyncio  # noqa: PLC0415
    import signal  # noqa: PLC0415

    import uvloop  # noqa: PLC0415

    from tierwise.live.demo import Listener, run_demo  # noqa: PLC0415

    was_terminated = False

    async def main(listener: Listener) -> DemoResult:
        task = asyncio.current_task()

        def terminate() -> None:
            nonlocal was_terminated
            was_terminated = True
            if task is not None:
                task.cancel()

        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, terminate)
        return await run_demo(settings, listener)

    progress = _progress(settings) if show_progress else contextlib.nullcontext(Listener())
    try:
        with progress as listener, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(main(listener))
    except asyncio.CancelledError:
        if not was_terminated:
            raise
        sys.exit(TERMINATED)


def _connection(text: str | None) -> MqttConnectionSettings | None:
    """The user's broker, with the credentials of the environment, as the services read them."""
    if text is None:
        return None
    from tierwise.serving.endpoints import parse_endpoint  # noqa: PLC0415
    from tierwise.serving.mqtt import connection_settings  # noqa: PLC0415
    from tierwise.serving.settings import MqttSettings  # noqa: PLC0415

    endpoint = parse_endpoint(text, name="--mqtt", default_port=1883)
    if endpoint is None:
        raise ConfigurationError("--mqtt off: the demo speaks MQTT; leave the option out for a private broker")
    password_file, ca_file = os.environ.get("TIERWISE_MQTT_PASSWORD_FILE"), os.environ.get("TIERWISE_MQTT_CA_FILE")
    given = MqttSettings(
        username=os.environ.get("TIERWISE_MQTT_USERNAME") or None,
        password_file=Path(password_file) if password_file else None,
        tls=click.BOOL.convert(os.environ.get("TIERWISE_MQTT_TLS") or "false", None, None),
        ca_file=Path(ca_file) if ca_file else None,
    )
    # The will says that a service is offline; a sensor is none.
    settings = connection_settings(given, endpoint, service_id="demo", receive_max=1024, max_payload_bytes=1_000_000)
    return dataclasses.replace(settings, will=None)


def _log_to_file(out: Path) -> None:
    """What services and connections say goes to a file: on the terminal it would tear the progress apart."""
    import logging  # noqa: PLC0415

    from tierwise.live.results import LOG_NAME, make_folder  # noqa: PLC0415

    make_folder(out)
    try:
        logging.basicConfig(
            filename=out / LOG_NAME,
            filemode="w",
            encoding="utf-8",
            format="%(asctime)s %(name)s %(message)s",
            force=True,
        )
    except OSError as error:
        raise ConfigurationError(f"cannot write {error.filename} (--out): {error.strerror}") from error
    logging.getLogger("tierwise").setLevel(logging.INFO)


@contextlib.contextmanager
def _progress(settings: DemoSettings) -> Iterator[Listener]:
    """A spinner with the current step, and a bar a tier; all of it is gone at the end."""
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn  # noqa: PLC0415

    from tierwise.live.demo import Listener  # noqa: PLC0415

    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        step = progress.add_task("starting", total=None)
        bars: dict[str, TaskID] = {}

        def on_row(row: TraceRow) -> None:
            if row.tier not in bars:
                bars[row.tier] = progress.add_task(row.tier, total=settings.requests)
            progress.advance(bars[row.tier])

        yield Listener(on_step=lambda text: progress.update(step, description=text), on_row=on_row)


def _print_json(result: DemoResult) -> None:
    import msgspec  # noqa: PLC0415

    from tierwise.report.summary import as_json  # noqa: PLC0415

    files = {name: None if path is None else str(path) for name, path in _files(result).items()}
    click.echo(msgspec.json.encode(as_json(result.summary) | {"files": files, "problems": list(result.problems)}))


def _files(result: DemoResult) -> dict[str, Path | None]:
    from tierwise.live.results import FIRMWARE_NAME, LOG_NAME  # noqa: PLC0415

    files = result.files
    has_device = "device" in result.summary.tiers
    return {
        "report": files.report,
        "trace": files.trace,
        "log": files.trace.with_name(LOG_NAME),
        "firmware": files.trace.with_name(FIRMWARE_NAME) if has_device else None,
        "figure": files.figure,
    }


_WHAT = {
    "report": "plots; opens in a browser without a network",
    "trace": "a row a request, with every instant",
    "log": "what the services said",
    "firmware": "the device's C code and build report",
    "figure": "for a README or a paper",
}


def _print(result: DemoResult, settings: DemoSettings) -> None:
    from rich.console import Console  # noqa: PLC0415

    from tierwise.report.tables import summary_view  # noqa: PLC0415

    console = Console(highlight=False)
    with console.capture() as shown:
        console.print(summary_view(result.summary))
    # rich pads every line of a table to its full width
    click.echo("\n".join(line.rstrip() for line in shown.get().splitlines()).strip("\n"))
    click.echo()
    for name, path in _files(result).items():
        if path is not None:
            click.echo(f"{name:<8} {path} ({_WHAT[name]})")
    if result.files.note is not None:
        click.echo(f"tierwise: {result.files.note}", err=True)
    click.echo()
    program = _program()
    for words, command in zip(("Next:", "     "), _next(settings), strict=True):
        click.echo(f"{words} {program} {command}")


def _next(settings: DemoSettings) -> tuple[str, str]:
    """Two commands worth trying after this one."""
    import shlex  # noqa: PLC0415

    from tierwise.models.catalog import RECIPES  # noqa: PLC0415

    if settings.model not in RECIPES:
        model = shlex.quote(settings.model)
        return f"serve --model {model} --mqtt off", f"deploy {model} --target compose --out deployed"
    return "demo --model YOUR.onnx", f"serve --model {settings.models / settings.model} --mqtt off"


def _program() -> str:
    """How to call this program again: as somebody typed it where that was a path, as ``make`` does."""
    typed = Path(sys.argv[0])
    return str(typed) if not typed.is_absolute() and len(typed.parts) > 1 else "tierwise"
