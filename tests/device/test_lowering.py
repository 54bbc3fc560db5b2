"""What lowering decides: which kernels, and constants that hold for every input."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tests.components import need

need(package="tflite_micro")
need(package="ai_edge_litert")
need(program="cc")

from tests.device.laboratory import Laboratory, Oracle  # noqa: E402 - after the check that its packages are installed
from tests.device.tflite_writer import ModelBuilder  # noqa: E402
from tierwise.device.lower_dense import pack_pairs  # noqa: E402
from tierwise.device.lowering import lower  # noqa: E402
from tierwise.device.step import Step  # noqa: E402
from tierwise.device.tflite import parse_graph  # noqa: E402

if TYPE_CHECKING:
    from pathlib import Path


def dense(weights: np.ndarray, scales: list[float], out_scale: float = 0.1) -> bytes:
    builder = ModelBuilder()
    count, depth = weights.shape
    x = builder.tensor([1, depth], scale=0.1, zero_point=-7)
    w = builder.tensor(weights.shape, scale=scales, data=weights)
    y = builder.tensor([1, count], scale=out_scale, zero_point=5)
    builder.operator("FULLY_CONNECTED", [x, w], [y], "FullyConnected")
    return builder.finish([x], [y])


def kernel(model: bytes) -> tuple[str, str]:
    (step,) = lower(parse_graph(model, "model"), fast=True)
    assert isinstance(step, Step)
    return step.kernel, step.note


def agrees(model: bytes, tmp_path: Path) -> bool:
    oracle = Oracle(model, 1, 1)
    rng = np.random.default_rng(1)
    samples = [oracle.random_sample(rng) for _ in range(20)]
    return Laboratory(tmp_path).run(model, samples, fast=True) == [oracle.run(sample) for sample in samples]


def test_a_channel_that_never_speaks_does_not_cost_the_fast_kernel(tmp_path: Path) -> None:
    weights = np.random.default_rng(2).integers(-127, 128, (4, 32))
    weights[1] = 0
    model = dense(weights, [0.01, 1e-12, 0.02, 0.003])
    assert kernel(model) == ("tw_conv2d_fast", "")
    assert agrees(model, tmp_path)


def test_scales_of_one_and_more_take_the_portable_kernel(tmp_path: Path) -> None:
    model = dense(np.ones((2, 8), np.int8), [0.5, 3.0])
    assert kernel(model) == ("tw_conv2d", "a channel's scale is 1 or more")
    assert agrees(model, tmp_path)


def test_weights_that_cannot_share_a_halfword_take_the_portable_kernel(tmp_path: Path) -> None:
    weights = np.full((2, 8), -128)
    assert pack_pairs(weights.astype(np.int64)) is None
    model = dense(weights, [0.01, 0.01])
    assert kernel(model)[0] == "tw_conv2d"
    assert agrees(model, tmp_path)


def test_columns_longer_than_a_chunk_are_exact_at_the_extremes(tmp_path: Path) -> None:
    # All products as large as they can be: the sums that two rows share stay within their 24 bits.
    for sign in (1, -1):
        weights = np.full((3, 1400), 127 * sign)
        model = dense(weights, [1e-4, 2e-4, 3e-4], 1.0)
        assert kernel(model)[0] == "tw_conv2d_fast"
        oracle = Oracle(model, 1, 1)
        samples = [bytes([value & 0xFF]) * 1400 for value in (-128, -1, 0, 127)]
        assert Laboratory(tmp_path).run(model, samples, fast=True) == [oracle.run(sample) for sample in samples]


def test_packing_pairs_is_reversible() -> None:
    weights = np.random.default_rng(3).integers(-127, 128, (5, 7)).astype(np.int64)
    packed = pack_pairs(weights)
    assert packed is not None
    assert packed.shape == (3, 8)
    first = ((packed + 128) % 256) - 128
    second = (packed - first) // 256
    assert np.array_equal(np.stack([first, second], 1).reshape(6, 8)[:5, :7], weights)


def test_softmax_over_many_equal_classes_is_zero_everywhere(tmp_path: Path) -> None:
    # The reference stops the program here: its exponent does not fit.
    builder = ModelBuilder()
    x, y = builder.tensor([1, 1000], scale=0.1), builder.tensor([1, 1000], scale=1 / 256, zero_point=-128)
    builder.operator("SOFTMAX", [x], [y], "Softmax", beta=1.0)
    assert Laboratory(tmp_path).run(builder.finish([x], [y]), [bytes(1000)], fast=True) == [b"\x80" * 1000]
