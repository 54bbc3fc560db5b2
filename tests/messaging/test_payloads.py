"""The JSON forms of the MQTT contract, from both ends."""

from __future__ import annotations

import json
import math
import re

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tierwise.core.errors import InferenceError, InvalidInputError, InvalidRequestError, RequestError, TransportError
from tierwise.core.messages import Answer
from tierwise.messaging import payloads
from tierwise.messaging.topics import is_device_id

RECEIVED_NS = 5_000_000_000

finite = st.floats(allow_nan=False, allow_infinity=False)
device_ids = st.text(min_size=1, max_size=128).filter(is_device_id)
timestamps = st.integers(-(2**63), 2**63 - 1)
names = st.none() | st.text(min_size=1, max_size=256)


def request(**changes: object) -> bytes:
    fields = {"device_id": "sensor1", "timestamp_us": 1_000_000, "features": [0.1, 0.2], **changes}
    return json.dumps({name: value for name, value in fields.items() if value is not ...}).encode()


def answer(**changes: object) -> Answer:
    fields = {
        "prediction": 0.85,
        "model": "m",
        "model_version": "1",
        "tier": "edge",
        "received_ns": RECEIVED_NS,
        "started_ns": RECEIVED_NS + 1_000_000,
        "finished_ns": RECEIVED_NS + 3_500_000,
        **changes,
    }
    return Answer(**fields)  # type: ignore[arg-type]  # fields by name


@given(
    device_ids,
    timestamps,
    hnp.arrays(np.float64, hnp.array_shapes(max_dims=6, max_side=4), elements=finite),
    st.fixed_dictionaries({"model": names, "model_version": names, "request_id": names}),
    st.none() | st.floats(0.001, 1e9),
)
def test_request_arrives_as_it_was_encoded(
    device_id: str, timestamp_us: int, features: np.ndarray, named: dict[str, str | None], deadline_ms: float | None
) -> None:
    payload = payloads.encode_request(device_id, timestamp_us, features, **named, deadline_ms=deadline_ms)
    decoded = payloads.decode_request(payload, received_ns=RECEIVED_NS)
    assert (decoded.device_id, decoded.timestamp_us) == (device_id, timestamp_us)
    assert isinstance(decoded.request.features, np.ndarray)
    assert decoded.request.features.dtype == np.float64
    np.testing.assert_array_equal(decoded.request.features, features)
    assert {name: getattr(decoded.request, name) for name in named} == named
    assert decoded.request.received_ns == RECEIVED_NS
    expected = None if deadline_ms is None else RECEIVED_NS + int(deadline_ms * 1e6)
    assert decoded.request.deadline_ns == expected


def test_named_inputs_become_named_arrays() -> None:
    payload = request(features={"image": [[1, 2], [3, 4]], "scale": [0.5]})
    features = payloads.decode_request(payload, received_ns=0).request.features
    assert isinstance(features, dict)
    assert features["image"].tolist() == [[1.0, 2.0], [3.0, 4.0]]
    assert features["scale"].tolist() == [0.5]


def test_unknown_fields_are_ignored() -> None:
    assert payloads.decode_request(request(firmware="1.2", more=[None]), received_ns=0).device_id == "sensor1"


@pytest.mark.parametrize(
    ("payload", "field"),
    [
        (request(device_id=...), "device_id"),
        (request(timestamp_us=...), "timestamp_us"),
        (request(features=...), "features"),
        (request(device_id=5), "device_id"),
        (request(device_id=""), "device_id"),
        (request(device_id="a/b"), "device_id"),
        (request(device_id="+"), "device_id"),
        (request(device_id="#"), "device_id"),
        (request(device_id="a\x00"), "device_id"),
        (request(device_id="x" * 129), "device_id"),
        (request(timestamp_us="1"), "timestamp_us"),
        (request(timestamp_us=1.5), "timestamp_us"),
        (request(timestamp_us=True), "timestamp_us"),
        (request(timestamp_us=2**63), "timestamp_us"),
        (request(features="1,2"), "features"),
        (request(features=1.5), "features"),
        (request(features=None), "features"),
        (request(features={"a": 1}), "features.a"),
        (request(deadline_ms=0), "deadline_ms"),
        (request(deadline_ms=-1), "deadline_ms"),
        (request(deadline_ms="1"), "deadline_ms"),
        (request(model=7), "model"),
        (request(model=""), "model"),
        (request(request_id=7), "request_id"),
        (b"", "JSON"),
        (b"\xff\xfe", "JSON"),
        (b"{", "JSON"),
        (b"[1, 2]", "object"),
        (b'{"device_id": "a\xff", "timestamp_us": 1, "features": [1]}', "JSON"),
    ],
)
def test_wrong_field_is_named(payload: bytes, field: str) -> None:
    with pytest.raises(InvalidRequestError, match=field):
        payloads.decode_request(payload, received_ns=0)


@pytest.mark.parametrize(
    ("features", "reason"),
    [
        ([], "empty"),
        ([[], []], "empty"),
        ({}, "names no input"),
        ([1, "2"], "expected numbers"),
        ([1, True], "expected numbers"),
        ([1, None], "expected numbers"),
        ([[1, {}]], "expected numbers"),
        ([[1, 2], [3]], "ragged"),
        ([1, [2]], "ragged"),
        ([[1], 2], "ragged"),
        ([[[[[[[1]]]]]]], "7 levels"),
        ([2**53 + 1], "rounded"),
        ([[1.5], [-(2**60)]], "rounded"),
        ([10**400], "out of range"),
        ([math.nan], "NaN"),
        ([math.inf], "Infinity"),
        ({"a": [1], "b": ["x"]}, r"features\.b"),
    ],
)
def test_features_that_are_no_array_are_refused(features: object, reason: str) -> None:
    with pytest.raises(InvalidInputError, match=reason):
        payloads.decode_request(request(features=features), received_ns=0)


def test_bottomless_nesting_is_refused() -> None:
    deep = b"[" * 200_000 + b"]" * 200_000
    with pytest.raises(RequestError):
        payloads.decode_request(b'{"device_id":"a","timestamp_us":1,"features":' + deep + b"}", received_ns=0)
    with pytest.raises(RequestError):
        payloads.decode_request(deep, received_ns=0)


@pytest.mark.parametrize("value", [2**53, -(2**53), 1e300, -1e300, 5e-324])
def test_numbers_that_float64_carries_are_taken(value: float) -> None:
    features = payloads.decode_request(request(features=[value, 1]), received_ns=0).request.features
    assert isinstance(features, np.ndarray)
    assert features.tolist() == [value, 1]


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode) | st.from_regex(rb'\{"device_id": ?.{0,80}'))
def test_any_bytes_are_a_request_or_a_request_error(payload: bytes) -> None:
    device_id, timestamp_us = payloads.salvage_ids(payload)
    assert device_id is None or is_device_id(device_id)
    assert timestamp_us is None or -(2**63) <= timestamp_us < 2**63
    try:
        payloads.decode_request(payload, received_ns=0)
    except (InvalidRequestError, InvalidInputError):
        return


@pytest.mark.parametrize(
    ("payload", "ids"),
    [
        (b'{"device_id": "s1", "timestamp_us": 12, "features": [', ("s1", 12)),
        (b'{"timestamp_us":-3,"device_id":"\\u00e4"}', ("ä", -3)),
        (b'{"device_id": "a/b", "timestamp_us": 1.5}', (None, None)),
        (b'{"device_id": "+", "timestamp_us": "1"}', (None, None)),
        (b'{"device_id": 5, "timestamp_us": 99999999999999999999}', (None, None)),
        (b"not JSON", (None, None)),
        (b" " * 5000 + b'{"device_id": "late"}', (None, None)),
        (b'"device_id": "' + b"\\" * 10_000, (None, None)),
    ],
)
def test_ids_are_salvaged_from_broken_payloads(payload: bytes, ids: tuple[str | None, int | None]) -> None:
    assert payloads.salvage_ids(payload) == ids


def test_result_has_exactly_the_fields_of_the_contract() -> None:
    payload = payloads.encode_result("sensor1", 1_000_000, answer())
    assert payload == (
        b'{"device_id":"sensor1","timestamp_us":1000000,"prediction":0.85,"inference_time_ms":2.5,'
        b'"model":"m","model_version":"1","tier":"edge"}'
    )


def test_cloud_result_adds_the_latencies() -> None:
    payload = payloads.encode_result(
        "s",
        1,
        answer(
            tier="cloud",
            delay_ns=100_000_000,
            request_id="r",
            label=["a", "b"],
            prediction=[1, 2],
            outputs={"x": [1.0], "y": 2.0},
        ),
    )
    assert json.loads(payload) == {
        "device_id": "s",
        "timestamp_us": 1,
        "prediction": [1, 2],
        "inference_time_ms": 2.5,
        "model": "m",
        "model_version": "1",
        "tier": "cloud",
        "request_id": "r",
        "label": ["a", "b"],
        "outputs": {"x": [1.0], "y": 2.0},
        "cloud_latency_ms": 100.0,
        "total_latency_ms": 103.5,
    }
    result = payloads.decode_result(payload)
    assert result.total_latency_ms == 103.5
    assert result.outputs == {"x": [1.0], "y": 2.0}


@pytest.mark.parametrize(
    "changes", [{"prediction": math.nan}, {"prediction": [[1.0, math.inf]]}, {"outputs": {"x": math.nan}}]
)
def test_prediction_that_is_no_number_is_an_inference_error(changes: dict[str, object]) -> None:
    with pytest.raises(InferenceError, match="NaN or infinity"):
        payloads.encode_result("s", 1, answer(**changes))


def test_label_null_is_not_mistaken_for_a_missing_prediction() -> None:
    assert payloads.decode_result(payloads.encode_result("s", 1, answer(label="null"))).label == "null"


predictions = st.recursive(finite | st.integers(-(2**53), 2**53), lambda inner: st.lists(inner, max_size=4))


@given(device_ids, timestamps, predictions, names)
def test_result_arrives_as_it_was_encoded(
    device_id: str, timestamp_us: int, prediction: object, request_id: str | None
) -> None:
    payload = payloads.encode_result(device_id, timestamp_us, answer(prediction=prediction, request_id=request_id))
    result = payloads.decode_result(payload)
    assert (result.device_id, result.timestamp_us) == (device_id, timestamp_us)
    assert result.prediction == prediction
    assert result.request_id == request_id
    assert result.inference_time_ms == 2.5


def test_error_carries_code_and_message() -> None:
    payload = payloads.encode_error("s", 7, InvalidInputError("wrong shape"), "r1")
    assert json.loads(payload) == {
        "device_id": "s",
        "timestamp_us": 7,
        "error": {"code": "invalid_input", "message": "wrong shape"},
        "request_id": "r1",
    }
    assert payloads.decode_error(payload).error.code == "invalid_input"
    unknown = payloads.decode_error(payloads.encode_error(None, None, InvalidRequestError("x")))
    assert (unknown.device_id, unknown.timestamp_us) == (None, None)


@given(st.binary(max_size=100))
def test_answers_that_are_none_are_transport_errors(payload: bytes) -> None:
    for decode in (payloads.decode_result, payloads.decode_error):
        with pytest.raises(TransportError):
            decode(payload)


@given(hnp.arrays(np.float32, st.integers(1, 50), elements=st.floats(width=32, allow_nan=False)))
def test_raw_features_are_little_endian_float32(features: np.ndarray) -> None:
    properties = [("device_id", "s1"), ("timestamp_us", "42"), ("deadline_ms", "2.5"), ("other", "ignored")]
    decoded = payloads.decode_raw_request(features.astype("<f4").tobytes(), properties, received_ns=RECEIVED_NS)
    assert (decoded.device_id, decoded.timestamp_us) == ("s1", 42)
    assert isinstance(decoded.request.features, np.ndarray)
    assert decoded.request.features.flags.writeable
    np.testing.assert_array_equal(decoded.request.features, features)
    assert decoded.request.deadline_ns == RECEIVED_NS + 2_500_000


@pytest.mark.parametrize(
    ("payload", "properties", "error", "reason"),
    [
        (b"abc", [("device_id", "a"), ("timestamp_us", "1")], InvalidInputError, "3 bytes"),
        (b"", [("device_id", "a"), ("timestamp_us", "1")], InvalidInputError, "0 bytes"),
        (b"abcd", [("timestamp_us", "1")], InvalidRequestError, "device_id"),
        (b"abcd", [("device_id", "a")], InvalidRequestError, "timestamp_us"),
        (b"abcd", [("device_id", "a"), ("timestamp_us", "x")], InvalidRequestError, "timestamp_us"),
        (b"abcd", [("device_id", "a/b"), ("timestamp_us", "1")], InvalidRequestError, "device_id"),
        (b"abcd", [("device_id", "a"), ("timestamp_us", "1"), ("deadline_ms", "-1")], InvalidRequestError, "deadline"),
    ],
)
def test_bad_raw_requests_are_refused(
    payload: bytes, properties: list[tuple[str, str]], error: type[RequestError], reason: str
) -> None:
    with pytest.raises(error, match=reason):
        payloads.decode_raw_request(payload, properties, received_ns=0)


def test_sensor_cannot_take_an_impossible_id() -> None:
    with pytest.raises(InvalidRequestError, match="device_id"):
        payloads.encode_request("a/b", 1, [1.0])


def test_sensors_lists_and_named_arrays_are_encoded() -> None:
    assert msgspec.json.decode(payloads.encode_request("a", 1, [1, 2.5]))["features"] == [1, 2.5]
    named = payloads.encode_request("a", 1, {"x": np.ones((1, 2), np.float32)})
    assert msgspec.json.decode(named)["features"] == {"x": [[1.0, 1.0]]}


@pytest.mark.parametrize(
    ("payload", "said"),
    [
        (b'{"device_id": "d", "timestamp_us": 0, "features": [1, NaN]}', "features: NaN; inputs must be finite"),
        (b'{"features": {"a": [1], "b": [2, -Infinity]}, "device_id": "d"}', "b: -Infinity; inputs must be finite"),
        (b'{"features": [' + b"1, " * 5000 + b"Infinity]}", "features: Infinity;"),
    ],
)
def test_what_json_cannot_say_is_told_with_its_field(payload: bytes, said: str) -> None:
    with pytest.raises(InvalidInputError, match=re.escape(said)):
        payloads.decode_request(payload, received_ns=0)
