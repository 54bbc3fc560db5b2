"""The picture: a readable PNG, or a clear word about what is missing."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pytest
from tests.components import need
from tests.report.traces import device_trace, live_trace

from tierwise.core.errors import DependencyError
from tierwise.report.figure import TIER_COLOURS, draw_figure
from tierwise.report.summary import TierFacts, summarise

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("tiers", [("edge", "cloud"), ("device", "edge", "cloud")])
def test_draws_all_tiers_in_their_colours(tiers: tuple[str, ...], tmp_path: Path) -> None:
    need(package="matplotlib")
    from matplotlib.image import imread  # noqa: PLC0415 - an optional extra

    rows = [*live_trace(lost=3), *(device_trace() if "device" in tiers else [])]
    facts = {"device": TierFacts("firmware", "model-int8.tflite", "modelled", "a-board")}
    draw_figure(summarise(rows, facts=facts), rows, tmp_path / "demo.png")
    pixels = (imread(tmp_path / "demo.png")[:, :, :3] * 255).round().astype(int)

    assert pixels.shape[:2] == (1000, 1800)
    for tier in tiers:
        colour = [int(TIER_COLOURS[tier][at : at + 2], 16) for at in (1, 3, 5)]
        assert np.count_nonzero((pixels == colour).all(axis=2)) > 500, tier
    edges = np.concatenate([pixels[:15].reshape(-1, 3), pixels[-15:].reshape(-1, 3), pixels[:, :15].reshape(-1, 3)])
    assert (edges == 255).all(), "a margin all around"


def test_without_matplotlib_it_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    rows = live_trace(requests=2)
    with pytest.raises(DependencyError, match=r"tierwise\[plot\]"):
        draw_figure(summarise(rows), rows, tmp_path / "demo.png")
    assert not (tmp_path / "demo.png").exists()


def test_nothing_answered_is_nothing_to_draw(tmp_path: Path) -> None:
    rows = [msgspec.structs.replace(row, outcome="timeout", answered_us=None) for row in live_trace(requests=2)]
    with pytest.raises(ValueError, match="nothing was answered"):
        draw_figure(summarise(rows), rows, tmp_path / "demo.png")
