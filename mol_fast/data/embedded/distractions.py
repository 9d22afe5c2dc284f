"""What moves or changes in a long video and is no expression: blinks, gaze, the head, speech, light, small unrest.

The fields are plausible simplifications, not measurements.
"""

from typing import Final

import numpy as np
import torch
from torch import Tensor

from mol_fast.data.embedded.action_units import ACTION_UNITS, BLINK, Bump, displacement_fields
from mol_fast.data.embedded.timeline import Pulse, Timeline
from mol_fast.vision.align import eye_centres

_JAW, _GAZE_X, _GAZE_Y = range(3)
_UNITS: dict[int, tuple[Bump, ...]] = {
    _JAW: (Bump((57,), (-0.10, 0.05), (0, 1), (0.24, 0.14)), Bump((8, 57), (-0.15, 0), (0, 1), (0.30, 0.28))),
    _GAZE_X: (Bump((37, 38, 40, 41), (0, 0), (1, 0), (0.09, 0.07)),),
    _GAZE_Y: (Bump((37, 38, 40, 41), (0, 0), (0, 1), (0.09, 0.07)),),
}

# channels of a timeline: the halves of the action units, the halves of the fields above, then these
_OWN: Final = 2 * len(ACTION_UNITS)
YAW, PITCH, X, Y, ANGLE, SCALE, GAIN, TILT = range(_OWN + 2 * len(_UNITS), _OWN + 2 * len(_UNITS) + 8)
FIELDS: Final = PITCH + 1
"""Channels that are fields of displacement, in pixels; yaw and pitch in radians. They come first."""
CHANNELS: Final = TILT + 1


def unit_channels(unit: int) -> tuple[int, int]:
    """Return the channels of the left and the right half of an action unit."""
    place = 2 * list(ACTION_UNITS).index(unit)
    return place, place + 1


def distraction_fields(landmarks: Tensor, points: Tensor) -> Tensor:
    """Return the fields of distractions and turns, (fields, 2, P), at points (P, 2) of a neutral face.

    A turn by a small angle moves a point by the angle times the depth of the head there.
    """
    fields = displacement_fields(landmarks, points, _UNITS).flatten(0, 1).mT
    depth = _depth(landmarks, points)
    still = torch.zeros_like(depth)
    turns = torch.stack([torch.stack([depth, still]), torch.stack([still, depth])])
    return torch.cat([fields, turns])


def add_blinks(rng: np.random.Generator, timeline: Timeline, seconds: float) -> None:
    """Add a blink about every 4 seconds, some of them double; the brows move a little with the lids."""
    time = rng.exponential(4)
    while time < seconds:
        height, brow = rng.uniform(1.6, 2.8), rng.uniform(0, 0.2)
        close, open_ = rng.uniform(0.07, 0.12), rng.uniform(0.12, 0.22)
        for unit, pixels in ((BLINK, height), (4, brow)):
            for channel in unit_channels(unit):
                timeline.pulses.append(Pulse(channel, pixels, time, close, rng.uniform(0.01, 0.05), open_))
        time += rng.uniform(0.35, 0.5) if rng.random() < 0.1 else 0.6 + rng.exponential(3.5)


def add_gaze(rng: np.random.Generator, timeline: Timeline, seconds: float) -> None:
    """Add jumps of both eyes, which take 50 ms; the lids follow a look down or up a little."""
    time = rng.exponential(1.5)
    while time < seconds:
        stay = 0.2 + rng.exponential(1.2)
        across, down = rng.normal(0, 0.8), rng.normal(0, 0.4)
        left = _OWN + 2 * _GAZE_X
        for channel, pixels in (
            (left, across),
            (left + 1, -across),  # the field of the right half is the mirror image
            *((_OWN + 2 * _GAZE_Y + half, down) for half in (0, 1)),
            *((channel, 0.5 * down) for channel in unit_channels(BLINK)),
        ):
            timeline.pulses.append(Pulse(channel, float(np.clip(pixels, -1.5, 1.5)), time, 0.05, stay, 0.05))
        time += stay + 0.1 + rng.exponential(0.8)


def add_head(rng: np.random.Generator, timeline: Timeline, seconds: float) -> None:
    """Add drift of the head and of its alignment, and a turn or nod about every 10 seconds."""
    for channel, height in ((X, 0.7), (Y, 0.7), (ANGLE, np.radians(0.4)), (SCALE, 0.004), (YAW, 0.02), (PITCH, 0.015)):
        timeline.drift(rng, channel, height, 3, 12)
    for channel, height in ((X, 0.04), (Y, 0.04), (ANGLE, np.radians(0.04)), (SCALE, 0.0005)):
        timeline.drift(rng, channel, height, 0.4, 1.2)
    time = rng.exponential(8)
    while time < seconds:
        rise, stay, fall = rng.uniform(0.4, 1.2), rng.uniform(0.3, 3), rng.uniform(0.4, 1.2)
        for channel, height in (
            (YAW, np.radians(rng.normal(0, 4))),
            (PITCH, np.radians(rng.normal(0, 3))),
            (X, rng.normal(0, 1)),
            (Y, rng.normal(0, 1)),
            (ANGLE, np.radians(rng.normal(0, 0.8))),
            (SCALE, rng.normal(0, 0.006)),
        ):
            timeline.pulses.append(Pulse(channel, float(height), time, rise, stay, fall))
        time += rise + stay + fall + rng.exponential(6)


def add_unrest(rng: np.random.Generator, timeline: Timeline) -> None:
    """Let every action unit wander by some hundredths of a pixel: no living face is quite still."""
    for channel in range(_OWN):
        timeline.drift(rng, channel, 0.02, 0.8, 4)


def add_speech(rng: np.random.Generator, timeline: Timeline, start: float, end: float) -> None:
    """Add syllables, about 4 a second: the jaw opens and the corners of the mouth move."""
    time = start
    while time < end:
        rise, hold, fall = rng.uniform(0.06, 0.12), rng.uniform(0.01, 0.06), rng.uniform(0.06, 0.12)
        jaw, corners = rng.uniform(0.6, 2.2), rng.normal(0, 0.4)
        for channel in (_OWN + 2 * _JAW, _OWN + 2 * _JAW + 1):
            timeline.pulses.append(Pulse(channel, jaw, time, rise, hold, fall))
        for channel in unit_channels(20):
            timeline.pulses.append(Pulse(channel, corners, time, rise, hold, fall))
        time += rise + hold + fall + rng.uniform(-0.04, 0.1)


def add_light(rng: np.random.Generator, timeline: Timeline) -> None:
    """Let the light and its direction change slowly, by some percent."""
    timeline.drift(rng, GAIN, 0.04, 4, 20)
    timeline.drift(rng, TILT, 0.025, 4, 20)


def _depth(landmarks: Tensor, points: Tensor) -> Tensor:
    """Return the depth of the head (P,) in pixels before the plane of its eyes' corners: a dome and a nose."""
    left, right = eye_centres(landmarks.numpy())
    distance = float(np.hypot(*(right - left)))
    depth = points.new_zeros(len(points))
    for at, height, spread in (
        ((27, 30, 33), 1.0, (0.8, 1.1)),
        ((30,), 0.28, (0.13, 0.15)),
        ((28, 29), 0.12, (0.1, 0.2)),
    ):
        offset = (points - landmarks[list(at)].mean(0)) / (landmarks.new_tensor(spread) * distance)
        depth += height * distance * torch.exp(-0.5 * offset.square().sum(-1))
    return depth - depth.new_tensor(distance * 0.6)
