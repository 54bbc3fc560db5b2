"""Numbers out of JSON: one array flat or nested, or one for each named input."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from tierwise.core.errors import InvalidInputError, InvalidRequestError

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_DEPTH = 6
"""Levels of nested lists: a batch of samples of up to five dimensions."""

_EXACT_INTEGERS = 2**53
"""Beyond it neighbouring integers share one float64, so an integer would change silently."""

_flat = msgspec.json.Decoder(list[float])
_nested: tuple[msgspec.json.Decoder[Any], ...] = (
    _flat,
    msgspec.json.Decoder(list[list[float]]),
    msgspec.json.Decoder(list[list[list[float]]]),
    msgspec.json.Decoder(list[list[list[list[float]]]]),
    msgspec.json.Decoder(list[list[list[list[list[float]]]]]),
    msgspec.json.Decoder(list[list[list[list[list[list[float]]]]]]),
)
_named = msgspec.json.Decoder(dict[str, msgspec.Raw])
_opening = re.compile(rb"[\s\[]*")
_located = re.compile(r"(?P<what>.*) - at `\$\.?(?P<where>.*)`", re.DOTALL)


def decode_features(raw: msgspec.Raw, field: str = "features") -> NDArray[np.float64] | dict[str, NDArray[np.float64]]:
    """Array (float64, in the shape of the lists) of the JSON value ``raw``, or a dict of such for an object.

    Raises ``InvalidRequestError`` where ``raw`` is no list and no object of lists, and ``InvalidInputError`` where a
    list holds anything but numbers, is empty, ragged, nested deeper than ``MAX_DEPTH`` or holds an integer that
    float64 cannot carry. ``field`` names the value in the message.
    """
    try:
        values = _flat.decode(raw)
    except msgspec.DecodeError:
        return _decode_any(bytes(raw), field)
    array = flat_features(values)
    if array is None:
        array = np.array(values, np.float64)
        _check(array, raw, field)
    return array


def flat_features(values: list[float]) -> NDArray[np.float64] | None:
    """Array of numbers that were decoded from JSON; ``None`` where their text must be looked at, or there are none."""
    # Looking at Python's numbers takes a fraction of the time that a pass over the array would.
    if not values or min(values) <= -_EXACT_INTEGERS or max(values) >= _EXACT_INTEGERS:
        return None
    return np.array(values, np.float64)


def locate(error: msgspec.ValidationError) -> str:
    """Message of a validation error with the place first: ``timestamp_us: Expected `int`, got `str```."""
    match = _located.fullmatch(str(error))
    return f"{match['where']}: {match['what']}" if match else str(error)


def _decode_any(text: bytes, field: str) -> NDArray[np.float64] | dict[str, NDArray[np.float64]]:
    text = text.strip()
    if not text.startswith(b"{"):
        return _decode_nested(text, field)
    try:
        members = _named.decode(text)
    except msgspec.DecodeError as error:
        raise InvalidRequestError(f"{field}: {error}") from error
    if not members:
        raise InvalidInputError(f"{field}: the object names no input")
    return {name: _decode_nested(bytes(member).strip(), f"{field}.{name}") for name, member in members.items()}


def _decode_nested(text: bytes, field: str) -> NDArray[np.float64]:
    if not text.startswith(b"["):
        raise InvalidRequestError(f"{field}: expected a list of numbers, or an object with one for each named input")
    opening = _opening.match(text)
    depth = opening.group().count(b"[") if opening else 0
    if depth > MAX_DEPTH:
        raise InvalidInputError(f"{field}: nested {depth} levels deep, at most {MAX_DEPTH} are accepted")
    try:
        values = _nested[depth - 1].decode(text)
    except msgspec.ValidationError as error:
        raise InvalidInputError(f"{field}: {_explain(error)}") from error
    except (msgspec.DecodeError, RecursionError) as error:
        raise InvalidRequestError(f"{field}: {error}") from error
    return _to_array(values, text, field)


def _explain(error: msgspec.ValidationError) -> str:
    match = _located.fullmatch(str(error))
    if match is None:
        return str(error)
    if "array" in match["what"]:
        return f"ragged, the lists of one level differ in depth (at {match['where']})"
    return f"expected numbers: {match['what']} at {match['where']}"


def _to_array(values: list[Any], raw: bytes, field: str) -> NDArray[np.float64]:
    try:
        array = np.array(values, np.float64)
    except ValueError as error:
        raise InvalidInputError(f"{field}: ragged, the lists of one level differ in length") from error
    _check(array, raw, field)
    return array


def _check(array: NDArray[np.float64], raw: msgspec.Raw | bytes, field: str) -> None:
    if array.size == 0:
        raise InvalidInputError(f"{field}: empty")
    if np.abs(array).max() >= _EXACT_INTEGERS:
        _refuse_large_integers(msgspec.json.decode(raw), field)


def _refuse_large_integers(value: Any, field: str) -> None:  # noqa: ANN401  (any JSON)
    if isinstance(value, list):
        for item in value:
            _refuse_large_integers(item, field)
    elif isinstance(value, int) and abs(value) > _EXACT_INTEGERS:
        raise InvalidInputError(f"{field}: the integer {value} is beyond 2**53 and would be rounded")
