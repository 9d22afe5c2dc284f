"""Motion in one video of the embedded set: the time course of an emotion, pose, light and noise."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from mol_fast.data.embedded.action_units import ACTION_UNITS, BLINK, EMOTIONS
from mol_fast.data.embedded.geometry import Similarity, similarity
from mol_fast.vision.sizes import FRAME, WINDOW, interval

_UNITS = {unit: k for k, unit in enumerate(ACTION_UNITS)}
_MIDDLE = (FRAME - 1) / 2


class Motion(NamedTuple):
    """Motion in a video of n frames.

    Attributes:
        strength: float64 (n, 2 units), displacement in pixels by the left and right half of each action unit, in the
            order of `displacement_fields`.
        pose: position of the head in each frame: a similarity batched over frames.
        gain, tilt: float64 (n,), factor of the light in the middle, and its change towards the right border.
        noise: standard deviation of the sensor noise, in grey levels.
    """

    strength: Tensor
    pose: Similarity
    gain: Tensor
    tilt: Tensor
    noise: float


def make_motion(rng: np.random.Generator, emotion: str, frames: int) -> Motion:
    """Draw the motion of a video from onset to offset.

    The time course fills all frames of the windows. The strongest unit reaches about 1 to 3 pixels.

    Args:
        rng: source of all random numbers.
        emotion: one of `EMOTIONS`.
        frames: n, at least 8.
    """
    time = np.arange(frames) / (interval(frames) * WINDOW - 1)
    light = drift(rng, time, 0.015)
    return Motion(
        torch.from_numpy(_strength(rng, emotion, time)),
        _pose(rng, time),
        torch.from_numpy(1 + light),
        torch.from_numpy(drift(rng, time, 0.01)),
        rng.uniform(0.8, 1.8),
    )


def _strength(rng: np.random.Generator, emotion: str, time: np.ndarray) -> np.ndarray:
    strength = np.zeros((len(time), len(_UNITS), 2))

    def add(unit: int, pixels: float, course: np.ndarray) -> None:
        lean = np.clip(rng.normal(0, 0.12), -0.3, 0.3)
        sides = np.clip(pixels * np.array([1 + lean, 1 - lean]), 0, 3)
        strength[:, _UNITS[unit]] += course[:, None] * sides

    combination = EMOTIONS[emotion][rng.integers(len(EMOTIONS[emotion]))]
    peak = rng.uniform(1.3, 3.0)
    onset = rng.uniform(0, 0.2)
    apex = onset + rng.uniform(0.2, 0.35)
    for unit, share in combination.items():
        late = rng.normal(0, 0.03)
        add(unit, share * peak * rng.uniform(0.8, 1.2), course(rng, time, onset + late, apex + late))
    if rng.random() < 0.5:  # another unit takes part a little
        unit = rng.choice([u for u in _UNITS if u not in combination and u != BLINK])
        start = rng.uniform(0, 0.5)
        add(int(unit), peak * rng.uniform(0.1, 0.3), course(rng, time, start, start + rng.uniform(0.2, 0.5)))
    if rng.random() < 0.25:
        start = rng.uniform(0, 0.8)
        add(
            BLINK,
            rng.uniform(0.8, 2.5),
            smooth_step(time, start, start + 0.12) - smooth_step(time, start + 0.14, start + 0.3),
        )
    return strength.reshape(len(time), -1)


def course(rng: np.random.Generator, time: np.ndarray, onset: float, apex: float) -> np.ndarray:
    """Return a time course: rise from onset to apex, short hold, fall that may be incomplete at the end."""
    hold = apex + rng.uniform(0, 0.1)
    left = rng.uniform(0, 0.4)
    return smooth_step(time, onset, apex) * (1 - (1 - left) * smooth_step(time, hold, hold + rng.uniform(0.2, 0.4)))


def smooth_step(time: np.ndarray, start: float, end: float) -> np.ndarray:
    """Return a smooth step from 0 to 1 between the times `start` and `end`."""
    u = np.clip((time - start) / (end - start), 0, 1)
    return u * u * (3 - 2 * u)


def drift(rng: np.random.Generator, time: np.ndarray, amount: float) -> np.ndarray:
    """Draw a slow change that starts at 0."""
    phase = rng.uniform(0, 2 * np.pi)
    wave = np.sin(2 * np.pi * rng.uniform(0.5, 1.5) * time + phase) - np.sin(phase)
    return amount * (rng.normal() * time + 0.4 * rng.normal() * wave)


def _pose(rng: np.random.Generator, time: np.ndarray) -> Similarity:
    """Draw the small error of the alignment, and the drift of the head."""
    unrest = np.exp(rng.normal(0, 0.5))
    scale = np.exp(rng.normal(0, 0.015) + drift(rng, time, 0.001 * unrest))
    angle = np.radians(rng.normal(0, 0.8) + drift(rng, time, 0.08 * unrest))
    x, y = (_MIDDLE + rng.normal(0, 1.0) + drift(rng, time, 0.1 * unrest) for _ in "xy")
    centre = torch.full((2,), _MIDDLE, dtype=torch.float64)
    target = torch.from_numpy(np.stack([x, y], -1))
    return similarity(torch.from_numpy(scale), torch.from_numpy(angle), centre, target)
