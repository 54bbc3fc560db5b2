"""Throughput of ``POST /predict`` under wrk, against the same model behind FastAPI; rounds alternate."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import statistics
import sys
from pathlib import Path

from benchmarks.example import onnx_file, sample, scratch
from benchmarks.table import Row
from tierwise.live.processes import child_process, free_ports

CONNECTIONS = (16, 64)
SECONDS = 3
ROUNDS = 5
TARGET = 2.5


def measure() -> list[Row]:
    """One row for each number of connections."""
    return asyncio.run(_measure())


async def _measure() -> list[Row]:
    if shutil.which("wrk") is None:
        raise SystemExit("the HTTP benchmark needs wrk: apt-get install wrk")
    model, (port, peer_port) = onnx_file(), free_ports(2)
    ours: list[str | Path] = [
        sys.executable,
        "-m",
        "tierwise",
        "serve",
        "--model",
        model,
        "--mqtt",
        "off",
        "--http",
        f"127.0.0.1:{port}",
    ]
    peer: list[str | Path] = [
        sys.executable,
        "-m",
        "uvicorn",
        "benchmarks.peers.fastapi_app:app",
        "--port",
        str(peer_port),
    ]
    peer += ["--no-access-log", "--loop", "uvloop", "--http", "httptools"]
    with scratch() as folder:
        script = Path(folder) / "predict.lua"
        body = json.dumps({"input": sample()})
        script.write_text(
            f'wrk.method = "POST"\nwrk.body = [[{body}]]\nwrk.headers["Content-Type"] = "application/json"\n',
            encoding="utf-8",
        )
        async with child_process(ours) as service, child_process(peer, env={"MODEL_PATH": str(model)}) as other:
            await service.wait_line("serving", timeout_s=30)
            await other.wait_line("running on", timeout_s=30)
            rows = []
            for connections in CONNECTIONS:
                rounds = [
                    (await _wrk(script, port, connections), await _wrk(script, peer_port, connections))
                    for _ in range(ROUNDS)
                ]
                mine, theirs = (statistics.median(column) for column in zip(*rounds, strict=True))
                rows.append(
                    Row(
                        f"HTTP /predict, {connections} connections",
                        f"{mine:,.0f} requests/s",
                        f"{theirs:,.0f} requests/s FastAPI",
                        statistics.median(a / b for a, b in rounds),
                        ">=",
                        TARGET,
                    )
                )
    return rows


async def _wrk(script: Path, port: int, connections: int) -> float:
    """Requests a second."""
    command: list[str | Path] = [
        "wrk",
        "-t1",
        f"-c{connections}",
        f"-d{SECONDS}s",
        "-s",
        script,
        f"http://127.0.0.1:{port}/predict",
    ]
    async with child_process(command) as load:
        await load.wait()
        output = "\n".join(load.lines)
    if "Non-2xx" in output:
        raise SystemExit(f"the server answered with errors:\n{output}")
    found = re.search(r"Requests/sec:\s+([\d.]+)", output)
    if found is None:
        raise SystemExit(f"wrk told no throughput:\n{output}")
    return float(found[1])
