"""The payloads of the MQTT contract: requests, results and errors, from both ends."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import numpy as np

from tierwise.core.errors import InferenceError, InvalidInputError, InvalidRequestError, TransportError
from tierwise.core.messages import Answer, Prediction, Request
from tierwise.messaging.features import decode_features, locate
from tierwise.messaging.topics import check_device_id, is_device_id

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

    from tierwise.core.errors import TierwiseError

RAW_CONTENT_TYPE = "application/octet-stream"
"""MQTT 5 content type of a payload that is the features as little-endian float32 and nothing else."""

_SALVAGE_BYTES = 4096
"""How much of a broken payload is searched for the ids of its sender."""

Int64 = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
DeadlineMs = Annotated[float, msgspec.Meta(gt=0, le=1e12)]


class DeviceRequest(msgspec.Struct, gc=False):
    """A request and who sent it. ``timestamp_us`` is the device's own clock, handed back as it came."""

    device_id: str
    timestamp_us: int
    request: Request


class _RequestForm(msgspec.Struct, gc=False):
    device_id: str
    timestamp_us: Int64
    features: msgspec.Raw
    model: Name | None = None
    model_version: Name | None = None
    request_id: Name | None = None
    deadline_ms: DeadlineMs | None = None


class _RawRequestForm(msgspec.Struct, gc=False):
    """User properties of a raw request: the same fields, each a string on the wire."""

    device_id: str
    timestamp_us: Int64
    model: Name | None = None
    model_version: Name | None = None
    request_id: Name | None = None
    deadline_ms: DeadlineMs | None = None
    traceparent: str | None = None


class ResultMessage(msgspec.Struct, omit_defaults=True, gc=False):
    """An answer as it travels. Durations in milliseconds; ``cloud_latency_ms`` is both ways, configured."""

    device_id: str
    timestamp_us: int
    prediction: Prediction
    inference_time_ms: float
    model: str | None = None
    model_version: str | None = None
    tier: str | None = None
    request_id: str | None = None
    label: str | list[str] | None = None
    outputs: dict[str, Prediction] | None = None
    cloud_latency_ms: float | None = None
    total_latency_ms: float | None = None


class ErrorDetail(msgspec.Struct, gc=False):
    """``code`` is one of ``core.errors``; ``message`` is for people."""

    code: str
    message: str


class ErrorMessage(msgspec.Struct, omit_defaults=True, gc=False):
    """An error as it travels; the ids are ``None`` where the request did not tell them."""

    device_id: str | None
    timestamp_us: int | None
    error: ErrorDetail
    request_id: str | None = None


AnswerFields = tuple[
    Prediction, float, str, str, str, str | None, str | list[str] | None, dict[str, Prediction] | None,
    float | None, float | None,
]  # fmt: skip

_request_decoder = msgspec.json.Decoder(_RequestForm)
_result_decoder = msgspec.json.Decoder(ResultMessage)
_error_decoder = msgspec.json.Decoder(ErrorMessage)
_encode = msgspec.json.Encoder().encode


def decode_request(payload: bytes, *, received_ns: int) -> DeviceRequest:
    """The JSON request in ``payload``; features become float64 arrays in the shape they were sent in.

    ``deadline_ms`` counts from ``received_ns``. Unknown fields are ignored. Raises ``InvalidRequestError`` naming the
    field that is missing or of the wrong type, and ``InvalidInputError`` where the features are no proper array.
    """
    try:
        form = _request_decoder.decode(payload)
    except (ValueError, RecursionError) as error:
        raise refusal(payload, error) from error
    check_device_id(form.device_id)
    request = Request(
        decode_features(form.features),
        received_ns,
        form.model,
        form.model_version,
        form.request_id,
        deadline_ns(form.deadline_ms, received_ns),
    )
    return DeviceRequest(form.device_id, form.timestamp_us, request)


def decode_raw_request(payload: bytes, properties: Iterable[tuple[str, str]], *, received_ns: int) -> DeviceRequest:
    """A request of content type ``application/octet-stream``: flat little-endian float32 features.

    The other fields of a request are MQTT 5 user properties of the same names. Raises like ``decode_request``.
    """
    try:
        form = msgspec.convert(dict(properties), _RawRequestForm, strict=False)
    except msgspec.ValidationError as error:
        raise InvalidRequestError(f"user property {locate(error)}") from error
    check_device_id(form.device_id)
    if not payload or len(payload) % 4:
        raise InvalidInputError(f"features: {len(payload)} bytes are not a whole number of float32 values")
    features = np.frombuffer(payload, "<f4").astype(np.float32)
    request = Request(
        features,
        received_ns,
        form.model,
        form.model_version,
        form.request_id,
        deadline_ns(form.deadline_ms, received_ns),
        form.traceparent,
    )
    return DeviceRequest(form.device_id, form.timestamp_us, request)


def encode_request(
    device_id: str,
    timestamp_us: int,
    features: NDArray[Any] | Iterable[Any] | Mapping[str, Any],
    *,
    model: str | None = None,
    model_version: str | None = None,
    request_id: str | None = None,
    deadline_ms: float | None = None,
) -> bytes:
    """What a sensor publishes. Raises ``InvalidRequestError`` for an id that cannot be part of a topic."""
    check_device_id(device_id)
    fields: dict[str, Any] = {"device_id": device_id, "timestamp_us": timestamp_us, "features": _plain(features)}
    optional = {"model": model, "model_version": model_version, "request_id": request_id, "deadline_ms": deadline_ms}
    fields.update((name, value) for name, value in optional.items() if value is not None)
    return _encode(fields)


def salvage_ids(payload: bytes) -> tuple[str | None, int | None]:
    """``device_id`` and ``timestamp_us`` of a payload that could not be decoded, as far as they can be read.

    Never raises; looks at the first 4096 bytes only, and gives only an id that can be part of a topic.
    """
    head = payload[:_SALVAGE_BYTES]
    device_id = timestamp_us = None
    if match := _device_id_pattern.search(head):
        try:
            text = msgspec.json.decode(match[1], type=str)
        except ValueError:
            text = ""
        device_id = text if is_device_id(text) else None
    if match := _timestamp_pattern.search(head):
        number = int(match[1])
        timestamp_us = number if -(2**63) <= number < 2**63 else None
    return device_id, timestamp_us


_device_id_pattern = re.compile(rb'"device_id"\s*:\s*("(?:[^"\\\x00-\x1f]|\\.){1,768}")')
_timestamp_pattern = re.compile(rb'"timestamp_us"\s*:\s*(-?\d{1,19})(?=\s*[,}])')


def encode_result(device_id: str, timestamp_us: int, answer: Answer) -> bytes:
    """An answer for the result topic. Raises ``InferenceError`` where the model gave NaN or infinity."""
    return ensure_finite(_encode(ResultMessage(device_id, timestamp_us, *answer_fields(answer))), answer)


def encode_error(
    device_id: str | None, timestamp_us: int | None, error: TierwiseError, request_id: str | None = None
) -> bytes:
    """An error for the error topic."""
    return _encode(ErrorMessage(device_id, timestamp_us, ErrorDetail(error.code, str(error)), request_id))


def decode_result(payload: bytes) -> ResultMessage:
    """An answer from the result topic. Raises ``TransportError`` where it is none."""
    try:
        return _result_decoder.decode(payload)
    except (ValueError, RecursionError) as error:
        raise TransportError(f"not an inference result: {error}") from error


def decode_error(payload: bytes) -> ErrorMessage:
    """An error from the error topic. Raises ``TransportError`` where it is none."""
    try:
        return _error_decoder.decode(payload)
    except (ValueError, RecursionError) as error:
        raise TransportError(f"not an inference error: {error}") from error


def answer_fields(answer: Answer) -> AnswerFields:
    """What every encoded answer says, in the order of the fields of ``ResultMessage`` after its two ids."""
    delay_ns = answer.delay_ns
    return (
        answer.prediction,
        answer.inference_ns / 1e6,
        answer.model,
        answer.model_version,
        answer.tier,
        answer.request_id,
        answer.label,
        answer.outputs,
        None if delay_ns is None else delay_ns / 1e6,
        None if delay_ns is None else answer.total_ns / 1e6,
    )


def ensure_finite(payload: bytes, answer: Answer) -> bytes:
    """``payload``, the encoded answer. Raises ``InferenceError`` where the model gave NaN or infinity.

    JSON has neither: the encoder writes null, which no client expects as a prediction.
    """
    if b"null" in payload and not (_is_finite(answer.prediction) and _is_finite(answer.outputs)):
        raise InferenceError(f"model {answer.model} gave NaN or infinity for this input")
    return payload


def deadline_ns(deadline_ms: float | None, received_ns: int) -> int | None:
    """Instant of a deadline that counts from the arrival; ``None`` where there is none."""
    return None if deadline_ms is None else received_ns + int(deadline_ms * 1e6)


_no_number = re.compile(rb"-?(?:NaN|Infinity)")
_key_pattern = re.compile(rb'"([^"\\]{1,64})"\s*:')


def _last_key(head: bytes) -> str:
    """The field in which a payload ends that was cut off where it is wrong."""
    keys = _key_pattern.findall(head[-_SALVAGE_BYTES:]) or _key_pattern.findall(head[:_SALVAGE_BYTES])
    return keys[-1].decode(errors="replace") if keys else "the payload"


def refusal(payload: bytes, error: Exception) -> InvalidRequestError | InvalidInputError:
    """The error that tells why ``payload`` could not be decoded as a request."""
    if isinstance(error, msgspec.ValidationError):
        return InvalidRequestError(f"not a request: {locate(error)}")
    if isinstance(error, RecursionError):
        return InvalidInputError("the payload is nested too deeply")
    if found := _no_number.search(payload):
        field = _last_key(payload[: found.start()])
        return InvalidInputError(f"{field}: {found[0].decode()}; inputs must be finite numbers, and JSON has no other")
    return InvalidRequestError(f"not JSON: {error}")


def _plain(features: NDArray[Any] | Iterable[Any] | Mapping[str, Any]) -> Any:  # noqa: ANN401  (whatever JSON takes)
    if isinstance(features, np.ndarray):
        return features.tolist()
    if isinstance(features, dict):
        return {name: _plain(value) for name, value in features.items()}
    return features


def _is_finite(value: Any) -> bool:  # noqa: ANN401  (a prediction of any depth)
    if isinstance(value, dict):
        return all(map(_is_finite, value.values()))
    if isinstance(value, list):
        return all(map(_is_finite, value))
    return not isinstance(value, float) or bool(np.isfinite(value))
