"""Traces that look like those of a live run, from a seed."""

from __future__ import annotations

import math

import msgspec
import numpy as np

from tierwise.core.trace import TraceRow


def live_trace(
    *,
    requests: int = 200,
    seed: int = 1,
    classes: tuple[str, ...] = ("normal", "anomaly"),
    lost: int = 0,
    model: str = "anomaly-detector",
    device_id: str = "sensor1",
) -> list[TraceRow]:
    """An edge tier and a cloud tier with a configured delay of 100 ms; the last ``lost`` edge requests time out."""
    random = np.random.default_rng(seed)
    rows = []
    for number in range(requests):
        truth = classes[number % len(classes)]
        label = truth if random.random() > 0.03 else classes[(number + 1) % len(classes)]
        for tier, inference, messaging, delay in (("edge", 12.0, 400.0, 0), ("cloud", 60.0, 700.0, 100_000)):
            created = 1_000_000 + number * 20_000
            inference_us = float(inference * random.lognormal(0, 0.2))
            way = int(messaging * random.lognormal(0, 0.4)) // 2 + delay // 2
            queue = int(random.integers(15, 60))
            arrived = created + 8 + way
            failed = tier == "edge" and number >= requests - lost
            finished = arrived + queue + int(inference_us)
            rows.append(
                TraceRow(
                    request_id=f"sample-{number:04d}",
                    device_id=device_id,
                    model=model,
                    tier=tier,
                    created_us=created,
                    sent_us=created + 8,
                    arrived_us=None if failed else arrived,
                    started_us=None if failed else arrived + queue,
                    finished_us=None if failed else finished,
                    answered_us=None if failed else finished + way,
                    bytes_up=700,
                    bytes_down=0 if failed else 190,
                    prediction=None if failed else "0.5",
                    label=None if failed else label,
                    truth=truth,
                    inference_us=None if failed else inference_us,
                    configured_delay_us=delay or None,
                    outcome="timeout" if failed else "answered",
                )
            )
    return rows


def device_trace(*, requests: int = 200, counted: bool = True, inference_us: float = 15.365) -> list[TraceRow]:
    """The same samples on the sensor's own board: times and energy modelled, nothing sent."""
    rows = [row for row in live_trace(requests=requests) if row.tier == "edge"]
    return [
        msgspec.structs.replace(
            row,
            tier="device",
            sent_us=None,
            arrived_us=row.created_us if counted else None,
            started_us=row.created_us if counted else None,
            finished_us=row.created_us + math.ceil(inference_us) if counted else None,
            answered_us=row.created_us + math.ceil(inference_us) if counted else None,
            bytes_up=0,
            bytes_down=0,
            energy_device_j=inference_us * 41.6e-9 if counted else None,
            inference_us=inference_us if counted else None,
        )
        for row in rows
    ]
