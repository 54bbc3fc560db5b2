"""A client's numbers become a batch that fits the model's signature, or one clear ``InvalidInputError``."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from tierwise.core.errors import InvalidInputError
from tierwise.runtimes.failures import form
from tierwise.runtimes.quantization import is_quantized

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from tierwise.core.tensors import Signature, TensorSpec

    Features = NDArray[Any] | Mapping[str, NDArray[Any]]

_SHOWN_NAMES = 8
_FLOAT32_MAX = float(np.finfo(np.float32).max)


class InputAdapter:
    """Turns features into the batch that ``Runtime.run`` takes. Made once a model, called once a request.

    Features are one sample (flat, or in the model's shape, dimensions of 1 may be left out), a batch of either, or a
    mapping from each input's name to such an array. Dimensions that the signature leaves free must all be given.

    A call returns the batch by input name (C-contiguous, declared dtype, batch dimension first; memory of the caller
    where nothing had to change) and whether the features were a batch. Floats are rounded to the declared float dtype
    and integers become floats; a float for an integer input must be a whole number in range. A quantised input takes
    integers of its own dtype as they are and everything else as real numbers, float32.

    Raises ``InvalidInputError`` for other dtypes (bool, text, objects, complex), shapes that do not fit, an empty
    batch, NaN, infinity and values beyond the declared dtype, naming the input and the first bad index.
    """

    __slots__ = ("_by_name", "_single", "_single_name")

    def __init__(self, signature: Signature) -> None:
        self._by_name = {spec.name: _Input(spec) for spec in signature.inputs}
        self._single: _Input | None = None
        self._single_name = ""
        if len(signature.inputs) == 1:
            self._single_name, self._single = next(iter(self._by_name.items()))

    def __call__(self, features: Features) -> tuple[dict[str, NDArray[Any]], bool]:
        if isinstance(features, np.ndarray):
            if self._single is None:
                raise InvalidInputError(f"the model has several inputs: give one array for each of {self._names()}")
            values, is_batch = self._single.take(features)
            return {self._single_name: values}, is_batch
        return self._take_mapping(features)

    def _take_mapping(self, features: Mapping[str, NDArray[Any]]) -> tuple[dict[str, NDArray[Any]], bool]:
        if not isinstance(features, Mapping):
            raise InvalidInputError(
                f"features must be an array or one array a named input, got {type(features).__name__}"
            )
        if features.keys() != self._by_name.keys():
            given = ", ".join(map(str, list(features)[:_SHOWN_NAMES])) or "none"
            raise InvalidInputError(f"expected the inputs {self._names()}, got {given}")
        taken = {name: taker.take(features[name]) for name, taker in self._by_name.items()}
        forms = {(is_batch, len(values) if is_batch else 1) for values, is_batch in taken.values()}
        if len(forms) > 1:
            told = ", ".join(
                f"{name}: {f'a batch of {len(values)}' if is_batch else 'one sample'}"
                for name, (values, is_batch) in taken.items()
            )
            raise InvalidInputError(f"the inputs must all be one sample or batches of one size, got {told}")
        return {name: values for name, (values, _) in taken.items()}, any(is_batch for is_batch, _ in forms)

    def _names(self) -> str:
        return ", ".join(self._by_name)


def to_inputs(features: Features, signature: Signature) -> tuple[dict[str, NDArray[Any]], bool]:
    """``InputAdapter(signature)(features)``; hot paths keep the adapter instead."""
    return _adapter(signature)(features)


@lru_cache(maxsize=64)
def _adapter(signature: Signature) -> InputAdapter:
    return InputAdapter(signature)


class _Input:
    """Shape and dtype rules of one input, worked out once."""

    __slots__ = ("_batch_size", "_convert", "_dtype", "_rank", "_samples", "_spec", "_variants")

    def __init__(self, spec: TensorSpec) -> None:
        self._spec = spec
        self._batch_size = spec.shape[0] if spec.shape else None
        self._dtype = np.dtype(np.float32 if is_quantized(spec) else spec.dtype)
        self._convert = _converter(spec, self._dtype)
        self._rank: int | None = None
        self._variants: frozenset[tuple[int | None, ...]] = frozenset()
        if spec.sample_size is None:
            self._rank = len(spec.sample_shape)
        else:
            self._variants = _sample_forms(spec.sample_shape, spec.sample_size)
        # Where the artifact's batch is fixed, only a batch of one can hold one sample.
        takes_sample = self._batch_size in {None, 1}
        target = (1, *spec.sample_shape) if spec.shape else ()
        self._samples: dict[tuple[int | None, ...], Any] = dict.fromkeys(self._variants if takes_sample else (), target)

    def take(self, features: NDArray[Any]) -> tuple[NDArray[Any], bool]:
        """The features as a batch, and whether they were one."""
        if not isinstance(features, np.ndarray):
            raise InvalidInputError(f"{self._spec.name}: expected an array, got {type(features).__name__}")
        target = self._samples.get(features.shape)
        if target is not None:
            return self._convert(features).reshape(target), False
        target, is_batch = self._fit(features.shape)
        return self._convert(features).reshape(target), is_batch

    def _fit(self, shape: tuple[int, ...]) -> tuple[tuple[int, ...], bool]:
        """The shape with the batch dimension first for features that are not simply one sample."""
        if self._rank is not None:
            if len(shape) == self._rank and self._batch_size in {None, 1} and self._matches(shape):
                return (1, *shape), False
            if len(shape) == self._rank + 1 and self._matches(shape[1:]):
                return (self._checked_batch(shape), *shape[1:]), True
        elif shape and self._spec.shape and shape[1:] in self._variants:
            sizes = tuple(size for size in self._spec.sample_shape if size is not None)
            return (self._checked_batch(shape), *sizes), True
        given = f"{shape[0]}" if len(shape) == 1 else f"shape {list(shape)}"
        raise InvalidInputError(f"{self._spec.name}: expected {self._expected()}, got {given}")

    def _matches(self, sample_shape: tuple[int, ...]) -> bool:
        declared = self._spec.sample_shape
        return all(size > 0 and want in {None, size} for want, size in zip(declared, sample_shape, strict=True))

    def _checked_batch(self, shape: tuple[int, ...]) -> int:
        if shape[0] == 0:
            raise InvalidInputError(f"{self._spec.name}: the batch is empty")
        # A fixed batch of one is executed sample by sample, so it takes any number of them.
        if self._batch_size not in {None, 1, shape[0]}:
            message = f"the model takes batches of exactly {self._batch_size} samples, got {shape[0]}"
            raise InvalidInputError(f"{self._spec.name}: {message}")
        return shape[0]

    def _expected(self) -> str:
        size = self._spec.sample_size
        declared = form(self._spec)
        what = f"samples of shape {declared}" if size is None else f"{size} values a sample ({declared})"
        return what if self._batch_size in {None, 1} else f"a batch of {self._batch_size}, {what}"


def _sample_forms(shape: tuple[int | None, ...], size: int) -> frozenset[tuple[int | None, ...]]:
    """All shapes in which one sample may come: flat, the model's, and the model's without some dimensions of 1."""
    ones = [axis for axis, length in enumerate(shape) if length == 1]
    forms = {
        tuple(length for axis, length in enumerate(shape) if axis not in dropped)
        for count in range(len(ones) + 1)
        for dropped in combinations(ones, count)
    }
    return frozenset(forms | {(size,)} if shape else forms)


def _converter(spec: TensorSpec, target: np.dtype[Any]) -> Callable[[NDArray[Any]], NDArray[Any]]:
    """A function that gives the features' values in the target dtype, flat and contiguous, or raises."""
    own_dtype = np.dtype(spec.dtype)
    quantized = is_quantized(spec)
    to_kind = _to_float if target.kind == "f" else _to_integer
    usual = (target, np.dtype(np.float64)) if target.kind == "f" else ()
    vdot = np.vdot
    # Accumulated in float32 at the least, so the limit is one of float32 also where the target is wider.
    unquestionable = min(float(np.finfo(target).max), _FLOAT32_MAX) if usual else 0.0

    def convert(features: NDArray[Any]) -> NDArray[Any]:
        dtype = features.dtype
        if dtype in usual:
            flat = features if features.ndim == 1 else features.ravel()
            # One product shows that every value is finite and fits the target; only else is a closer look needed.
            # vdot and not dot, which warns when the sum overflows.
            if vdot(flat, flat) < unquestionable:
                return flat.astype(target, copy=False, order="C")
            return _to_float(spec.name, features, target)
        if quantized and dtype == own_dtype:
            return features.ravel()
        if dtype.kind not in "iuf" and not dtype == own_dtype == np.bool_:
            raise InvalidInputError(f"{spec.name}: expected numbers ({spec.dtype}), got {_kind(dtype)}")
        return to_kind(spec.name, features, target)

    return convert


# A value too large becomes infinite here and is then reported as one; numpy need not warn about it.
@np.errstate(over="ignore")
def _to_float(name: str, features: NDArray[Any], target: np.dtype[Any]) -> NDArray[Any]:
    flat = features.ravel().astype(target)
    if np.isfinite(flat).tobytes().find(0) >= 0:
        raise _not_finite(name, features, target)
    return flat


def _to_integer(name: str, features: NDArray[Any], target: np.dtype[Any]) -> NDArray[Any]:
    flat = features.ravel()
    if flat.dtype == target:
        return flat
    if flat.dtype.kind == "f":
        if not np.isfinite(flat).all():
            raise _not_finite(name, features, target)
        fractional = np.trunc(flat) != flat
        if fractional.any():
            raise InvalidInputError(
                f"{_first(name, features, fractional)}, but the model takes whole numbers ({target})"
            )
        flat = flat.astype(np.result_type(flat, np.float64))  # a narrower float does not hold the limits
    low, high = (0, 1) if target == np.bool_ else (int(np.iinfo(target).min), int(np.iinfo(target).max))
    # Compared as floats where they are floats: high + 1 is a power of two and so exact, high itself may not be.
    outside = (flat < low) | (flat >= high + 1.0 if flat.dtype.kind == "f" else flat > high)
    if outside.any():
        raise InvalidInputError(f"{_first(name, features, outside)}, out of range for {target} ({low} to {high})")
    return flat.astype(target)


def _not_finite(name: str, features: NDArray[Any], target: np.dtype[Any]) -> InvalidInputError:
    bad = ~np.isfinite(features)
    if bad.any():
        return InvalidInputError(f"{_first(name, features, bad)}; inputs must be finite numbers")
    with np.errstate(over="ignore"):
        bad = ~np.isfinite(features.astype(target))
    return InvalidInputError(f"{_first(name, features, bad)}, too large for {target}")


def _first(name: str, features: NDArray[Any], bad: NDArray[np.bool_]) -> str:
    """``features[2, 5] is nan``: the first value that is bad, where the client will find it."""
    index = np.unravel_index(int(bad.reshape(features.shape).argmax()), features.shape)
    place = f"[{', '.join(str(int(position)) for position in index)}]" if index else ""
    return f"{name}{place} is {features[index]}"


def _kind(dtype: np.dtype[Any]) -> str:
    return {"b": "bool", "c": "complex numbers", "S": "bytes", "U": "text", "O": "objects"}.get(dtype.kind, str(dtype))
