"""What a package server's short absence does to the tests: nothing."""

from __future__ import annotations

import subprocess

import pytest
from tests.network import insist


def test_a_short_absence_is_waited_for() -> None:
    failures: list[Exception] = [AssertionError("apt: 503"), subprocess.TimeoutExpired("docker build", 900)]

    def attempt() -> str:
        if failures:
            raise failures.pop()
        return "image"

    assert insist(attempt, pauses_s=(0.01, 0.01)) == "image"


def test_a_long_one_is_told() -> None:
    tries = []

    def attempt() -> None:
        tries.append(1)
        raise AssertionError(f"failure {len(tries)}")

    with pytest.raises(AssertionError, match="failure 3"):
        insist(attempt, pauses_s=(0.01, 0.01))


def test_what_no_network_cures_is_told_at_once() -> None:
    tries = []

    def attempt() -> None:
        tries.append(1)
        raise PermissionError

    with pytest.raises(PermissionError):
        insist(attempt)
    assert len(tries) == 1
