"""CPU time that a message costs the service process, against a plain paho worker, on the same mosquitto.

A load generator keeps 64 requests in flight. The worker's user and system time is read from ``/proc`` before and
after, so what broker and generator cost does not count. Rounds alternate between the two.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import uvloop

from benchmarks.example import onnx_file, sample
from benchmarks.table import Row
from tierwise.live.broker import private_broker
from tierwise.live.processes import child_process
from tierwise.messaging.connection import MqttConnection
from tierwise.messaging.payloads import encode_request
from tierwise.messaging.settings import MqttConnectionSettings

if TYPE_CHECKING:
    from mqtt5 import PublishPacket

IN_FLIGHT = 64
MESSAGES = 5000
ROUNDS = 5
TARGETS = {0: 0.6, 1: 0.75}


def measure() -> list[Row]:
    """One row for each quality of service."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return [runner.run(_compare(qos)) for qos in (0, 1)]


async def _compare(qos: Literal[0, 1]) -> Row:
    model = onnx_file()
    async with private_broker("mosquitto") as broker, private_broker("mosquitto") as peer_broker:
        ours: list[str | Path] = [sys.executable, "-m", "tierwise", "serve", "--model", model, "--http", "off"]
        ours += ["--mqtt", f"127.0.0.1:{broker.port}", "--log-format", "text"]
        peers: list[str | Path] = [
            sys.executable,
            "-m",
            "benchmarks.peers.paho_worker",
            str(peer_broker.port),
            model,
            str(qos),
        ]
        async with child_process(ours) as service, child_process(peers) as peer:
            await service.wait_line("connected to", timeout_s=30)
            await peer.wait_line("ready", timeout_s=30)
            for pid, port in ((service.pid, broker.port), (peer.pid, peer_broker.port)):
                await _round(pid, port, qos, 500)  # warm
            rounds = [
                (
                    await _round(service.pid, broker.port, qos, MESSAGES),
                    await _round(peer.pid, peer_broker.port, qos, MESSAGES),
                )
                for _ in range(ROUNDS)
            ]
    ours_us, peer_us = (statistics.median(column) for column in zip(*rounds, strict=True))
    return Row(
        f"MQTT QoS {qos}, CPU a message",
        f"{ours_us:.0f} µs",
        f"{peer_us:.0f} µs paho loop_start",
        statistics.median(mine / theirs for mine, theirs in rounds),
        "<=",
        TARGETS[qos],
    )


async def _round(pid: int, port: int, qos: Literal[0, 1], count: int) -> float:
    """CPU microseconds a message of process ``pid``."""
    payload = encode_request("load", 1, sample())
    done = asyncio.Event()
    sent = answered = 0

    def on_message(_: PublishPacket, acknowledge: Any) -> None:
        nonlocal sent, answered
        acknowledge()
        answered += 1
        if answered == count:
            done.set()
        elif sent < count:
            sent += 1
            connection.publish("ml/inference/request", payload, qos=qos)

    connection = MqttConnection(MqttConnectionSettings(host="127.0.0.1", port=port), on_message=on_message)
    async with connection:
        await connection.wait_connected(10)
        await connection.subscribe("ml/inference/result/load", qos=qos)
        before_s = _cpu_s(pid)
        for _ in range(IN_FLIGHT):
            sent += 1
            connection.publish("ml/inference/request", payload, qos=qos)
        async with asyncio.timeout(120):
            await done.wait()
        return (_cpu_s(pid) - before_s) / count * 1e6


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
