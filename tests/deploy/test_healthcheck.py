"""Where the image's health check asks, for each form of an address to listen on."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

ADDRESS = runpy.run_path(str(Path(__file__).parents[2] / "docker" / "healthcheck.py"))["address"]


@pytest.mark.parametrize(
    ("listens_on", "asked"),
    [
        ("0.0.0.0:8080", ("localhost", 8080)),
        ("[::]:9", ("localhost", 9)),
        (":81", ("localhost", 81)),
        ("192.168.1.5:8080", ("192.168.1.5", 8080)),
        ("[fd00::7]:8080", ("fd00::7", 8080)),
        ("192.168.1.5", ("192.168.1.5", 8080)),
    ],
)
def test_health_is_asked_where_the_service_listens(listens_on: str, asked: tuple[str, int]) -> None:
    assert ADDRESS(listens_on) == asked
