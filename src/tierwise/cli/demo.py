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
@click.option("--model", default="anomaly-detector", help="anomaly-detector, digits, or a model folder.")
@click.option("--requests", default=200, help="Requests to each tier.")
@click.option("--rate", "rate_hz", default=50.0, help="Requests a second to each tier.")
@click.option("--edge-runtime", type=click.Choice(["onnx", "litert"]), default="onnx", help="What the edge runs.")
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
def demo(mqtt: str | None, *, as_json: bool, **options: Any) -> None:  # noqa: ANN401 - fields of the settings
    """Answer real requests on the device, at the edge and in the cloud, side by side.

    Starts a private MQTT broker, an edge service, a cloud service behind a simulated network, firmware on an emulated
    microcontroller, and a sensor that sends held-out samples to each. Shows latency, accuracy and agreement, and writes
    trace.csv and report.html. The firmware's answers are real; its time and energy are modelled for the board.
    """
    # Heavy imports belong to the command, not to `--help`.
    from tierwise.live.demo import DemoSettings  # noqa: PLC0415

    settings = DemoSettings(mqtt=_connection(mqtt), **options)
    _log_to_file(settings.out)
    result = _run(settings, show_progress=not as_json and sys.stderr.isatty())
    if as_json:
        _print_json(result)
    else:
        _print(result)
    for line in (*result.notes, *result.problems):
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

    files = {"trace": result.files.trace, "report": result.files.report, "figure": result.files.figure}
    figures = as_json(result.summary) | {
        "files": {name: str(path) if path else None for name, path in files.items()},
        "problems": list(result.problems),
        "notes": list(result.notes),
    }
    click.echo(msgspec.json.format(msgspec.json.encode(figures), indent=2))


def _print(result: DemoResult) -> None:
    from rich.console import Console  # noqa: PLC0415

    from tierwise.live.results import FIRMWARE_NAME, LOG_NAME  # noqa: PLC0415
    from tierwise.report.tables import summary_view  # noqa: PLC0415

    Console(highlight=False).print(summary_view(result.summary))
    click.echo()
    files = result.files
    click.echo(f"report   {files.report} (plots; opens in a browser without a network)")
    click.echo(f"trace    {files.trace} (a row a request, with every instant)")
    click.echo(f"log      {files.trace.with_name(LOG_NAME)} (what the services said)")
    if "device" in result.summary.tiers:
        click.echo(f"firmware {files.trace.with_name(FIRMWARE_NAME)} (the device's C code and build report)")
    if files.figure is not None:
        click.echo(f"picture  {files.figure}")
    else:
        click.echo(f"tierwise: {files.note}", err=True)
    click.echo()
    click.echo("Next: tierwise demo --model digits --edge-runtime litert, or your own model:")
    click.echo("      tierwise serve --model YOUR.onnx --mqtt HOST:PORT")
