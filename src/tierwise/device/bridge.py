"""Serial line ↔ MQTT: a device on the same topics as every tier.

Two roles. A *sensor* senses and lets the edge infer: its features go out as a request, the answer comes back to it over
the serial line. A *device* tier infers itself: what it has sensed, published on its result topic, or what others ask on
a request topic of its own. Who is answered is answered as by a service: the MQTT contract lives in ``messaging``.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Self

import msgspec
import numpy as np

from tierwise.core.background import in_background
from tierwise.core.clocks import epoch_us, monotonic_ns
from tierwise.core.errors import (
    DeadlineExceededError,
    InferenceError,
    OverloadedError,
    TierwiseError,
    TransportError,
    UnknownModelError,
)
from tierwise.core.messages import Answer, Prediction
from tierwise.device.emulator import Emulator
from tierwise.device.link import DeviceError
from tierwise.device.runtime import encode_sample, encode_samples, measured
from tierwise.messaging.answers import (
    HEADER_BYTES,
    SESSION_EXPIRY_S,
    answer_message,
    publish_answer,
    read_request,
    sender_of,
    user_properties,
)
from tierwise.messaging.connection import MqttConnection
from tierwise.messaging.payloads import decode_error, decode_result, encode_request, encode_result
from tierwise.messaging.status import in_time, leave, offline_will, say_online
from tierwise.messaging.topics import REQUEST_TOPIC, TRACEPARENT, check_device_id, error_topic, result_topic
from tierwise.runtimes.quantization import dequantize

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from mqtt5 import PublishPacket
    from numpy.typing import NDArray

    from tierwise.core.messages import Request
    from tierwise.core.tensors import Signature
    from tierwise.device.boards import BoardProfile
    from tierwise.messaging.payloads import DeviceRequest, ErrorMessage, ResultMessage
    from tierwise.messaging.settings import MqttConnectionSettings

_log = logging.getLogger(__name__)

DEVICE_REQUEST_TOPIC: Final = "ml/device/inference/request"
"""Where a device that serves others is asked; edge and cloud have topics of their own."""
ENERGY: Final = "energy_device_j"
"""User property of an answer: modelled joules of the inference on the device's board."""
_DEVICE_TIER: Final = "device"


@dataclass(frozen=True, kw_only=True)
class BridgeSettings:
    """How a device appears on MQTT."""

    device_id: str
    request_topic: str = REQUEST_TOPIC
    """Where a sensor asks."""
    serve_topic: str | None = None
    """Where others may ask the device; ``None``: nowhere."""
    board: BoardProfile | None = None
    """Models ``inference_time_ms`` and energy from counted instructions; without it, the emulation's own time."""
    label_of: Callable[[Prediction], str | list[str] | None] | None = None
    """The word for a prediction; by default that of the card from which the device was built."""
    deadline_s: float = 10.0
    """For the edge's answer to a sensor."""
    max_waiting: int = 64
    """Requests that wait for the device; more are refused."""
    max_payload_bytes: int = 1_000_000
    """Largest request that is read."""


@dataclass(slots=True)
class _Job:
    device: DeviceRequest
    packet: PublishPacket
    acknowledge: Callable[[], None]


class DeviceBridge:
    """One device and its connection to a broker, as an async context manager; the emulator is the caller's.

    Its retained status is on ``tierwise/{device_id}/status``. Will, size of packets and the time for which the broker
    keeps the session are the bridge's own, whatever ``connection`` says.
    """

    def __init__(self, emulator: Emulator, connection: MqttConnectionSettings, settings: BridgeSettings) -> None:
        check_device_id(settings.device_id)
        self.settings = settings
        self.answers_taken = 0
        """Answers of the edge that the device has confirmed."""
        self._emulator = emulator
        self._signature: Signature = emulator.build.signature
        self._connection = MqttConnection(
            replace(
                connection,
                will=offline_will(settings.device_id),
                session_expiry_s=SESSION_EXPIRY_S,
                max_packet_size=settings.max_payload_bytes + HEADER_BYTES,
            ),
            on_message=lambda packet, acknowledge: self._on_message(packet, len(packet.payload), acknowledge),
            on_oversize=self._on_message,
            on_state=self._on_state,
        )
        self._waiting: asyncio.Queue[_Job] = asyncio.Queue(settings.max_waiting)
        self._asked: dict[str, asyncio.Future[ResultMessage]] = {}
        self._count = 0
        self._stopping = False
        self._server: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Connects and subscribes. Raises ``TransportError`` where the broker is out of reach."""
        device_id = self.settings.device_id
        topics = [result_topic(device_id), error_topic(device_id)]
        topics += [self.settings.serve_topic] if self.settings.serve_topic is not None else []
        async with contextlib.AsyncExitStack() as stack:
            await stack.enter_async_context(self._connection)
            await self._connection.subscribe(*topics)
            await self._connection.wait_connected(self._connection.settings.connect_timeout_s)
            stack.pop_all()
        self._server = in_background(self._serve(), f"bridge of {device_id}")
        return self

    async def __aexit__(self, *_: object) -> None:
        """Tells those whose requests wait that the device stops, says ``stopped`` and disconnects."""
        if self.settings.serve_topic is not None and self._connection.connected:
            await in_time(self._connection.unsubscribe(self.settings.serve_topic), "ending the subscription")
        self._stopping = True  # where the broker does not answer to that, requests may still come
        if self._server is not None:
            self._server.cancel()
            await asyncio.wait({self._server})
        while not self._waiting.empty():
            self._refuse_at_end(self._waiting.get_nowait())
        await leave(self._connection, self.settings.device_id)

    async def wait_failed(self) -> None:
        """Returns when the bridge is left; raises ``BrokerError`` when its connection gives up for good."""
        await self._connection.wait_failed()

    async def ask(self, features: NDArray[Any] | Mapping[str, NDArray[Any]]) -> ResultMessage:
        """As a sensor: the device senses one sample, the edge answers, the answer reaches the device.

        Raises ``DeadlineExceededError`` without an answer in time, ``InferenceError`` where the edge refuses (the
        device is told so too), and what the serial line raises.
        """
        payload = await self._emulator.link.sense(encode_sample(features, self._signature))
        self._count += 1
        request_id = f"{self.settings.device_id}-{self._count}"
        answer: asyncio.Future[ResultMessage] = asyncio.get_running_loop().create_future()
        self._asked[request_id] = answer
        deadline_s = self.settings.deadline_s
        message = encode_request(
            self.settings.device_id,
            epoch_us(monotonic_ns()),
            self._features(payload),
            request_id=request_id,
            deadline_ms=deadline_s * 1e3,
        )
        try:
            async with asyncio.timeout(deadline_s):
                await self._connection.publish_and_wait(
                    self.settings.request_topic, message, message_expiry_interval=math.ceil(deadline_s)
                )
                result = await answer
        except (TimeoutError, TierwiseError) as error:
            self.answers_taken = await self._emulator.link.answer([], failed=True)
            if isinstance(error, TimeoutError):
                raise DeadlineExceededError(
                    f"no answer on {result_topic(self.settings.device_id)} within {deadline_s:g} s"
                ) from None
            raise
        finally:
            del self._asked[request_id]
        values = [float(value) for value in np.asarray(result.prediction, dtype=np.float64).ravel()]
        self.answers_taken = await self._emulator.link.answer(values)
        return result

    async def infer(self, features: NDArray[Any] | Mapping[str, NDArray[Any]]) -> Answer:
        """As a device tier: infers one sample and publishes the result on the device's own result topic."""
        received_ns = monotonic_ns()
        answer, _ = await self._answer(features, received_ns, request_id=None)
        payload = encode_result(self.settings.device_id, epoch_us(received_ns), answer)
        await self._connection.publish_and_wait(result_topic(self.settings.device_id), payload)
        return answer

    # --- inside: asking the edge

    def _features(self, payload: bytes) -> NDArray[Any] | dict[str, NDArray[Any]]:
        """What the device has sensed, as real numbers."""
        values, at = {}, 0
        for spec in self._signature.inputs:
            count = spec.sample_size or 1
            part = np.frombuffer(payload, np.dtype(spec.dtype), count=count, offset=at)
            at += part.nbytes
            values[spec.name] = part if spec.scale is None else dequantize(part, spec)
        return values if len(values) > 1 else next(iter(values.values()))

    def _on_state(self, connected: bool) -> None:  # noqa: FBT001 -- the connection's callback
        if connected:
            say_online(self._connection, self.settings.device_id)

    def _on_message(self, packet: PublishPacket, payload_bytes: int, acknowledge: Callable[[], None]) -> None:
        """Takes a message. Of one that is far too large ``packet`` has only the beginning of the payload."""
        if packet.topic == self.settings.serve_topic:
            self._take(packet, payload_bytes, acknowledge)
            return
        acknowledge()
        device_id = self.settings.device_id
        try:
            if packet.topic == result_topic(device_id):
                self._settle(decode_result(packet.payload))
            elif packet.topic == error_topic(device_id):
                self._fail(decode_error(packet.payload))
            # Some brokers (amqtt) bring retained messages to clients that never asked for them.
        except TransportError as error:  # whoever waits for it times out
            _log.warning("a message on %s was %s", packet.topic, error)

    def _settle(self, result: ResultMessage) -> None:
        asked = self._asked.get(result.request_id or "")
        if asked is not None and not asked.done():
            asked.set_result(result)

    def _fail(self, message: ErrorMessage) -> None:
        asked = self._asked.get(message.request_id or "")
        if asked is not None and not asked.done():
            asked.set_exception(InferenceError(f"the edge refuses: {message.error.message}"))

    # --- inside: answering others

    def _take(self, packet: PublishPacket, payload_bytes: int, acknowledge: Callable[[], None]) -> None:
        device: DeviceRequest | None = None
        try:
            device = read_request(
                packet,
                payload_bytes,
                received_ns=self._connection.read_ns,
                max_payload_bytes=self.settings.max_payload_bytes,
            )
            if self._stopping:
                raise _stopped()
            self._waiting.put_nowait(_Job(device, packet, acknowledge))
        except TierwiseError as error:
            self._reply(packet, device, error, acknowledge)
        except asyncio.QueueFull:
            self._reply(packet, device, OverloadedError("the device is busy; try again later"), acknowledge)

    async def _serve(self) -> None:
        """Answers one request after the other. None may end it, whatever is wrong with request or device."""
        while True:
            job = await self._waiting.get()
            request, energy_j = job.device.request, None
            outcome: Answer | TierwiseError
            try:
                self._check(request)
                outcome, energy_j = await self._answer(request.features, request.received_ns, request.request_id)
            except asyncio.CancelledError:
                self._refuse_at_end(job)
                raise
            except TierwiseError as caught:
                outcome = caught
            except Exception as caught:  # noqa: BLE001 -- one bad request must not end the bridge; it is told to the client
                _log.exception("a request to the device %s failed", self.settings.device_id)
                outcome = InferenceError(f"the device failed: {type(caught).__name__}: {caught}")
            self._reply(job.packet, job.device, outcome, job.acknowledge, energy_j)
            if isinstance(outcome, DeviceError):
                await self._restart()

    def _refuse_at_end(self, job: _Job) -> None:
        self._reply(job.packet, job.device, _stopped(), job.acknowledge)

    def _check(self, request: Request) -> None:
        """Raises what keeps a request from the device."""
        build = self._emulator.build
        if request.model not in {None, build.model} or request.model_version not in {None, build.model_version}:
            wanted = f"{request.model or build.model} {request.model_version or ''}".rstrip()
            raise UnknownModelError(f"no model {wanted} here; this device has {build.model} {build.model_version}")
        if request.deadline_ns is not None and monotonic_ns() > request.deadline_ns:
            raise DeadlineExceededError("the deadline passed while the request waited for the device")

    async def _restart(self) -> None:
        """Starts a device again that has failed; if that fails too, the next request tries again."""
        try:
            await self._emulator.restart()
        except TierwiseError as error:
            _log.warning("the device does not start again: %s", error)

    async def _answer(
        self, features: NDArray[Any] | Mapping[str, NDArray[Any]], received_ns: int, request_id: str | None
    ) -> tuple[Answer, float | None]:
        """The answer, and the modelled joules it took on the device's board."""
        samples, is_batch = encode_samples(features, self._signature)
        started_ns = monotonic_ns()
        inferences = [measured(await self._emulator.infer(sample), self._signature) for sample in samples]
        finished_ns, energy_j = monotonic_ns(), None
        counts = [inference.instructions for inference in inferences if inference.instructions is not None]
        if self.settings.board is not None and counts:
            # The emulator's speed says nothing about the board: the modelled time takes its place.
            finished_ns = started_ns + round(self.settings.board.latency_ms(sum(counts)) * 1e6)
            energy_j = self.settings.board.energy_mj(sum(counts)) / 1e3
        columns = [
            _prediction(column, is_batch=is_batch) for column in zip(*(i.outputs for i in inferences), strict=True)
        ]
        names = [spec.name for spec in self._signature.outputs]
        build = self._emulator.build
        answer = Answer(
            prediction=columns[0],
            model=build.model,
            model_version=build.model_version,
            tier=_DEVICE_TIER,
            received_ns=received_ns,
            started_ns=started_ns,
            finished_ns=finished_ns,
            label=(self.settings.label_of or build.label_of)(columns[0]),
            outputs=dict(zip(names, columns, strict=True)) if len(columns) > 1 else None,
            request_id=request_id,
        )
        return answer, energy_j

    def _reply(
        self,
        packet: PublishPacket,
        device: DeviceRequest | None,
        outcome: Answer | TierwiseError,
        acknowledge: Callable[[], None],
        energy_j: float | None = None,
    ) -> None:
        """Answers a request; ``device`` is ``None`` where it could not be read."""
        asked = dict(packet.user_properties)
        told = user_properties(asked, outcome, asked.get(TRACEPARENT))
        if energy_j is not None:
            told.append((ENERGY, repr(energy_j)))
        sender = sender_of(packet, asked, device)
        message = answer_message(sender, outcome, told)
        publish_answer(self._connection, packet, sender, message, acknowledge)


async def run_bridge(
    folder: Path,
    connection: MqttConnectionSettings,
    settings: BridgeSettings,
    samples: Sequence[Mapping[str, NDArray[Any]]],
    *,
    as_sensor: bool,
    on_line: Callable[[str], None],
) -> None:
    """Starts the device built in ``folder`` and its bridge, and drives it with ``samples``, one after the other.

    ``on_line`` hears each answer as JSON, with a tab and its label where it has one. With
    ``serve_topic`` it goes on until cancelled; then it raises ``BrokerError`` where the connection gives up for good.
    """
    async with Emulator(folder) as emulator, DeviceBridge(emulator, connection, settings) as bridge:
        for sample in samples:
            single = {name: values[0] for name, values in sample.items()}
            features = single if len(single) > 1 else next(iter(single.values()))
            answer = await (bridge.ask(features) if as_sensor else bridge.infer(features))
            words = [] if answer.label is None else [answer.label if isinstance(answer.label, str) else answer.label[0]]
            on_line("\t".join([msgspec.json.encode(answer.prediction).decode(), *words]))
        if settings.serve_topic is not None:
            await bridge.wait_failed()


def _stopped() -> OverloadedError:
    return OverloadedError("the device stopped before it had answered", retry_after_s=5.0)


def _prediction(column: tuple[NDArray[Any], ...], *, is_batch: bool) -> Prediction:
    """One output of all samples: a number where the model yields one value, else a list; for a batch a list of them."""
    values = [float(output.reshape(-1)[0]) if output.size == 1 else output[0].tolist() for output in column]
    return values if is_batch else values[0]
