"""The memory limit of a container, as cgroups of either version tell it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tierwise.serving.memory import limit_bytes, resident_bytes

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("text", "limit"), [("268435456\n", 268_435_456.0), ("max\n", None), ("9223372036854771712\n", None), ("", None)]
)
def test_limits(tmp_path: Path, text: str, limit: float | None) -> None:
    file = tmp_path / "memory.max"
    file.write_text(text)
    assert limit_bytes((tmp_path / "missing", file)) == limit


def test_a_machine_that_does_not_tell(tmp_path: Path) -> None:
    assert limit_bytes((tmp_path / "missing",)) is None
    assert resident_bytes(tmp_path / "missing") is None
    (tmp_path / "statm").write_text("")
    assert resident_bytes(tmp_path / "statm") is None
