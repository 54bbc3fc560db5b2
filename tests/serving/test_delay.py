"""The simulated network's delay."""

from __future__ import annotations

from tierwise.serving.delay import Delay
from tierwise.serving.settings import DelaySettings


def test_without_jitter_every_delay_is_the_latency() -> None:
    delay = Delay(DelaySettings(latency_ms=50))
    assert {delay.draw_ns() for _ in range(100)} == {50_000_000}


def test_jitter_spreads_evenly_around_the_latency() -> None:
    delay = Delay(DelaySettings(latency_ms=50, jitter_ms=10), seed=1)
    drawn = [delay.draw_ns() for _ in range(10_000)]
    assert min(drawn) >= 40_000_000
    assert max(drawn) <= 60_000_000
    assert abs(sum(drawn) / len(drawn) - 50_000_000) < 300_000
    assert len(set(drawn)) == 21


def test_a_delay_is_what_a_timer_can_keep() -> None:
    assert Delay(DelaySettings(latency_ms=0.4)).draw_ns() == 0
    assert Delay(DelaySettings(latency_ms=1.6)).draw_ns() == 2_000_000


def test_no_delay_is_negative() -> None:
    delay = Delay(DelaySettings(latency_ms=1, jitter_ms=10), seed=1)
    assert min(delay.draw_ns() for _ in range(1000)) == 0
