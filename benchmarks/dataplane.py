"""The data plane without a transport, against the bare ``InferenceSession.run`` that it contains.

Both are timed in short alternating bursts of CPU time, so that a neighbour on the machine meets both alike; the ratio
is the median over the bursts.
"""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime

from benchmarks.example import model_folder, onnx_file, sample
from benchmarks.table import Row
from tierwise.core.clocks import monotonic_ns
from tierwise.core.messages import Answer, Request
from tierwise.messaging.payloads import decode_request, encode_request, encode_result
from tierwise.runtimes.onnx import session_options
from tierwise.serving.dataplane import DataPlane
from tierwise.serving.metrics import Meter
from tierwise.serving.model import load_model
from tierwise.serving.settings import ModelSettings

if TYPE_CHECKING:
    from collections.abc import Callable

BURSTS = 300
CALLS = 200


def measure() -> list[Row]:
    """Decoded request to encoded answer, which is the data plane, and the decoding of the request's JSON on top."""
    session = onnxruntime.InferenceSession(str(onnx_file()), session_options(1), providers=["CPUExecutionProvider"])
    batch = np.array([sample()], np.float32)
    model = load_model(ModelSettings(path=model_folder()), tier="edge")
    plane = DataPlane(model, tier="edge", queue_size=1, inline=True)
    meter = Meter((model.name, model.version, "edge", "bench"), lambda _: None)
    features = np.array(sample())
    payload = encode_request("sensor1", 1_000_000, features)
    answers: list[Any] = []

    def bare() -> None:
        session.run(["probability"], {"features": batch})

    def decoded() -> None:
        plane.submit(Request(features, monotonic_ns()), meter, answers.append)
        encode_result("sensor1", 1_000_000, answers.pop())

    def whole() -> None:
        device = decode_request(payload, received_ns=monotonic_ns())
        plane.submit(device.request, meter, answers.append)
        encode_result(device.device_id, device.timestamp_us, answers.pop())

    decoded()
    plane.submit(Request(features, monotonic_ns()), meter, answers.append)
    if not isinstance(answers.pop(), Answer):
        raise TypeError("the data plane did not answer")
    times = [[_cpu_us(call) for call in (bare, decoded, whole)] for _ in range(BURSTS)]
    bare_us, decoded_us, whole_us = (statistics.median(column) for column in zip(*times, strict=True))
    return [
        Row(
            "data plane, decoded request → encoded answer",
            f"{decoded_us:.1f} µs",
            f"{bare_us:.1f} µs InferenceSession.run",
            statistics.median(row[1] / row[0] for row in times),
            "<=",
            3.0,
        ),
        Row(
            "the same with the request's JSON decoded",
            f"{whole_us:.1f} µs",
            f"{bare_us:.1f} µs InferenceSession.run",
            statistics.median(row[2] / row[0] for row in times),
            "<=",
            4.5,
        ),
    ]


def _cpu_us(call: Callable[[], None]) -> float:
    started_ns = time.thread_time_ns()
    for _ in range(CALLS):
        call()
    return (time.thread_time_ns() - started_ns) / CALLS / 1e3
