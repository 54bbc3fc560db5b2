"""Vibration of a rolling bearing, healthy or with a localised defect, and the 32 band energies a sensor makes of it.

The physics, after Randall & Antoni, "Rolling element bearing diagnostics: a tutorial", Mech. Syst. Signal Process.
25 (2011) 485-520:

- A defect on a race or a ball is struck at a frequency that geometry and shaft speed fix (``BearingGeometry``).
- Each strike excites a structural resonance of the housing, which rings down exponentially.
- Its strength follows the load where it happens. The load over the angle θ is Stribeck's
  ``(1 - (1 - cos θ) / (2 ε))^1.5`` inside the load zone and zero outside it (Harris, Rolling Bearing Analysis, ch. 7).
  An outer-race defect stays in the load zone; one on the inner race passes it at shaft speed; one on a ball with the
  cage.
- The balls slip: the time between strikes varies by 1-2 %, so the train of strikes is not strictly periodic.
- Healthy machines are not silent: imbalance and misalignment (1x and 2x shaft speed), broadband noise, and random
  shocks (lubricant, neighbouring machines) that ring the same resonance without any rhythm.

What makes the task hard, as it is in a plant: speed, load, noise, resonance and sensor gain differ from recording to
recording, and defects range from incipient to pronounced.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.random import Generator
    from numpy.typing import NDArray

SAMPLE_RATE_HZ = 12_000
WINDOW = 2048
"""Samples in a recording: 171 ms, five turns of the shaft at 1800 rpm."""
BANDS = 32
SPEED_HZ = (24.0, 36.0)
"""Turns of the shaft a second: 1440 to 2160 rpm."""

_RESONANCE_HZ = (2600.0, 3800.0)
_DAMPING = (0.03, 0.08)
_SLIP = (0.01, 0.02)
_SNR_DB = (-10.0, 8.0)
"""Power of the strikes of a defect over that of the broadband noise: incipient to pronounced."""
_SHOCKS_DB = (-40.0, -11.0)
"""Power of a healthy machine's random shocks over that of the broadband noise."""
_CHUNK = 1024


class Condition(IntEnum):
    """State of the bearing."""

    NORMAL = 0
    OUTER_RACE = 1
    INNER_RACE = 2
    BALL = 3


@dataclass(frozen=True, slots=True)
class BearingGeometry:
    """Dimensions of a bearing whose outer race stands still, and the frequencies that follow from them.

    Kinematics without slip (Randall & Antoni 2011, eq. 1-4), with r = d/D · cos φ.
    """

    balls: int
    ball_diameter_mm: float
    pitch_diameter_mm: float
    contact_angle_deg: float = 0.0

    @property
    def _ratio(self) -> float:
        return self.ball_diameter_mm / self.pitch_diameter_mm * float(np.cos(np.radians(self.contact_angle_deg)))

    def bpfo_hz(self, shaft_hz: float) -> float:
        """Ball pass frequency of the outer race: n/2 · f · (1 - r)."""
        return self.balls / 2 * shaft_hz * (1 - self._ratio)

    def bpfi_hz(self, shaft_hz: float) -> float:
        """Ball pass frequency of the inner race: n/2 · f · (1 + r)."""
        return self.balls / 2 * shaft_hz * (1 + self._ratio)

    def ftf_hz(self, shaft_hz: float) -> float:
        """Fundamental train frequency, that of the cage: f/2 · (1 - r)."""
        return shaft_hz / 2 * (1 - self._ratio)

    def bsf_hz(self, shaft_hz: float) -> float:
        """Ball spin frequency: D/(2d) · f · (1 - r²). A defect strikes both races, so twice a turn."""
        return self.pitch_diameter_mm / (2 * self.ball_diameter_mm) * shaft_hz * (1 - self._ratio**2)

    def strike_hz(self, condition: Condition, shaft_hz: float) -> float:
        """How often a defect is struck; 0 for none."""
        return {
            Condition.NORMAL: 0.0,
            Condition.OUTER_RACE: self.bpfo_hz(shaft_hz),
            Condition.INNER_RACE: self.bpfi_hz(shaft_hz),
            Condition.BALL: 2 * self.bsf_hz(shaft_hz),
        }[condition]


SKF_6205 = BearingGeometry(balls=9, ball_diameter_mm=7.94, pitch_diameter_mm=39.04)
"""The deep-groove bearing of the Case Western Reserve University test rig (0.3126 in balls on a 1.537 in pitch)."""


def recordings(
    conditions: NDArray[np.int64],
    rng: Generator,
    *,
    geometry: BearingGeometry = SKF_6205,
    speed_hz: tuple[float, float] = SPEED_HZ,
) -> NDArray[np.float32]:
    """One recording for each condition: float32 [n, WINDOW], acceleration in arbitrary units at ``SAMPLE_RATE_HZ``.

    The shaft speed of each is drawn uniformly from ``speed_hz``, in turns a second.
    """
    parts = np.split(conditions, range(_CHUNK, len(conditions), _CHUNK))
    return np.concatenate([_simulate(part, rng.uniform(*speed_hz, len(part)), rng, geometry) for part in parts])


def band_energies(signals: NDArray[np.floating]) -> NDArray[np.float32]:
    """Features of recordings [n, samples]: float32 [n, 32].

    Energies of 32 equally wide bands from 0 to half the sample rate (Hann window), as log10 of their share in the
    total times 32: zero is a band with the average energy, and the sensor's gain cancels out.
    """
    windowed = signals * np.hanning(signals.shape[1])
    power = np.abs(np.fft.rfft(windowed, axis=1)[:, 1:]) ** 2
    energies = power.reshape(len(signals), BANDS, -1).sum(axis=2)
    total = energies.sum(axis=1, keepdims=True)
    share = energies / np.where(total > 0, total, 1)
    features: NDArray[np.float32] = np.log10(np.maximum(share * BANDS, 1e-6)).astype(np.float32)
    return features


def labelled_recordings(count: int, seed: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """``count`` feature vectors (float32 [count, 32]) and their labels (int64: 0 normal, 1 faulty), in random order.

    Half are normal; the other half is shared by the three defects. Equal seeds give equal data.
    """
    rng = np.random.default_rng(seed)
    faulty = np.resize([Condition.OUTER_RACE, Condition.INNER_RACE, Condition.BALL], count // 2)
    conditions = np.concatenate([np.full(count - count // 2, Condition.NORMAL), faulty]).astype(np.int64)
    conditions = rng.permutation(conditions)
    return band_energies(recordings(conditions, rng)), (conditions != Condition.NORMAL).astype(np.int64)


def _simulate(
    conditions: NDArray[np.int64], shaft_hz: NDArray[np.float64], rng: Generator, geometry: BearingGeometry
) -> NDArray[np.float32]:
    count = len(conditions)
    normal = conditions == Condition.NORMAL

    noise = _unit_power(_broadband(rng, count))
    strikes = _strikes(conditions, shaft_hz, rng, geometry)
    shocks = np.where(rng.random((count, WINDOW)) < 60 / WINDOW, rng.normal(size=(count, WINDOW)), 0.0)
    level_db = np.where(normal, rng.uniform(*_SHOCKS_DB, count), rng.uniform(*_SNR_DB, count))
    ringing = _unit_power(_ring(np.where(normal[:, None], shocks, strikes), rng)) * _amplitude(level_db)

    gain = rng.lognormal(0.0, 0.5, (count, 1))
    return (gain * (noise + ringing + _shaft_harmonics(shaft_hz, rng))).astype(np.float32)


def _strikes(
    conditions: NDArray[np.int64], shaft_hz: NDArray[np.float64], rng: Generator, geometry: BearingGeometry
) -> NDArray[np.float64]:
    """Trains of strikes [n, WINDOW]: weighted impulses, each spread over the two samples around its instant."""
    count = len(conditions)
    seconds = WINDOW / SAMPLE_RATE_HZ
    kinds = list(Condition)
    orders = np.array([geometry.strike_hz(kind, 1.0) for kind in kinds])
    passing = np.array([0.0, 0.0, 1.0, geometry.ftf_hz(1.0)])  # turns through the load zone a turn of the shaft
    strike_hz = orders[conditions] * shaft_hz

    most = int(strike_hz.max() * seconds * 1.2) + 2  # strikes in a recording, with room for slip
    slip = rng.uniform(*_SLIP, (count, 1))
    gaps = 1 + slip * rng.normal(size=(count, most))
    turns = np.cumsum(gaps, axis=1) - rng.random((count, 1))
    at_s = turns / np.where(strike_hz > 0, strike_hz, 1 / seconds)[:, None]

    angle = 2 * np.pi * ((passing[conditions] * shaft_hz)[:, None] * at_s + rng.random((count, 1)))
    angle = np.where(passing[conditions][:, None] > 0, angle, 0.0)
    extent = rng.uniform(0.3, 0.5, (count, 1))  # ε: 0.5 is half the circumference, less with clearance
    weight = _load(angle, extent) * (1 + 0.1 * rng.normal(size=at_s.shape)) * (strike_hz > 0)[:, None]

    position = at_s * SAMPLE_RATE_HZ
    index = np.floor(position).astype(np.int64)
    inside = (index >= 0) & (index < WINDOW - 1)
    index = np.clip(index, 0, WINDOW - 2)
    later = position - np.floor(position)
    train = np.zeros((count, WINDOW))
    rows = np.broadcast_to(np.arange(count)[:, None], index.shape)
    np.add.at(train, (rows, index), weight * inside * (1 - later))
    np.add.at(train, (rows, index + 1), weight * inside * later)
    return train


def _load(angle: NDArray[np.float64], extent: NDArray[np.float64]) -> NDArray[np.float64]:
    """Stribeck's load on a ball at an angle from the direction of the load, 1 at its centre; ``extent`` is ε."""
    return np.maximum(1 - (1 - np.cos(angle)) / (2 * extent), 0.0) ** 1.5


def _ring(impulses: NDArray[np.float64], rng: Generator) -> NDArray[np.float64]:
    """Impulses through a damped resonator: exp(-ζ ω t) · sin(ω t).

    The convolution is circular: the ring-down of the last strikes stands in for those before the recording.
    """
    count = len(impulses)
    omega = 2 * np.pi * rng.uniform(*_RESONANCE_HZ, (count, 1))
    damping = rng.uniform(*_DAMPING, (count, 1))
    time_s = np.arange(WINDOW) / SAMPLE_RATE_HZ
    response = np.exp(-damping * omega * time_s) * np.sin(omega * time_s)
    spectrum = np.fft.rfft(impulses, axis=1) * np.fft.rfft(response, axis=1)
    return np.fft.irfft(spectrum, n=WINDOW, axis=1)


def _broadband(rng: Generator, count: int) -> NDArray[np.float64]:
    """Noise whose power falls with frequency, differently steep on every machine: f^-a, a from 0 to 1."""
    steep = rng.uniform(0.0, 1.0, (count, 1))
    frequency = np.maximum(np.fft.rfftfreq(WINDOW, 1 / SAMPLE_RATE_HZ), 100.0) / 1000.0
    spectrum = np.fft.rfft(rng.normal(size=(count, WINDOW)), axis=1) * frequency ** (-steep / 2)
    return np.fft.irfft(spectrum, n=WINDOW, axis=1)


def _shaft_harmonics(shaft_hz: NDArray[np.float64], rng: Generator) -> NDArray[np.float64]:
    """Imbalance (1x) and misalignment (2x)."""
    time_s = np.arange(WINDOW) / SAMPLE_RATE_HZ
    total = np.zeros((len(shaft_hz), WINDOW))
    for order, largest in ((1, 1.0), (2, 0.5)):
        phase = 2 * np.pi * (order * shaft_hz[:, None] * time_s + rng.random((len(shaft_hz), 1)))
        total += rng.uniform(0.1, largest, (len(shaft_hz), 1)) * np.sin(phase)
    return total


def _amplitude(level_db: NDArray[np.float64]) -> NDArray[np.float64]:
    return 10 ** (level_db[:, None] / 20)


def _unit_power(signals: NDArray[np.float64]) -> NDArray[np.float64]:
    """Scaled to mean square 1; a silent signal stays silent."""
    power = np.mean(signals**2, axis=1, keepdims=True)
    return signals / np.sqrt(np.where(power > 0, power, 1.0))
