"""A sensor: publishes samples to each tier over MQTT, matches the answers, and writes down every instant.

Samples are due at a fixed rate, whether answers come or not; the tiers are asked in turn, so that they do not disturb
one another. A sample that had to wait for a free place in the window counts that wait from when it was due: a slow
tier cannot hide behind the requests that it kept from being sent.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import msgspec

from tierwise.core.clocks import epoch_us, monotonic_ns
from tierwise.core.errors import TierwiseError, TransportError
from tierwise.core.trace import TraceRow
from tierwise.device.bridge import ENERGY
from tierwise.messaging.connection import MqttConnection
from tierwise.messaging.payloads import decode_error, decode_result, encode_request
from tierwise.messaging.topics import TIMING, error_topic, result_topic

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any, Self

    from mqtt5 import PublishPacket
    from numpy.typing import NDArray

    from tierwise.messaging.payloads import ErrorMessage, ResultMessage
    from tierwise.messaging.settings import MqttConnectionSettings

_log = logging.getLogger(__name__)

ANSWERED = "answered"
TIMEOUT = "timeout"


@dataclass(frozen=True, slots=True)
class Sample:
    """One sample. ``request_id`` is its name on every tier, ``truth`` the label that it really has."""

    request_id: str
    features: NDArray[Any] | Mapping[str, NDArray[Any]]
    truth: str | None = None


@dataclass(frozen=True, slots=True)
class Target:
    """A tier and the topic on which its service listens."""

    tier: str
    topic: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How samples are sent to each tier."""

    rate_hz: float = 50.0
    window: int = 64
    """Requests on their way at one tier; a further one waits."""
    deadline_s: float = 5.0
    """From when the sample was due to when its answer counts as lost."""
    qos: Literal[0, 1] = 1


@dataclass(slots=True)
class _Pending:
    """A request whose answer is awaited. Instants are monotonic nanoseconds."""

    sample: Sample
    tier: str
    created_ns: int
    window: asyncio.Semaphore
    sent_ns: int | None = None
    bytes_up: int = 0
    timer: asyncio.TimerHandle | None = field(default=None, repr=False)


class Sensor:
    """One device on a broker. Use it as ``async with Sensor(...) as sensor: rows = await sensor.send(...)``.

    ``on_row`` hears every row as soon as it is complete. The bytes of a row are those of the MQTT payloads.
    """

    def __init__(
        self,
        settings: MqttConnectionSettings,
        *,
        device_id: str,
        model: str,
        on_row: Callable[[TraceRow], None] | None = None,
    ) -> None:
        self.device_id = device_id
        self.model = model
        self.connection = MqttConnection(settings, on_message=self._on_message)
        self._on_row = on_row
        self._pending: dict[str, _Pending] = {}
        self._rows: list[TraceRow] = []
        self._idle = asyncio.Event()

    async def __aenter__(self) -> Self:
        """Connects and subscribes. Raises ``TransportError`` where the broker is out of reach."""
        async with contextlib.AsyncExitStack() as stack:
            await stack.enter_async_context(self.connection)
            await self.connection.subscribe(result_topic(self.device_id), error_topic(self.device_id))
            await self.connection.wait_connected(self.connection.settings.connect_timeout_s)
            stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Gives up on what is still awaited and disconnects."""
        for pending in self._pending.values():
            if pending.timer is not None:
                pending.timer.cancel()
        self._pending.clear()
        await self.connection.stop()

    async def send(self, samples: Sequence[Sample], targets: Sequence[Target], pace: Pace) -> list[TraceRow]:
        """Sends every sample to every target and returns when each was answered, refused or lost.

        Rows are in the order of creation. Raises ``ValueError`` where two samples have one id.
        """
        if len({sample.request_id for sample in samples}) != len(samples):
            raise ValueError("every sample needs a request_id of its own")
        self._rows = []
        start_ns, interval_ns = monotonic_ns(), 1e9 / pace.rate_hz
        async with asyncio.TaskGroup() as group:
            for position, target in enumerate(targets):
                phase_ns = round(start_ns + interval_ns * position / len(targets))
                group.create_task(self._drive(samples, target, pace, phase_ns, interval_ns))
        await self._until_idle()
        return sorted(self._rows, key=lambda row: (row.created_us, row.request_id, row.tier))

    async def _drive(
        self, samples: Sequence[Sample], target: Target, pace: Pace, start_ns: int, interval_ns: float
    ) -> None:
        window = asyncio.Semaphore(pace.window)
        for number, sample in enumerate(samples):
            due_ns = start_ns + round(number * interval_ns)
            created_ns = due_ns
            if (ahead_ns := due_ns - monotonic_ns()) > 0:
                await asyncio.sleep(ahead_ns / 1e9)
                created_ns = monotonic_ns()  # a timer that fires late is not the tier's fault
            pending = _Pending(sample, target.tier, created_ns, window)
            try:
                async with asyncio.timeout(pace.deadline_s - (monotonic_ns() - created_ns) / 1e9):
                    await window.acquire()
            except TimeoutError:
                self._record(pending, TIMEOUT)
                continue
            self._publish(pending, target, pace)

    def _publish(self, pending: _Pending, target: Target, pace: Pace) -> None:
        # Errors do not say which tier they are from, so the id on the wire does.
        wire_id = f"{pending.sample.request_id}@{target.tier}"
        self._pending[wire_id] = pending
        payload = encode_request(
            self.device_id, epoch_us(pending.created_ns), pending.sample.features, request_id=wire_id
        )
        pending.bytes_up = len(payload)
        left_s = pace.deadline_s - (monotonic_ns() - pending.created_ns) / 1e9
        pending.timer = asyncio.get_running_loop().call_later(max(0.0, left_s), self._settle, wire_id, TIMEOUT)

        def done(error: TierwiseError | None) -> None:
            if error is not None:
                self._settle(wire_id, error.code)

        pending.sent_ns = monotonic_ns()
        try:
            self.connection.publish(target.topic, payload, qos=pace.qos, on_done=done, user_properties=[(TIMING, "1")])
        except TierwiseError as error:
            self._settle(wire_id, error.code)

    def _on_message(self, packet: PublishPacket, acknowledge: Callable[[], None]) -> None:
        answered_ns = monotonic_ns()
        acknowledge()
        try:
            if packet.topic == result_topic(self.device_id):
                self._answer(packet, decode_result(packet.payload), answered_ns)
            elif packet.topic == error_topic(self.device_id):
                self._refusal(packet, decode_error(packet.payload), answered_ns)
            # Some brokers (amqtt) bring retained messages to clients that never asked for them.
        except TransportError as error:  # the request that it may have been for times out
            _log.warning("a message on %s was %s", packet.topic, error)

    def _answer(self, packet: PublishPacket, result: ResultMessage, answered_ns: int) -> None:
        pending = self._take(result.request_id)
        if pending is None:
            return  # it came after the deadline, or twice
        told = dict(packet.user_properties)
        label = result.label
        self._record(
            pending,
            ANSWERED,
            arrived_us=_instant(told, "arrived_us"),
            started_us=_instant(told, "started_us"),
            finished_us=_instant(told, "finished_us"),
            answered_us=epoch_us(answered_ns),
            bytes_down=len(packet.payload),
            prediction=msgspec.json.encode(result.prediction).decode(),
            label=label if label is None or isinstance(label, str) else msgspec.json.encode(label).decode(),
            energy_device_j=_number(told, ENERGY),
            inference_us=result.inference_time_ms * 1000,
            configured_delay_us=None if result.cloud_latency_ms is None else round(result.cloud_latency_ms * 1000),
        )

    def _refusal(self, packet: PublishPacket, message: ErrorMessage, answered_ns: int) -> None:
        wire_id = message.request_id or self._by_timestamp(message.timestamp_us)
        pending = self._take(wire_id)
        if pending is not None:
            self._record(pending, message.error.code, answered_us=epoch_us(answered_ns), bytes_down=len(packet.payload))

    def _by_timestamp(self, timestamp_us: int | None) -> str | None:
        """A request that was refused before its id was read is known by when it was made."""
        return next((key for key, item in self._pending.items() if epoch_us(item.created_ns) == timestamp_us), None)

    def _settle(self, wire_id: str, outcome: str) -> None:
        if (pending := self._take(wire_id)) is not None:
            self._record(pending, outcome)

    def _take(self, wire_id: str | None) -> _Pending | None:
        pending = self._pending.pop(wire_id, None) if wire_id is not None else None
        if pending is not None:
            if pending.timer is not None:
                pending.timer.cancel()
            pending.window.release()
        return pending

    def _record(self, pending: _Pending, outcome: str, **measured: Any) -> None:  # noqa: ANN401 - columns of a row
        row = TraceRow(
            request_id=pending.sample.request_id,
            device_id=self.device_id,
            model=self.model,
            tier=pending.tier,
            created_us=epoch_us(pending.created_ns),
            sent_us=None if pending.sent_ns is None else epoch_us(pending.sent_ns),
            bytes_up=pending.bytes_up,
            truth=pending.sample.truth,
            outcome=outcome,
            **measured,
        )
        self._rows.append(row)
        if not self._pending:
            self._idle.set()
        if self._on_row is not None:
            self._on_row(row)

    async def _until_idle(self) -> None:
        while self._pending:
            self._idle.clear()
            await self._idle.wait()


def _instant(told: dict[str, str], name: str) -> int | None:
    """An instant of the service in epoch microseconds; ``None`` where it does not tell (MQTT 3.1.1)."""
    text = told.get(name, "")
    return int(text) if text.isascii() and text.isdigit() else None


def _number(told: dict[str, str], name: str) -> float | None:
    """A finite number of the service that is not negative; ``None`` where it tells none."""
    try:
        value = float(told.get(name, "nan"))
    except ValueError:
        return None
    return value if 0 <= value < math.inf else None
