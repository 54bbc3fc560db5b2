"""A scenario made ready to run: the kernel's tables, who is who, and what happens from outside."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from tierwise.core.errors import ConfigurationError
from tierwise.scenario.parts import GilbertElliott
from tierwise.scenario.schema import BatteryOut, LinkDegraded, MultiStream, SingleStream
from tierwise.sim.faults import fault_windows, node_outages
from tierwise.sim.kernel import tables as t
from tierwise.sim.programs import NANO, Program, Surroundings
from tierwise.sim.ranks import eager_ends, rank_steps
from tierwise.sim.streams import stream_keys
from tierwise.sim.tables import NO_KEY, Tables

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from tierwise.scenario.schema import Scenario
    from tierwise.sim.answers import Answers

_UP, _DOWN = 0, 1
_OF_LINKS = {"latency", "jitter", "loss"}


@dataclass
class Plan:
    """Everything both engines need. Tables hold state too: a plan is run once."""

    scenario: Scenario
    seed: int
    names: list[str]
    """Of the devices, group by group."""
    groups: dict[str, int]
    """Row of each group."""
    group_of: NDArray[np.int64]
    """Row of each device's group."""
    first_device: dict[str, int]
    links: dict[tuple[str, int], int]
    """Row of each link and direction (0 up, 1 down)."""
    nodes: dict[str, int]
    steps: range
    """Rows of the steps."""
    ints: NDArray[np.int64]
    floats: NDArray[np.float64]
    values: NDArray[np.float64]
    keys: NDArray[np.uint64]
    """(purpose, device)"""
    station_keys: NDArray[np.uint64]
    purposes: dict[str, int]
    stations: int
    ring_size: int
    devices: NDArray[np.int64]
    outages: list[tuple[int, int, int]]
    """(time ns, kind, node row): nodes that fail and recover."""
    queues: dict[int, dict[str, int]]
    """For each step at which Python decides, the nodes of the tiers."""
    late: set[int]
    """Those of them at which a tier has not answered in time."""
    ranks: int
    """Places in the order of stations."""
    loops: bool
    """Whether requests can come back to a station."""
    answers: Mapping[tuple[str, str], Answers] = field(default_factory=dict)


def build_plan(
    scenario: Scenario, seed: int | None = None, answers: Mapping[tuple[str, str], Answers] | None = None
) -> Plan:
    """Lays out a scenario. ``answers`` are those of real models, by (model, tier)."""
    seed = scenario.run.seed if seed is None else seed
    tables = Tables()
    names, first_device = _device_names(scenario)
    nodes = {name: tables.row() for name in scenario.nodes}
    links = {(name, direction): tables.row() for name in scenario.links for direction in (_UP, _DOWN)}
    stations, ring_size, station_keys = _fill_links(scenario, tables, links, names, seed)
    _fill_nodes(scenario, tables, nodes)
    for row, first, end in fault_windows(scenario, tables, links, nodes, seed):
        is_link = row in links.values()
        tables.set(
            row, {t.L_WINDOW if is_link else t.N_WINDOW: first, t.L_WINDOW_END if is_link else t.N_WINDOW_END: end}
        )
    groups = {name: tables.row() for name in scenario.devices}
    around = Surroundings(scenario, tables, links, nodes, answers or {})
    first_step = len(tables.ints)
    queues: dict[int, dict[str, int]] = {}
    late: set[int] = set()
    entries = {}
    tables.key("answer")
    if answers:
        tables.key("sample")
    for name, row in groups.items():
        program = Program(around, name, row)
        entries[row] = program.write(scenario.rule(name))
        queues |= program.queues
        late |= program.late
    # Distributions are rows too: those of links were made before, those of steps lie between the steps.
    steps = range(first_step, len(tables.ints))
    _fill_groups(scenario, tables, groups, entries)
    ranks, loops = rank_steps(tables, steps, list(entries.values()))
    eager_ends(tables, steps, {row for name, row in groups.items() if _is_carefree(scenario, name)}, t.T_GROUP)
    for row in nodes.values():
        tables.set(row, {t.N_RANK: _rank_of(tables, steps, row)})
    ints, floats, values = tables.arrays()
    group_of = np.repeat(
        np.array(list(groups.values()), np.int64), [group.count for group in scenario.devices.values()]
    )
    return Plan(
        scenario=scenario,
        seed=seed,
        names=names,
        groups=groups,
        group_of=group_of,
        first_device=first_device,
        links=links,
        nodes=nodes,
        steps=steps,
        ints=ints,
        floats=floats,
        values=values,
        keys=_keys(scenario, tables, names, first_device, seed),
        station_keys=station_keys,
        purposes=tables.purposes,
        stations=max(1, stations),
        ring_size=max(1, ring_size),
        devices=_devices(scenario, group_of, first_device),
        outages=[(time, t.DOWN if fails else t.UP, nodes[name]) for time, fails, name in node_outages(scenario, seed)],
        queues=queues,
        late=late,
        ranks=ranks,
        loops=loops,
        answers=answers or {},
    )


def _device_names(scenario: Scenario) -> tuple[list[str], dict[str, int]]:
    total = sum(group.count for group in scenario.devices.values())
    if total >= 1 << t.DEVICE_BITS:
        raise ConfigurationError(f"{total} devices; the simulator takes fewer than {1 << t.DEVICE_BITS}")
    names: list[str] = []
    first = {}
    for name, group in scenario.devices.items():
        first[name] = len(names)
        numbered = [name] if group.count == 1 else [f"{name}-{index}" for index in range(group.count)]
        names += group.names or numbered
    return names, first


def _keys(
    scenario: Scenario, tables: Tables, names: list[str], first_device: dict[str, int], seed: int
) -> NDArray[np.uint64]:
    """Streams by (purpose, device). A link that only groups start from is used by their devices alone."""
    own = {name: link.from_ for name, link in scenario.links.items() if all(at in first_device for at in link.from_)}
    keys = np.zeros((len(tables.purposes), len(names)), np.uint64)
    for row, purpose in enumerate(tables.purposes):
        kind, _, link = purpose.partition("/")
        users = own.get(link.rpartition("/")[0]) if kind in _OF_LINKS else None
        if users is None:
            keys[row] = stream_keys(seed, purpose, names)
            continue
        for group in users:
            first = first_device[group]
            devices = slice(first, first + scenario.devices[group].count)
            keys[row, devices] = stream_keys(seed, purpose, names[devices])
    return keys


def _is_carefree(scenario: Scenario, group: str) -> bool:
    """Whether nothing depends on the instant at which an answer reaches a device of the group."""
    devices = scenario.devices[group]
    rule = scenario.rule(group)
    closed = isinstance(scenario.traffic_of(group), SingleStream | MultiStream)
    dies = any(isinstance(fault, BatteryOut) and fault.devices == group for fault in scenario.faults)
    armed = devices.timeout is not None or getattr(rule, "timeout", None) is not None
    return not (closed or dies or armed or devices.battery is not None)


def _rank_of(tables: Tables, steps: range, node: int) -> int:
    """The rank of the steps at a node; 0 for a node that nobody asks."""
    for pc in steps:
        if tables.ints[pc][t.T_OP] == t.NODE and tables.ints[pc][t.T_ARG] == node:
            return tables.ints[pc][t.T_RANK]
    return 0


def _fill_links(
    scenario: Scenario,
    tables: Tables,
    rows: dict[tuple[str, int], int],
    names: list[str],
    seed: int,
) -> tuple[int, int, NDArray[np.uint64]]:
    stations = rings = 0
    keys = []
    lossy = {name for name, link in scenario.links.items() if link.loss != 0}
    lossy |= {fault.link for fault in scenario.faults if isinstance(fault, LinkDegraded)}
    for (name, direction), row in rows.items():
        link = scenario.links[name]
        way = "down" if direction == _DOWN else "up"
        count = 1 if link.shared else len(names)
        bursty = isinstance(link.loss, GilbertElliott)
        if bursty:
            entities = [name] if link.shared else names
            keys.append(stream_keys(seed, f"bursts/{name}/{way}", entities))
        else:
            keys.append(np.zeros(count, np.uint64))
        retries = link.retries
        tables.set(
            row,
            {
                t.L_STATION: stations,
                t.L_PER_DEVICE: not link.shared,
                t.L_QUEUE: -1 if link.queue is None else link.queue,
                t.L_RING: rings,
                t.L_LATENCY: tables.distribution(link.latency),
                t.L_KEY_LATENCY: tables.key(f"latency/{name}/{way}", link.latency),
                t.L_JITTER: -1 if link.jitter is None else tables.distribution(link.jitter),
                t.L_KEY_JITTER: 0 if link.jitter is None else tables.key(f"jitter/{name}/{way}", link.jitter),
                t.L_KEY_LOSS: tables.key(f"loss/{name}/{way}") if name in lossy else NO_KEY,
                t.L_BURSTY: bursty,
                t.L_RETRIES: 0 if retries is None else retries.max,
                t.L_BACKOFF: 0 if retries is None else retries.backoff,
                t.L_SHAPED: link.shaper is not None,
            },
            {
                t.LF_LOSS: 0.0 if isinstance(link.loss, GilbertElliott) else link.loss,
                t.LF_FACTOR: 1.0 if retries is None else retries.factor,
                t.LF_OCCUPY: 1.0 / link.duty_cycle,
            },
        )
        if isinstance(link.loss, GilbertElliott):
            loss = link.loss
            floats = {t.LF_TO_BAD: loss.to_bad, t.LF_TO_GOOD: loss.to_good}
            tables.set(row, {}, floats | {t.LF_LOSS_GOOD: loss.loss_good, t.LF_LOSS_BAD: loss.loss_bad})
        if link.shaper is not None:
            a_byte = 8 * NANO / link.shaper.rate
            tables.set(row, {}, {t.LF_SHAPE: a_byte, t.LF_BURST: link.shaper.burst * a_byte})
        stations += count
        rings += count * (link.queue or 0)
    return stations, rings, np.concatenate(keys) if keys else np.zeros(1, np.uint64)


def _fill_nodes(scenario: Scenario, tables: Tables, rows: dict[str, int]) -> None:
    for name, row in rows.items():
        node = scenario.nodes[name]
        batch = node.batch
        tables.set(
            row,
            {
                t.N_WORKERS: node.workers,
                t.N_IDLE: node.workers,
                t.N_LIMIT: -1 if node.queue is None else node.queue,
                t.N_MAX_BATCH: 1 if batch is None else batch.max_size,
                t.N_MAX_WAIT: 0 if batch is None else batch.max_wait,
                t.N_TIMER: -1,
            },
            {t.NF_MARGINAL: 0.0 if batch is None else batch.marginal},
        )


def _fill_groups(scenario: Scenario, tables: Tables, rows: dict[str, int], entries: dict[int, int]) -> None:
    for name, row in rows.items():
        traffic = scenario.traffic_of(name)
        closed = isinstance(traffic, SingleStream | MultiStream)
        group = scenario.devices[name]
        tables.set(
            row,
            {
                t.G_ENTRY: entries[row],
                t.G_CLOSED: closed,
                t.G_BURST: traffic.samples if isinstance(traffic, MultiStream) else 1,
                t.G_STOP: min(getattr(traffic, "stop", None) or t.NEVER, scenario.run.duration),
                t.G_BATTERY: -1 if group.battery is None else round(group.battery.capacity * NANO),
            },
            {t.GF_IDLE: scenario.idle_power_of(name)},
        )


def _devices(scenario: Scenario, group_of: NDArray[np.int64], first_device: dict[str, int]) -> NDArray[np.int64]:
    devices = np.zeros((len(group_of), t.D_SIZE), np.int64)
    devices[:, t.D_GROUP] = group_of
    devices[:, t.D_DEAD] = t.NEVER
    devices[:, t.D_QUERIES] = -1
    for name, first in first_device.items():
        count = scenario.devices[name].count
        traffic = scenario.traffic_of(name)
        battery, idle_power = scenario.devices[name].battery, scenario.idle_power_of(name)
        if battery is not None and idle_power > 0:
            empty = min(t.NEVER, round(battery.capacity * NANO / idle_power))  # of idling alone
            devices[first : first + count, t.D_DEAD] = empty
        if isinstance(traffic, SingleStream | MultiStream) and traffic.queries is not None:
            devices[first : first + count, t.D_QUERIES] = traffic.queries
        for fault in scenario.faults:
            if isinstance(fault, BatteryOut) and fault.devices == name:
                affected = slice(first, first + round(count * fault.share))
                devices[affected, t.D_DEAD] = np.minimum(devices[affected, t.D_DEAD], fault.at)
    return devices
