"""A service that hangs: probes see it, it ends itself where it can, and a restart policy brings it back."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.integration.clients import get
from tests.looping import FOR_EVER, SHORTLY, looping_model
from tests.services import TIERWISE
from tests.waiting import until

from tierwise.live.processes import Child, child_process, free_port

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.integration.engine import Engine

HEALTHCHECK = Path(__file__).parents[2] / "docker" / "healthcheck.py"


async def ask_for_ever(port: int) -> asyncio.StreamWriter:
    """Has the model compute for ever: the caller closes the connection."""
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    body = json.dumps(FOR_EVER).encode()
    writer.write(b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))
    await writer.drain()
    return writer


def healthy(port: int) -> bool:
    """What the image's health check says."""
    env = {**os.environ, "TIERWISE_HTTP": f"127.0.0.1:{port}"}
    command = [sys.executable, "-I", "-S", str(HEALTHCHECK)]
    return subprocess.run(command, env=env, capture_output=True, check=False).returncode == 0


def alive(port: int) -> bool:
    """What a liveness probe sees (``get`` waits longer than one does)."""
    return get(port, "/health/live")[0] == 200


async def stop(_: int, child: Child) -> None:
    os.kill(child.pid, signal.SIGSTOP)


async def block(port: int, _: Child) -> None:
    (await ask_for_ever(port)).close()


@pytest.mark.parametrize("hang", [stop, block])
async def test_probes_see_it(hang: Callable[[int, Child], Awaitable[None]], tmp_path: Path) -> None:
    port = free_port()
    model = looping_model(tmp_path / "loop.onnx")
    options = ("--mqtt", "off", "--http", f"127.0.0.1:{port}", "--hang-s", "0")
    async with child_process([*TIERWISE, "serve", "--model", model, *options]) as child:
        await child.wait_line("serving", timeout_s=60)
        assert healthy(port)
        assert alive(port)
        await hang(port, child)
        await until(lambda: not healthy(port))
        assert not alive(port)
        child.kill()
        await child.wait()


async def test_a_blocked_event_loop_ends_the_service_with_code_1_and_says_where(tmp_path: Path) -> None:
    port = free_port()
    model = looping_model(tmp_path / "loop.onnx")
    options = ("--mqtt", "off", "--http", f"127.0.0.1:{port}", "--hang-s", "1")
    async with child_process([*TIERWISE, "serve", "--model", model, *options]) as child:
        await child.wait_line("serving", timeout_s=60)
        writer = await ask_for_ever(port)
        async with asyncio.timeout(60):
            assert await child.wait() == 1
        writer.close()
        told = json.loads(await child.wait_line("the event loop hangs"))
    assert "run_with_iobinding" in told["where"] or "runtimes/onnx.py" in told["where"]


async def test_a_process_that_was_stopped_for_longer_goes_on(tmp_path: Path) -> None:
    """As a paused container or a machine that slept: nothing hangs there."""
    port, hang_s = free_port(), 1.0
    model = looping_model(tmp_path / "loop.onnx")
    options = ("--mqtt", "off", "--http", f"127.0.0.1:{port}", "--hang-s", str(hang_s))
    async with child_process([*TIERWISE, "serve", "--model", model, *options]) as child:
        await child.wait_line("serving", timeout_s=60)
        os.kill(child.pid, signal.SIGSTOP)
        stopped_at = time.monotonic()
        await until(lambda: time.monotonic() > stopped_at + 2 * hang_s)
        os.kill(child.pid, signal.SIGCONT)
        assert get(port, "/predict", body=SHORTLY)[0] == 200
        resumed_at = time.monotonic()
        await until(lambda: time.monotonic() > resumed_at + hang_s / 2)
        assert get(port, "/predict", body=SHORTLY)[0] == 200
        assert child.exit_code is None


async def test_a_restart_policy_brings_it_back(engine: Engine, edge_image: str, tmp_path: Path) -> None:
    """Started as in the compose file. First its event loop is blocked, then the process is stopped."""
    port = free_port()
    looping_model(tmp_path / "loop.onnx")
    for path in (tmp_path, tmp_path / "loop.onnx"):
        path.chmod(0o755)
    settings = {
        "MODEL_PATH": "/app/models/loop.onnx",
        "TIERWISE_MQTT": "off",
        "TIERWISE_HTTP": f"127.0.0.1:{port}",
        "TIERWISE_HANG_S": "3",
    }
    options = [
        "--init", "--restart", "unless-stopped", "--read-only", "--cap-drop", "ALL",
        "--security-opt", "no-new-privileges", "--health-interval", "1s", "--volume", f"{tmp_path}:/app/models:ro",
        *(part for name, value in settings.items() for part in ("--env", f"{name}={value}")),
    ]  # fmt: skip
    service = (
        "import os; print(next(n for n in os.listdir('/proc') if n.isdecimal()"
        " and open(f'/proc/{n}/stat').read().rpartition(')')[2].split()[1] == '1'))"
    )
    with engine.container(edge_image, *options) as container:
        await until(lambda: get(port, "/health")[0] == 200, timeout_s=60)
        writer = await ask_for_ever(port)
        await until(lambda: container.inspect()["RestartCount"] >= 1, timeout_s=60)
        writer.close()
        await until(lambda: get(port, "/predict", body=SHORTLY)[0] == 200, timeout_s=60)
        assert "the event loop hangs" in container.logs()
        pid = container.execute("python3", "-I", "-S", "-c", service).strip()
        container.execute("python3", "-I", "-S", "-c", f"import os; os.kill({pid}, {int(signal.SIGSTOP)})")
        await until(lambda: container.inspect()["RestartCount"] >= 2, timeout_s=60)
        await until(lambda: container.state()["Health"]["Status"] == "healthy", timeout_s=60)
        assert get(port, "/predict", body=SHORTLY)[0] == 200
