"""The bodies of ``POST /predict``."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from tierwise.core.errors import InvalidInputError, InvalidRequestError
from tierwise.core.messages import Answer, Prediction, Request
from tierwise.messaging.features import decode_features, flat_features, locate
from tierwise.messaging.payloads import DeadlineMs, Name, answer_fields, deadline_ns, ensure_finite, refusal

if TYPE_CHECKING:
    from numpy.typing import NDArray

_FIELDS = ("input", "features", "inputs")

_DTYPES = {
    "UINT8": "u1", "UINT16": "u2", "UINT32": "u4", "UINT64": "u8", "INT8": "i1", "INT16": "i2",
    "INT32": "i4", "INT64": "i8", "FP16": "f2", "FP32": "f4", "FP64": "f8",
}  # fmt: skip
"""Datatypes of the Open Inference Protocol V2 and numpy's names for them."""


class _Options(msgspec.Struct, kw_only=True, gc=False):
    model: Name | None = None
    model_version: Name | None = None
    request_id: Name | None = None
    deadline_ms: DeadlineMs | None = None


class _SampleForm(_Options, kw_only=True, gc=False, forbid_unknown_fields=True):
    """What nearly all requests look like: decoded in one pass, without a look at what else it could be."""

    input: list[float]


class _PredictForm(_Options, kw_only=True, gc=False):
    input: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    features: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    inputs: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class _Tensor(msgspec.Struct):
    """One tensor of the V2 form; ``data`` is flat or nested."""

    name: str
    shape: list[int]
    datatype: str
    data: msgspec.Raw


class _Prediction(msgspec.Struct, omit_defaults=True, gc=False):
    """``answer_fields``, named."""

    prediction: Prediction
    inference_time_ms: float
    model: str
    model_version: str
    tier: str
    request_id: str | None = None
    label: str | list[str] | None = None
    outputs: dict[str, Prediction] | None = None
    cloud_latency_ms: float | None = None
    total_latency_ms: float | None = None


_sample_decoder = msgspec.json.Decoder(_SampleForm)
_decoder = msgspec.json.Decoder(_PredictForm)
_tensors = msgspec.json.Decoder(list[_Tensor])
_encode = msgspec.json.Encoder().encode


def decode_predict(body: bytes, *, received_ns: int) -> Request:
    """``{"input": [...]}``, ``{"features": [...]}`` or ``{"inputs": [...]}`` as a request.

    The value is one sample or a batch, or an object with one such for each named input; ``inputs`` may also be a list
    of tensors in the V2 form. Raises ``InvalidRequestError`` and ``InvalidInputError``.
    """
    features: NDArray[Any] | dict[str, NDArray[Any]] | None
    options: _Options
    try:
        options = sample = _sample_decoder.decode(body)
        features = flat_features(sample.input)
    except (ValueError, RecursionError):
        features = None
    if features is None:
        options, features = _decode_form(body)
    return Request(
        features,
        received_ns,
        options.model,
        options.model_version,
        options.request_id,
        deadline_ns(options.deadline_ms, received_ns),
    )


def encode_predict(answer: Answer) -> bytes:
    """The answer's body. Raises ``InferenceError`` where the model gave NaN or infinity."""
    return ensure_finite(_encode(_Prediction(*answer_fields(answer))), answer)


def _decode_form(body: bytes) -> tuple[_Options, NDArray[Any] | dict[str, NDArray[Any]]]:
    """Any request, or the error that tells what is wrong with it."""
    try:
        form = _decoder.decode(body)
    except (ValueError, RecursionError) as error:
        raise refusal(body, error) from error
    given = [(name, raw) for name in _FIELDS if isinstance(raw := getattr(form, name), msgspec.Raw)]
    if len(given) != 1:
        told = " and ".join(name for name, _ in given) or "none of them"
        raise InvalidRequestError(f"expected exactly one of input, features and inputs, got {told}")
    name, raw = given[0]
    if name == "inputs" and bytes(raw).lstrip(b"[ \t\r\n").startswith(b"{"):
        return form, _v2_tensors(raw)
    return form, decode_features(raw, name)


def _v2_tensors(raw: msgspec.Raw) -> NDArray[Any] | dict[str, NDArray[Any]]:
    if not bytes(raw).startswith(b"["):
        return decode_features(raw, "inputs")
    try:
        tensors = _tensors.decode(raw)
    except (msgspec.DecodeError, RecursionError) as error:
        reason = locate(error) if isinstance(error, msgspec.ValidationError) else error
        raise InvalidRequestError(f"inputs: {reason}") from error
    arrays = {tensor.name: _array(tensor) for tensor in tensors}
    if len(arrays) != len(tensors):
        raise InvalidRequestError("inputs: two tensors have the same name")
    return arrays


def _array(tensor: _Tensor) -> NDArray[Any]:
    place = f"inputs.{tensor.name}"
    if tensor.datatype not in _DTYPES:
        raise InvalidInputError(f"{place}: unknown datatype {tensor.datatype!r}; known are {', '.join(_DTYPES)}")
    values = decode_features(tensor.data, place)
    if isinstance(values, dict):
        raise InvalidRequestError(f"{place}: data must be a list")
    if any(size < 0 for size in tensor.shape) or math.prod(tensor.shape) != values.size:
        raise InvalidInputError(f"{place}: shape {tensor.shape} does not hold {values.size} values")
    dtype = np.dtype(_DTYPES[tensor.datatype])
    if dtype.kind == "f":
        return values.reshape(tensor.shape)
    limits = np.iinfo(dtype)
    if (values != np.trunc(values)).any() or values.min() < limits.min or values.max() > limits.max:
        raise InvalidInputError(f"{place}: not all values are {tensor.datatype}")
    return values.reshape(tensor.shape).astype(dtype)
