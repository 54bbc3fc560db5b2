"""Which links lead from a device group to each tier."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tierwise.scenario.schema import Scenario


def route(scenario: Scenario, start: str, tier: str) -> tuple[list[str], str] | None:
    """The fewest links from ``start`` (a group or node) up to a node of ``tier``, and that node; ``None`` if none.

    Among equally short ways the one through the earlier links of the file is taken.
    """
    seen = {start}
    queue: deque[tuple[str, list[str]]] = deque([(start, [])])
    while queue:
        place, links = queue.popleft()
        for name, link in scenario.links.items():
            if place in link.from_ and link.to not in seen:
                seen.add(link.to)
                node = scenario.nodes.get(link.to)
                if node is None:
                    continue
                if node.tier == tier:
                    return [*links, name], link.to
                queue.append((link.to, [*links, name]))
    return None
