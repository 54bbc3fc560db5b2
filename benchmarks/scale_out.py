"""Answers a second of one and of two replicas of a share group, with a model that takes far longer than its message.

Every round also checks that each request was answered once. A second replica needs a second core.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import onnx
import uvloop
from onnx import helper, numpy_helper

from benchmarks.table import Row
from tierwise.live.broker import private_broker
from tierwise.live.processes import child_process
from tierwise.messaging.connection import MqttConnection
from tierwise.messaging.payloads import encode_request
from tierwise.messaging.settings import MqttConnectionSettings

if TYPE_CHECKING:
    from mqtt5 import PublishPacket

REQUESTS = 200
IN_FLIGHT = 32
ROUNDS = 3
WIDTH = 256
LAYERS = 600
"""Dense layers: milliseconds an inference, against some 0.1 ms for the message around it."""
TARGET = 1.2
"""Two cores of a quiet machine give nearly 2; broker, load generator and neighbours take their part of the second."""


def measure() -> list[Row]:
    """One row: two replicas against one, the best of the rounds of each."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return [runner.run(_compare())]


async def _compare() -> Row:
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "heavy.onnx"
        write_heavy_model(model)
        async with private_broker("mosquitto") as broker, contextlib.AsyncExitStack() as replicas:
            best: list[float] = []
            for _ in range(2):
                command: list[str | Path] = [sys.executable, "-m", "tierwise", "serve", "--model", model]
                command += ["--mqtt", f"127.0.0.1:{broker.port}", "--http", "off", "--share-group", "bench"]
                child = await replicas.enter_async_context(child_process([*command, "--log-format", "text"]))
                await child.wait_line("connected to", timeout_s=60)
                best.append(max([await _answers_per_s(broker.port) for _ in range(ROUNDS)]))
    one, two = best
    return Row("two replicas, answers a second", f"{two:.0f}", f"{one:.0f} one replica", two / one, ">=", TARGET)


async def _answers_per_s(port: int) -> float:
    """Keeps the replicas busy until all is answered. Raises ``AssertionError`` for a lost, double or wrong answer."""
    numbers = iter(range(REQUESTS))
    answers: Counter[str] = Counter()
    done = asyncio.Event()

    def ask() -> None:
        number = next(numbers, None)
        if number is not None:
            payload = encode_request("load", 1, np.full(WIDTH, 0.5, np.float32), request_id=str(number))
            connection.publish("ml/inference/request", payload, qos=1)

    def on_message(packet: PublishPacket, acknowledge: Any) -> None:
        acknowledge()
        answer = msgspec.json.decode(packet.payload)
        assert "prediction" in answer, answer
        answers[answer["request_id"]] += 1
        ask()
        if len(answers) == REQUESTS:
            done.set()

    connection = MqttConnection(MqttConnectionSettings(host="127.0.0.1", port=port), on_message=on_message)
    async with connection:
        await connection.wait_connected(10)
        await connection.subscribe("ml/inference/result/load", "ml/inference/error/load", qos=1)
        started = time.perf_counter()
        for _ in range(IN_FLIGHT):
            ask()
        async with asyncio.timeout(120):
            await done.wait()
        took_s = time.perf_counter() - started
    assert set(answers.values()) == {1}, "an answer came twice"
    return REQUESTS / took_s


def write_heavy_model(path: Path) -> None:
    """A chain of dense layers in ONNX, the mean of the last as the prediction.

    All share one matrix, which a core's own cache holds: replicas shall not meet at the memory.
    """
    weights, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(WIDTH, WIDTH)))  # keeps a vector's length
    names = ["features", *(f"layer{number}" for number in range(LAYERS))]
    nodes = [helper.make_node("MatMul", [names[number], "weights"], [names[number + 1]]) for number in range(LAYERS)]
    nodes.append(helper.make_node("ReduceMean", [names[-1]], ["score"], axes=[1], keepdims=1))
    graph = helper.make_graph(
        nodes,
        "heavy",
        [helper.make_tensor_value_info("features", onnx.TensorProto.FLOAT, ["batch", WIDTH])],
        [helper.make_tensor_value_info("score", onnx.TensorProto.FLOAT, ["batch", 1])],
        [numpy_helper.from_array(weights.astype(np.float32), "weights")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path)
