"""The static memory plan: one arena, offsets by lifetime."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tierwise.device.step import Alias, Step

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tierwise.device.graph import Graph, Tensor

ALIGNMENT: Final = 4


@dataclass(frozen=True)
class Block:
    """A piece of the arena, in use from the step ``first`` to the step ``last``, both included."""

    label: str
    bytes: int
    first: int
    last: int
    offset: int = 0


@dataclass(frozen=True)
class MemoryPlan:
    """Where every computed tensor lies. ``storage`` maps a tensor's index to its offset in the arena."""

    arena_bytes: int
    blocks: tuple[Block, ...]
    storage: Mapping[int, int]
    scratch: Mapping[int, int]
    """Number of a step -> offset of its scratch memory."""


def plan_memory(graph: Graph, steps: Sequence[Step | Alias]) -> MemoryPlan:
    """Offsets such that no two blocks alive at the same step overlap, largest blocks first, each as low as it fits."""
    root = _roots(steps)
    tensors: dict[int, Tensor] = {}
    first: dict[int, int] = {}
    last: dict[int, int] = {}

    def touch(tensor: Tensor, at: int) -> None:
        if tensor.data is not None:
            return
        index = root.get(tensor.index, tensor.index)
        tensors.setdefault(index, tensor)
        first.setdefault(index, at)
        last[index] = at

    for tensor in graph.inputs:
        touch(tensor, -1)
    for number, step in enumerate(steps):
        for tensor in (step.source,) if isinstance(step, Alias) else step.inputs:
            touch(tensor, number)
        touch(step.output, number)
    for tensor in graph.outputs:
        touch(tensor, len(steps))
    wanted = {("tensor", i): Block(t.name, t.bytes, first[i], last[i]) for i, t in tensors.items()}
    for number, step in enumerate(steps):
        if isinstance(step, Step) and step.scratch_bytes:
            label = f"scratch of {step.kernel}"
            wanted["scratch", number] = Block(label, step.scratch_bytes, number, number)
    placed = _place(wanted)
    storage = {index: placed["tensor", index].offset for index in tensors}
    storage |= {index: storage[target] for index, target in root.items() if target in storage}
    return MemoryPlan(
        arena_bytes=max((block.offset + _aligned(block.bytes) for block in placed.values()), default=0),
        blocks=tuple(sorted(placed.values(), key=lambda block: (block.first, block.offset))),
        storage=storage,
        scratch={number: block.offset for (kind, number), block in placed.items() if kind == "scratch"},
    )


def _roots(steps: Sequence[Step | Alias]) -> dict[int, int]:
    """Index of an alias -> index of the tensor whose bytes it shares."""
    root: dict[int, int] = {}
    for step in steps:
        if isinstance(step, Alias):
            root[step.output.index] = root.get(step.source.index, step.source.index)
    return root


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


def _place(wanted: Mapping[tuple[str, int], Block]) -> dict[tuple[str, int], Block]:
    placed: dict[tuple[str, int], Block] = {}
    for key, block in sorted(wanted.items(), key=lambda item: (-item[1].bytes, item[1].first, item[0])):
        offset = 0
        rivals = [other for other in placed.values() if other.first <= block.last and block.first <= other.last]
        for other in sorted(rivals, key=lambda rival: rival.offset):
            if offset + block.bytes <= other.offset:
                break
            offset = max(offset, other.offset + _aligned(other.bytes))
        placed[key] = Block(block.label, block.bytes, block.first, block.last, offset)
    return placed
