"""What moves in a long video as functions of time in seconds, so that any frame rate samples the same motion."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from mol_fast.data.embedded.motion import smooth_step

Array = npt.NDArray[np.float64]


class Pulse(NamedTuple):
    """A channel rises to `height`, stays there and falls back to 0; times in seconds, each part longer than 0."""

    channel: int
    height: float
    start: float
    rise: float
    hold: float
    fall: float

    @property
    def end(self) -> float:
        """Time at which the channel is back at 0."""
        return self.start + self.rise + self.hold + self.fall


class Wave(NamedTuple):
    """A channel swings with a period in seconds; the phase in radians."""

    channel: int
    height: float
    period: float
    phase: float


class Timeline:
    """A sum of pulses and waves on channels.

    Args:
        channels: number of channels.
    """

    def __init__(self, channels: int) -> None:
        self.channels = channels
        self.pulses: list[Pulse] = []
        self.waves: list[Wave] = []

    def drift(self, rng: np.random.Generator, channel: int, height: float, shortest: float, longest: float) -> None:
        """Add a slow change: three waves with periods between `shortest` and `longest` seconds."""
        for _ in range(3):
            wave = Wave(channel, height * rng.normal(), rng.uniform(shortest, longest), rng.uniform(0, 2 * np.pi))
            self.waves.append(wave)

    def at(self, times: Array) -> Array:
        """Return the channels (n, channels) at n times in seconds, in ascending order."""
        values = np.zeros((len(times), self.channels))
        for pulse in self.pulses:
            if pulse.start < times[-1] and pulse.end > times[0]:
                top = pulse.start + pulse.rise
                falls = smooth_step(times, top + pulse.hold, pulse.end)
                values[:, pulse.channel] += pulse.height * smooth_step(times, pulse.start, top) * (1 - falls)
        for wave in self.waves:
            values[:, wave.channel] += wave.height * np.sin(2 * np.pi * times / wave.period + wave.phase)
        return values
