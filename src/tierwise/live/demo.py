"""The main job: one model answering real requests on the device, at the edge and in the cloud, side by side."""

from __future__ import annotations

import contextlib
import secrets
import shlex
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tierwise.core.errors import ConfigurationError
from tierwise.device.boards import DEFAULT_BOARD, load_board
from tierwise.device.bridge import DEVICE_REQUEST_TOPIC
from tierwise.live.broker import private_broker
from tierwise.live.device import TIER as DEVICE
from tierwise.live.device import NoDeviceError, own_board
from tierwise.live.results import FIRMWARE_NAME, Files, make_folder, write_results
from tierwise.live.samples import held_out_samples
from tierwise.live.sensor import Pace, Sensor, Target
from tierwise.live.services import START_TIMEOUT_S, ServiceSpec, StatusWatch, started
from tierwise.live.training import train_in_child
from tierwise.messaging.settings import MqttConnectionSettings
from tierwise.messaging.topics import CLOUD_REQUEST_TOPIC, REQUEST_TOPIC
from tierwise.models.card import CARD_NAME, load_card
from tierwise.models.catalog import RECIPES
from tierwise.report.summary import Summary, TierFacts, summarise

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from tierwise.core.trace import TraceRow
    from tierwise.live.device import OwnBoard
    from tierwise.live.processes import Child
    from tierwise.models.card import ModelCard

CLOUD_RUNTIME = "torch"


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoSettings:
    """What to run. ``mqtt`` is the user's broker; ``None`` starts a private one."""

    model: str = "anomaly-detector"
    """A model that tierwise can create, or a folder with a ``model.yaml`` and held-out samples."""
    requests: int = 200
    """To each tier."""
    rate_hz: float = 50.0
    """Requests a second to each tier."""
    edge_runtime: Literal["onnx", "litert"] = "onnx"
    latency_ms: float = 50.0
    """Delay of the cloud's simulated network, one way."""
    device: bool = True
    """Whether an emulated microcontroller answers too."""
    board: str = DEFAULT_BOARD
    """The board that the device's times and energy are modelled for: a name, or the path of a profile."""
    out: Path = Path("demo")
    models: Path = Path("models")
    """Where created models are kept."""
    mqtt: MqttConnectionSettings | None = None
    seed: int = 0

    def command(self) -> str:
        """The command that does the same again."""
        parts = ["tierwise", "demo", "--model", self.model, "--requests", str(self.requests)]
        parts += ["--rate", f"{self.rate_hz:g}", "--edge-runtime", self.edge_runtime]
        parts += ["--latency-ms", f"{self.latency_ms:g}", "--seed", str(self.seed)]
        parts += [] if self.device else ["--no-device"]
        parts += ["--board", self.board] if self.board != DEFAULT_BOARD else []
        if self.mqtt is not None:
            parts += ["--mqtt", f"{self.mqtt.host}:{self.mqtt.port}"]
        return shlex.join(parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Listener:
    """Who wants to know how far it is. ``on_step`` hears what is done next, ``on_row`` every finished request."""

    on_step: Callable[[str], None] = lambda _: None
    on_row: Callable[[TraceRow], None] = lambda _: None


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoResult:
    """The figures, where they are written, and what went wrong on the way.

    ``notes`` say what is not shown because this machine or this model lacks something; that is no failure.
    """

    summary: Summary
    files: Files
    problems: tuple[str, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Broker:
    """Where to connect; ``is_shared`` where others use it too."""

    settings: MqttConnectionSettings
    name: str
    is_shared: bool

    @property
    def address(self) -> str:
        host = f"[{self.settings.host}]" if ":" in self.settings.host else self.settings.host
        return f"{host}:{self.settings.port}"


async def run_demo(settings: DemoSettings, listener: Listener | None = None) -> DemoResult:
    """Runs everything and writes the results; whatever it started has ended when it returns or raises.

    Raises ``ConfigurationError`` for bad settings, ``ModelError`` for an unusable model, ``DependencyError`` for what
    is not installed, ``TransportError`` where the broker or a service does not start. A service that fails later is
    no error: its requests are rows with an outcome, and ``problems`` tells.
    """
    hear = listener or Listener()
    _check(settings)
    make_folder(settings.out)
    folder, card = await _model(settings, hear)
    token = secrets.token_hex(3)
    specs = _specs(settings, folder, token=token)
    facts = {spec.tier: TierFacts(spec.runtime, card.artifact_for(spec.runtime).file) for spec in specs}
    samples = held_out_samples(card, folder, count=settings.requests, seed=settings.seed)
    async with contextlib.AsyncExitStack() as stack:
        hear.on_step("starting the broker" if settings.mqtt is None else "connecting to the broker")
        broker = await stack.enter_async_context(_broker(settings))
        ids = [spec.service_id for spec in specs]
        watch = await stack.enter_async_context(StatusWatch(broker.settings, ids, is_shared=broker.is_shared))
        services = {
            spec: await stack.enter_async_context(started(spec, broker.address, is_shared=broker.is_shared))
            for spec in specs
        }
        # The services take seconds to start; meanwhile the firmware is built.
        device: OwnBoard | None = None
        notes: tuple[str, ...] = ()
        if settings.device:
            hear.on_step("building the firmware of the device")
            device, notes = await _device(settings, stack, broker, (folder, card), token)
        for spec, child in services.items():
            hear.on_step(f"starting the {spec.tier} service with {spec.runtime}")
            await child.wait_ready(lambda spec=spec: watch.is_online(spec.service_id), timeout_s=START_TIMEOUT_S)  # type: ignore[misc]  # mypy cannot infer a lambda with a default
        hear.on_step("asking the edge and the cloud")
        name = f"demo-sensor-{token}"
        async with Sensor(broker.settings, device_id=name, model=card.name, on_row=hear.on_row) as sensor:
            targets = [Target(spec.tier, spec.topic) for spec in specs]
            rows = await sensor.send(samples, targets, Pace(rate_hz=settings.rate_hz))
        if device is not None:  # by itself, so that it disturbs nobody's latency
            hear.on_step("asking the device")
            rows += await device.ask(samples, broker.settings, device_id=name, model=card.name, on_row=hear.on_row)
            facts[DEVICE] = device.facts(rows)
        problems = [_ended(child) for child in services.values() if child.exit_code is not None]
        hear.on_step("stopping the services")
    summary = summarise(rows, facts=facts)
    if device is not None and (asked := summary.tiers[DEVICE].requests) < settings.requests:
        problems.append(f"the device stopped answering; it was asked {asked} of {settings.requests} samples")
    problems += [f"the {name} answered nothing" for name, tier in summary.tiers.items() if not tier.answered]
    rows.sort(key=lambda row: (row.created_us, row.request_id, row.tier))
    files = write_results(
        summary, rows, card, command=settings.command(), broker=broker.name, out=settings.out, notes=notes
    )
    return DemoResult(summary=summary, files=files, problems=tuple(problems), notes=notes)


def _check(settings: DemoSettings) -> None:
    """All that is wrong at once."""
    problems = []
    if settings.requests < 1:
        problems.append(f"--requests: at least 1 is needed, got {settings.requests}")
    if not 0 < settings.rate_hz <= 100_000:  # noqa: PLR2004 - far above what a sensor in Python can do
        problems.append(f"--rate: expected requests a second above 0, at most 100000, got {settings.rate_hz:g}")
    if not 0 <= settings.latency_ms <= 60_000:  # noqa: PLR2004 - a minute each way
        problems.append(f"--latency-ms: expected 0 to 60000, got {settings.latency_ms:g}")
    try:
        load_board(settings.board)
    except ConfigurationError as error:
        problems.append(f"--board: {error}")
    if problems:
        raise ConfigurationError("; ".join(problems))


async def _model(settings: DemoSettings, hear: Listener) -> tuple[Path, ModelCard]:
    """The model's folder and card; a model that tierwise knows is created where it is not there yet."""
    given = Path(settings.model)
    if _has_card(given):
        return given, load_card(given)
    recipe = RECIPES.get(settings.model)
    if recipe is None:
        raise ConfigurationError(
            f"--model {settings.model}: neither one of {', '.join(RECIPES)} nor a folder with a {CARD_NAME}"
        )
    folder = settings.models / recipe.name
    if _has_card(folder) and (card := load_card(folder)).version == recipe.version:
        return folder, card
    hear.on_step(f"creating the model {recipe.name}, once")
    await train_in_child(recipe.name, folder, on_step=hear.on_step)
    return folder, load_card(folder)


def _has_card(folder: Path) -> bool:
    try:
        return (folder / CARD_NAME).is_file()
    except OSError:  # a name that no file can have, or a folder that we may not look into
        return False


def _specs(settings: DemoSettings, folder: Path, *, token: str) -> list[ServiceSpec]:
    """Edge and cloud."""
    suffix = _suffix(settings, token)
    return [
        ServiceSpec(
            tier="edge",
            service_id=f"demo-edge-{token}",
            model=folder,
            runtime=settings.edge_runtime,
            topic=f"{REQUEST_TOPIC}{suffix}",
        ),
        ServiceSpec(
            tier="cloud",
            service_id=f"demo-cloud-{token}",
            model=folder,
            runtime=CLOUD_RUNTIME,
            topic=f"{CLOUD_REQUEST_TOPIC}{suffix}",
            latency_ms=settings.latency_ms,
        ),
    ]


def _suffix(settings: DemoSettings, token: str) -> str:
    """On a broker that others use too, topics of our own keep their services out of it."""
    return "" if settings.mqtt is None else f"/demo-{token}"


async def _device(
    settings: DemoSettings, stack: contextlib.AsyncExitStack, broker: _Broker, model: tuple[Path, ModelCard], token: str
) -> tuple[OwnBoard | None, tuple[str, ...]]:
    """The device tier, answering until the stack unwinds; or why there is none."""
    folder, card = model
    try:
        return await stack.enter_async_context(
            own_board(
                card, folder, settings.out / FIRMWARE_NAME, broker.settings, device_id=f"demo-device-{token}",
                topic=f"{DEVICE_REQUEST_TOPIC}{_suffix(settings, token)}", board=settings.board,
            )
        ), ()  # fmt: skip
    except NoDeviceError as error:
        return None, (f"no device tier: {error}",)


@contextlib.asynccontextmanager
async def _broker(settings: DemoSettings) -> AsyncIterator[_Broker]:
    if settings.mqtt is not None:
        own = replace(settings.mqtt, client_id_prefix="tierwise-demo", fail_fast=True)
        yield _Broker(own, f"MQTT at {own.host}:{own.port}", is_shared=True)
        return
    async with private_broker() as private:
        local = MqttConnectionSettings(
            host=private.host,
            port=private.port,
            client_id_prefix="tierwise-demo",
            fail_fast=True,
            protocol=private.protocol,  # asking an embedded broker for MQTT 5 first costs 3 s a connection
        )
        yield _Broker(local, f"{private.kind}, private, MQTT {private.protocol}", is_shared=False)


def _ended(child: Child) -> str:
    return f"the {child.name} ended with code {child.exit_code} during the run: {child.last_words()}"
