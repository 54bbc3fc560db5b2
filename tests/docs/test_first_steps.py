"""README's first blocks of commands, pasted as a whole into a shell, with a real service, curl and mosquitto.

What they would install is installed; of the addresses only the ports are others, so that tests do not meet there.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import sys
from typing import TYPE_CHECKING

import pytest
from docs.generate import FOLDER
from tests.components import need
from tests.runtimes.tiny import onnx_sum

from tierwise.live.processes import child_process, free_port

if TYPE_CHECKING:
    from pathlib import Path

    from tierwise.live.broker import PrivateBroker

README = (FOLDER.parent / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
PATIENCE_S = 180
"""curl tries again for a minute; the machine may be busy."""


def blocks(text: str) -> list[str]:
    """The blocks of commands with ``text`` in them, in README's order."""
    return [block for block in BLOCKS if text in block]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder with ``my-model.onnx`` and an environment in ``.venv`` that has ``tierwise``."""
    need(package="onnx")
    need(package="onnxruntime")
    onnx_sum(tmp_path / "my-model.onnx")
    programs = tmp_path / ".venv" / "bin"
    programs.mkdir(parents=True)
    (programs / "activate").write_text(f'PATH="{programs}:$PATH"\n')
    (programs / "tierwise").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m tierwise "$@"\n')
    (programs / "tierwise").chmod(0o755)
    return tmp_path


async def pasted(script: str, folder: Path, *, patience_s: float = PATIENCE_S, **env: str) -> list[str]:
    """What bash says to it, when it has ended well."""
    said: list[str] = []
    async with child_process(["bash", "-c", script], cwd=folder, env=env, on_line=said.append) as shell:
        async with asyncio.timeout(patience_s):
            code = await shell.wait()
    assert code == 0, said
    return said


def answer(said: list[str]) -> dict[str, object]:
    """The one line with a prediction."""
    [line] = [line for line in said if '"prediction"' in line]
    found: dict[str, object]
    found, _ = json.JSONDecoder().raw_decode(line)  # curl ends it with no line break
    return found


async def test_a_model_answers_over_http(checkout: Path) -> None:
    need(program="curl")
    [block] = blocks("curl")
    install, serve = block[: block.index("tierwise serve")], block[block.index("tierwise serve") :]
    assert [line.split()[0] for line in install.splitlines()] == ["git", "python3"]
    assert "`kill $!` ends it" in README
    port = free_port()
    script = f". .venv/bin/activate\n{serve.replace('localhost:8080', f'127.0.0.1:{port}')}\nkill $!\nwait $!"
    said = await pasted(script, checkout, TIERWISE_HTTP=f"127.0.0.1:{port}")
    assert answer(said)["model"] == "my-model"


async def test_a_model_answers_over_mqtt(checkout: Path, broker: PrivateBroker) -> None:
    need(program="mosquitto_pub")
    (serve,) = blocks("--mqtt localhost:1883")
    (ask,) = blocks("mosquitto_pub")
    serve = serve.replace("localhost:1883", f"{broker.host}:{broker.port}")
    for program in ("mosquitto_pub", "mosquitto_sub"):  # their defaults, as XDG_CONFIG_HOME has them
        (checkout / program).write_text(f"-h {broker.host}\n-p {broker.port}\n")
    script = f". .venv/bin/activate\n{serve}"
    env = {"TIERWISE_LOG_FORMAT": "text"}
    async with child_process(["bash", "-c", script], cwd=checkout, env=env) as service:
        assert "`connected to the MQTT broker`" in README
        await service.wait_line("connected to the MQTT broker", timeout_s=PATIENCE_S)
        said: list[str] = []
        # `inspect` gives mosquitto_sub time to subscribe; on a busy machine it may be too late, and one asks again.
        for _ in range(5):
            with contextlib.suppress(TimeoutError):
                said = await pasted(f"{ask}\nwait", checkout, patience_s=30, XDG_CONFIG_HOME=str(checkout))
            if said:
                break
    assert answer(said)["device_id"] == "sensor1"


def test_no_block_of_commands_begins_its_lines_with_a_prompt() -> None:
    assert len(BLOCKS) > 4
    assert [line for block in BLOCKS for line in block.splitlines() if line.startswith("$ ")] == []
    assert "```console" not in README
