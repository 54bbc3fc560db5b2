"""A small MQTT 3.1.1 broker in Python, for machines without one: ``python -m tierwise.live.embedded_broker PORT``.

It handles about a tenth of mosquitto's messages a second, so it serves demonstrations only.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import sys

HOST = "127.0.0.1"
READY = "embedded broker is ready"


async def serve(port: int) -> None:
    """Answers on the loopback interface until SIGTERM or SIGINT."""
    from amqtt.broker import Broker  # noqa: PLC0415  (an optional package)

    broker = Broker(
        {
            "listeners": {"default": {"type": "tcp", "bind": f"{HOST}:{port}"}},
            "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
        }
    )
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    await broker.start()
    sys.stdout.write(f"{READY}\n")
    sys.stdout.flush()
    await stopped.wait()
    await broker.shutdown()


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    asyncio.run(serve(int(sys.argv[1])))
