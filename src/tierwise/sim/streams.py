"""Keys of random streams: one for each entity and purpose, so a new device shifts nobody else's numbers."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray


def stream_keys(seed: int, purpose: str, entities: Iterable[str]) -> NDArray[np.uint64]:
    """The first eight bytes (little-endian) of SHA-256("seed/purpose/entity"), for each entity."""
    start = hashlib.sha256(f"{seed}/{purpose}/".encode())
    digests = bytearray()
    for entity in entities:
        state = start.copy()
        state.update(entity.encode())
        digests += state.digest()[:8]
    return np.frombuffer(bytes(digests), "<u8").astype(np.uint64)
