"""The physics of the simulated bearing, its features and its labels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tierwise.models.bearing import (
    BANDS,
    SAMPLE_RATE_HZ,
    SKF_6205,
    WINDOW,
    BearingGeometry,
    Condition,
    _load,
    band_energies,
    labelled_recordings,
    recordings,
)

SHAFT_HZ = 30.0
SKF_6203 = BearingGeometry(balls=8, ball_diameter_mm=6.746, pitch_diameter_mm=28.50)


@pytest.mark.parametrize(
    ("bearing", "outer", "inner", "cage", "ball"),
    [(SKF_6205, 3.5848, 5.4152, 0.39828, 4.7135), (SKF_6203, 3.0530, 4.9469, 0.3817, 3.9874)],
    ids=["drive end 6205", "fan end 6203"],
)
def test_defect_frequencies_are_those_of_the_test_rig(
    bearing: BearingGeometry, outer: float, inner: float, cage: float, ball: float
) -> None:
    """Multiples of the shaft speed as the Case Western Reserve University Bearing Data Center publishes them."""
    assert bearing.bpfo_hz(1) == pytest.approx(outer, abs=6e-4)
    assert bearing.bpfi_hz(1) == pytest.approx(inner, abs=6e-4)
    assert bearing.ftf_hz(1) == pytest.approx(cage, abs=6e-4)
    assert 2 * bearing.bsf_hz(1) == pytest.approx(ball, abs=2e-3)


@given(
    balls=st.integers(5, 30),
    ratio=st.floats(0.05, 0.5),
    angle=st.floats(0, 45),
    shaft_hz=st.floats(0.1, 500),
)
def test_defect_frequencies_belong_together(balls: int, ratio: float, angle: float, shaft_hz: float) -> None:
    bearing = BearingGeometry(balls, 10 * ratio, 10, angle)
    outer, inner = bearing.bpfo_hz(shaft_hz), bearing.bpfi_hz(shaft_hz)
    assert outer + inner == pytest.approx(balls * shaft_hz), "every ball passes a point of one race or of the other"
    assert outer == pytest.approx(balls * bearing.ftf_hz(shaft_hz)), "the balls go round with the cage"
    assert outer < inner


def test_the_load_is_largest_at_its_centre_and_ends_with_the_load_zone() -> None:
    angle = np.linspace(-np.pi, np.pi, 721)
    load = _load(angle, np.array(0.4))
    edge = np.arccos(1 - 2 * 0.4)
    assert load.max() == load[360] == 1.0
    assert (load[np.abs(angle) > edge + 1e-9] == 0).all()
    assert (np.diff(load[360:]) <= 0).all()
    np.testing.assert_allclose(load, load[::-1], atol=1e-12)


def envelope_spectrum(condition: Condition) -> tuple[np.ndarray, np.ndarray]:
    """Mean amplitude spectrum of the squared envelope around the resonance, and its frequencies in Hz."""
    rng = np.random.default_rng(7)
    signals = recordings(np.full(400, condition), rng, speed_hz=(SHAFT_HZ, SHAFT_HZ)).astype(np.float64)
    spectrum = np.fft.fft(signals, axis=1)
    frequency = np.fft.fftfreq(WINDOW, 1 / SAMPLE_RATE_HZ)
    spectrum[:, (frequency < 2000) | (frequency > 4500)] = 0  # positive frequencies only: the analytic signal
    squared = np.abs(np.fft.ifft(spectrum, axis=1)) ** 2
    squared /= squared.mean(axis=1, keepdims=True)
    return np.abs(np.fft.rfft(squared - 1, axis=1)).mean(axis=0), np.fft.rfftfreq(WINDOW, 1 / SAMPLE_RATE_HZ)


@pytest.mark.parametrize("condition", [Condition.OUTER_RACE, Condition.INNER_RACE, Condition.BALL])
def test_a_defect_rings_the_resonance_at_its_frequency(condition: Condition) -> None:
    """The standard diagnosis, by envelope spectrum, finds the frequency that geometry predicts."""
    amplitude, frequency = envelope_spectrum(condition)
    expected = SKF_6205.strike_hz(condition, SHAFT_HZ)
    searched = (frequency > 90) & (frequency < 200)  # above the modulation, below second harmonics
    peak = frequency[searched][amplitude[searched].argmax()]
    assert abs(peak - expected) <= SAMPLE_RATE_HZ / WINDOW, f"{peak:.1f} Hz, expected {expected:.1f} Hz"


def test_only_a_moving_defect_is_modulated_by_the_load_zone() -> None:
    """One on the inner race passes the load at shaft speed; one on the outer race stays where it is."""
    inner, frequency = envelope_spectrum(Condition.INNER_RACE)
    outer, _ = envelope_spectrum(Condition.OUTER_RACE)
    at_shaft = np.abs(frequency - SHAFT_HZ).argmin()
    assert inner[at_shaft] > 3 * outer[at_shaft]


def test_a_healthy_bearing_has_no_rhythm() -> None:
    healthy, frequency = envelope_spectrum(Condition.NORMAL)
    faulty, _ = envelope_spectrum(Condition.OUTER_RACE)
    at = np.abs(frequency - SKF_6205.bpfo_hz(SHAFT_HZ)).argmin()
    assert faulty[at] > 3 * healthy[at]
    assert SKF_6205.strike_hz(Condition.NORMAL, SHAFT_HZ) == 0


def test_band_energies_are_shares_of_the_whole() -> None:
    signals = np.random.default_rng(1).normal(size=(5, WINDOW))
    features = band_energies(signals)
    assert features.shape == (5, BANDS)
    assert features.dtype == np.float32
    np.testing.assert_allclose((10.0**features).sum(axis=1), BANDS, rtol=1e-5)


def test_band_energies_do_not_depend_on_the_gain() -> None:
    signals = np.random.default_rng(2).normal(size=(3, WINDOW))
    np.testing.assert_allclose(band_energies(signals * 250), band_energies(signals), atol=1e-5)


@given(band=st.integers(0, BANDS - 1))
def test_a_tone_lies_in_its_band(band: int) -> None:
    width_hz = SAMPLE_RATE_HZ / 2 / BANDS
    tone = np.sin(2 * np.pi * (band + 0.5) * width_hz * np.arange(WINDOW) / SAMPLE_RATE_HZ)
    features = band_energies(tone[None])[0]
    assert features.argmax() == band
    assert features[band] == pytest.approx(np.log10(BANDS), abs=1e-3), "all of the energy"


def test_silence_gives_finite_features() -> None:
    assert np.isfinite(band_energies(np.zeros((1, WINDOW)))).all()


def test_classes_are_balanced_and_mixed() -> None:
    features, labels = labelled_recordings(600, seed=3)
    assert features.shape == (600, BANDS)
    assert features.dtype == np.float32
    assert labels.dtype == np.int64
    assert np.isfinite(features).all()
    assert labels.sum() == 300
    assert 110 < labels[:300].sum() < 190, "in random order"


def test_equal_seeds_give_equal_data_and_others_do_not() -> None:
    first, labels = labelled_recordings(50, seed=4)
    again, same = labelled_recordings(50, seed=4)
    other, _ = labelled_recordings(50, seed=5)
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(labels, same)
    assert not np.array_equal(first, other)


def test_no_single_band_tells_the_classes_apart() -> None:
    features, labels = labelled_recordings(2000, seed=6)
    best = 0.0
    for values in features.T:
        order = labels[np.argsort(values)]
        below = np.cumsum(order == 0) + np.sum(order == 1) - np.cumsum(order == 1)
        best = max(best, float(np.maximum(below, len(order) - below).max()) / len(order))
    assert 0.6 < best < 0.9
