"""The main job: one model answering real requests on the device, at the edge and in the cloud, side by side."""

from __future__ import annotations

import contextlib
import secrets
import shlex
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec

from tierwise.core.errors import ConfigurationError, ModelError
from tierwise.device.boards import DEFAULT_BOARD, load_board
from tierwise.device.bridge import DEVICE_REQUEST_TOPIC
from tierwise.live.broker import private_broker
from tierwise.live.device import TIER as DEVICE
from tierwise.live.device import NoDeviceError, own_board
from tierwise.live.models import find_model
from tierwise.live.results import FIRMWARE_NAME, Files, make_folder, write_results
from tierwise.live.samples import choose_samples
from tierwise.live.sensor import Pace, Sensor, Target
from tierwise.live.services import START_TIMEOUT_S, ServiceSpec, StatusWatch, started
from tierwise.messaging.settings import MqttConnectionSettings
from tierwise.messaging.topics import CLOUD_REQUEST_TOPIC, REQUEST_TOPIC
from tierwise.report.summary import Summary, TierFacts, summarise, tier_rank
from tierwise.runtimes.loading import missing_package

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from tierwise.core.trace import TraceRow
    from tierwise.live.device import OwnBoard
    from tierwise.live.models import FoundModel
    from tierwise.live.processes import Child
    from tierwise.live.samples import Chosen
    from tierwise.models.samples import Samples

EDGE_RUNTIMES = ("onnx", "litert")
"""In order of preference."""
CLOUD_RUNTIMES = ("torch", "onnx", "litert")
_FILES = {"onnx": "an .onnx file", "litert": "a .tflite file", "torch": "a .pt2, .pt, .pth or .safetensors file"}


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoSettings:
    """What to run. ``mqtt`` is the user's broker; ``None`` starts a private one."""

    model: str = "anomaly-detector"
    """A model that tierwise can create, an artifact, or a folder with a ``model.yaml``."""
    samples: tuple[str, Samples] | None = None
    """Samples to send, with the name of where they come from; else those of the model's card, else random ones."""
    requests: int = 200
    """To each tier."""
    rate_hz: float = 50.0
    """Requests a second to each tier."""
    edge_runtime: Literal["onnx", "litert"] | None = None
    """``None`` for ``onnx`` where the model has such a file, else ``litert``."""
    cloud_runtime: Literal["torch", "onnx", "litert"] = "torch"
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
        parts += ["--rate", f"{self.rate_hz:g}"]
        parts += [] if self.samples is None else ["--samples", self.samples[0]]
        parts += [] if self.edge_runtime is None else ["--edge-runtime", self.edge_runtime]
        parts += [] if self.cloud_runtime == "torch" else ["--cloud-runtime", self.cloud_runtime]
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

    A tier that is left out because this machine or this model lacks something (``summary.left_out``) is no failure.
    """

    summary: Summary
    files: Files
    problems: tuple[str, ...]


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
    model = await find_model(settings.model, settings.models, on_step=hear.on_step)
    card = model.card
    token = secrets.token_hex(3)
    specs, left_out = _specs(settings, model, token=token)
    if not specs and not (settings.device and model.has_int8):
        raise ModelError(f"no tier can run {settings.model}: {'; '.join(left_out.values())}")
    facts = {spec.tier: TierFacts(spec.runtime, card.artifact_for(spec.runtime).file) for spec in specs}
    given = settings.samples[1] if settings.samples is not None else None
    chosen = choose_samples(card, model.folder, given, count=settings.requests, seed=settings.seed)
    samples = chosen.samples
    async with contextlib.AsyncExitStack() as stack:
        hear.on_step("starting the broker" if settings.mqtt is None else "connecting to the broker")
        broker = await stack.enter_async_context(_broker(settings))
        ids = [*(spec.service_id for spec in specs), _device_id(token)]
        watch = await stack.enter_async_context(StatusWatch(broker.settings, ids, is_shared=broker.is_shared))
        services = {
            spec: await stack.enter_async_context(
                started(spec, broker.address, is_shared=broker.is_shared, protocol=broker.settings.protocol)
            )
            for spec in specs
        }
        # The services take seconds to start; meanwhile the firmware is built.
        device: OwnBoard | None = None
        if settings.device:
            hear.on_step("building the firmware of the device")
            try:
                device = await _device(settings, stack, broker, model, token)
            except NoDeviceError as error:
                if not specs:
                    raise ModelError(f"no tier can run {settings.model}: {error}") from error
                left_out[DEVICE] = str(error)
        for spec, child in services.items():
            hear.on_step(f"starting the {spec.tier} service with {spec.runtime}")
            await child.wait_ready(lambda spec=spec: watch.is_online(spec.service_id), timeout_s=START_TIMEOUT_S)  # type: ignore[misc]  # mypy cannot infer a lambda with a default
        name = f"demo-sensor-{token}"
        rows: list[TraceRow] = []
        if specs:
            hear.on_step(f"asking the {' and the '.join(spec.tier for spec in specs)}")
            async with Sensor(broker.settings, device_id=name, model=card.name, on_row=hear.on_row) as sensor:
                targets = [Target(spec.tier, spec.topic) for spec in specs]
                rows = await sensor.send(samples, targets, Pace(rate_hz=settings.rate_hz))
        if device is not None:  # by itself, so that it disturbs nobody's latency
            hear.on_step("asking the device")
            rows += await device.ask(samples, broker.settings, device_id=name, model=card.name, on_row=hear.on_row)
            facts[DEVICE] = device.facts(rows)
        problems = [_ended(child) for child in services.values() if child.exit_code is not None]
        hear.on_step("stopping the services")
    summary = msgspec.structs.replace(
        summarise(rows, facts=facts), left_out={name: left_out[name] for name in sorted(left_out, key=tier_rank)},
        caveat=_caveat(chosen),
    )  # fmt: skip
    if device is not None and (asked := summary.tiers[DEVICE].requests) < settings.requests:
        problems.append(f"the device stopped answering; it was asked {asked} of {settings.requests} samples")
    problems += [f"the {name} answered nothing" for name, tier in summary.tiers.items() if not tier.answered]
    rows.sort(key=lambda row: (row.created_us, row.request_id, row.tier))
    files = write_results(summary, rows, card, command=settings.command(), broker=broker.name, out=settings.out)
    return DemoResult(summary=summary, files=files, problems=tuple(problems))


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


def _specs(settings: DemoSettings, model: FoundModel, *, token: str) -> tuple[list[ServiceSpec], dict[str, str]]:
    """Edge and cloud, as far as the model has a file for them; and of the others, why they are left out.

    Raises ``ModelError`` where there is no file for the runtime that somebody asks for.
    """
    edge = EDGE_RUNTIMES if settings.edge_runtime is None else (settings.edge_runtime,)
    suffix = _suffix(settings, token)
    specs, left_out = [], {}
    for tier, runtimes, topic, latency_ms in (
        ("edge", edge, REQUEST_TOPIC, 0.0),
        ("cloud", (settings.cloud_runtime,), CLOUD_REQUEST_TOPIC, settings.latency_ms),
    ):
        runtime = next((one for one in runtimes if model.runs_on(one)), None)
        if runtime is None:
            left_out[tier] = _no_file(model, tier, runtimes)
        elif (missing := missing_package(runtime)) is not None:
            left_out[tier] = f"the {runtime} runtime is not installed; it needs {missing}"
        else:
            service_id = f"demo-{tier}-{token}"
            specs.append(
                ServiceSpec(
                    tier=tier, service_id=service_id, model=model.path, runtime=runtime, topic=f"{topic}{suffix}",
                    latency_ms=latency_ms,
                )
            )  # fmt: skip
    if settings.edge_runtime is not None:
        model.card.artifact_for(settings.edge_runtime)
    if settings.cloud_runtime != "torch":
        model.card.artifact_for(settings.cloud_runtime)
    return specs, left_out


def _no_file(model: FoundModel, tier: str, runtimes: tuple[str, ...]) -> str:
    """Why a tier is left out, and what would bring it in."""
    wanted = " or ".join(_FILES[runtime] for runtime in runtimes)
    told = f"{model.card.name} has no file for {' or '.join(runtimes)}: put {wanted} beside the others and run "
    told += f"`tierwise model card {shlex.quote(str(model.folder))}`"
    other = next((one for one in CLOUD_RUNTIMES if one not in runtimes and model.runs_on(one)), None)
    return told + (f", or take --cloud-runtime {other}" if tier == "cloud" and other is not None else "")


def _caveat(chosen: Chosen) -> str | None:
    """What the samples keep the figures from saying."""
    if chosen.kind == "random":
        return (
            "The samples are random numbers that fit the model's input: times are real, but how good the answers are "
            "cannot be told. Real samples: --samples FILE."
        )
    return None if chosen.has_truth else "Nothing says what the samples really are, so there is no accuracy."


def _suffix(settings: DemoSettings, token: str) -> str:
    """On a broker that others use too, topics of our own keep their services out of it."""
    return "" if settings.mqtt is None else f"/demo-{token}"


def _device_id(token: str) -> str:
    return f"demo-device-{token}"


async def _device(
    settings: DemoSettings, stack: contextlib.AsyncExitStack, broker: _Broker, model: FoundModel, token: str
) -> OwnBoard:
    """The device tier, answering until the stack unwinds. Raises ``NoDeviceError`` where there is none."""
    return await stack.enter_async_context(
        own_board(
            model.card, model.folder, settings.out / FIRMWARE_NAME, broker.settings, device_id=_device_id(token),
            topic=f"{DEVICE_REQUEST_TOPIC}{_suffix(settings, token)}", board=settings.board,
        )
    )  # fmt: skip


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
