"""Real service processes for tests: ``tierwise serve`` and ``tierwise cloud`` as a user starts them."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING

from tierwise.live.processes import Child, child_process
from tierwise.live.services import STOP_TIMEOUT_S

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tierwise.live.broker import PrivateBroker

TIERWISE = [sys.executable, "-m", "tierwise"]


@contextlib.asynccontextmanager
async def service(
    command: str, model: Path, broker: PrivateBroker | None, *options: str, env: dict[str, str] | None = None
) -> AsyncIterator[Child]:
    """A service that is connected to ``broker`` (or without MQTT) and has said so."""
    mqtt = f"{broker.host}:{broker.port}" if broker else "off"
    arguments = [*TIERWISE, command, "--model", str(model), "--mqtt", mqtt, "--log-format", "text", *options]
    async with child_process(arguments, name=f"tierwise {command}", env=env, grace_s=STOP_TIMEOUT_S) as child:
        await child.wait_line("connected to the MQTT broker" if broker else "serving", timeout_s=60)
        yield child
