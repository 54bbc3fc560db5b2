"""The same fleet in SimPy, as its users write it: a process a device and station, a store before each station."""

from __future__ import annotations

from typing import TYPE_CHECKING

import simpy

if TYPE_CHECKING:
    from collections.abc import Generator

UP_NS, SERVICE_NS, DOWN_NS, PROPAGATION_NS = 800_000, 700_000, 80_000, 5_000_000


def latencies(created: dict[int, list[int]], horizon: int) -> dict[tuple[int, int], int]:
    """Latency (ns) of each request (device, number), given when each device makes them."""
    env = simpy.Environment()
    uplink, gateway, downlink = simpy.Store(env), simpy.Store(env), simpy.Store(env)
    found: dict[tuple[int, int], int] = {}

    def device(index: int, times: list[int]) -> Generator[simpy.Event, tuple[int, int, int], None]:
        for number, at in enumerate(times):
            yield env.timeout(at - env.now)
            yield uplink.put((index, number, at))

    def delivery(
        message: tuple[int, int, int], store: simpy.Store | None
    ) -> Generator[simpy.Event, tuple[int, int, int], None]:
        yield env.timeout(PROPAGATION_NS)
        if store is None:
            found[message[0], message[1]] = int(env.now) - message[2]
        else:
            yield store.put(message)

    def station(
        source: simpy.Store, service: int, then: simpy.Store | None, *, travels: bool
    ) -> Generator[simpy.Event, tuple[int, int, int], None]:
        while True:
            message = yield source.get()
            yield env.timeout(service)
            if travels:
                env.process(delivery(message, then))
            elif then is not None:
                yield then.put(message)

    for index, times in created.items():
        env.process(device(index, times))
    env.process(station(uplink, UP_NS, gateway, travels=True))
    env.process(station(gateway, SERVICE_NS, downlink, travels=False))
    env.process(station(downlink, DOWN_NS, None, travels=True))
    env.run(until=horizon)
    return found
