"""Where the head is, and where the camera sees its points, in the frame that alignment by landmarks gives."""

from typing import NamedTuple

import numpy as np

from mol_fast.data.embedded.motion import drift
from mol_fast.data.heads.assets import Array
from mol_fast.data.heads.landmarks import landmark_vertices
from mol_fast.vision.align import alignment, transform

MOST_YAW, MOST_PITCH = 25.0, 15.0
"""Largest turn of a head to the side, and up or down, in degrees."""
_PIVOT = np.array([0.0, -1.0, -0.9])  # about which a head turns, relative to the eyes, in decimetres


class Pose(NamedTuple):
    """Where a head is in n frames.

    Attributes:
        turns: float64 (n, 3), yaw, pitch and roll in radians.
        places: float64 (n, 3), of the pivot of the neck, in decimetres.
        distance: from the camera to the eyes, in decimetres.
    """

    turns: Array
    places: Array
    distance: float


class View(NamedTuple):
    """What the camera sees of V points in n frames.

    Attributes:
        space: float64 (n, V, 3), the turned points, in decimetres.
        pixels: float64 (n, V, 2), in pixels of the aligned frame.
        nearness: float64 (n, V), 1 / distance along the axis of the camera.
    """

    space: Array
    pixels: Array
    nearness: Array


def draw_pose(rng: np.random.Generator, frames: int, yaw: float, pitch: float) -> Pose:
    """Draw a pose whose mean is at most `yaw` to the side and `pitch` up or down, in degrees, with a little drift.

    Raises:
        ValueError: the angles are out of range.
    """
    if not (0 <= yaw <= MOST_YAW and 0 <= pitch <= MOST_PITCH):
        raise ValueError(
            f"yaw and pitch must be from 0 to {MOST_YAW:g} and from 0 to {MOST_PITCH:g} degrees, got {yaw} and {pitch}"
        )
    time = np.arange(frames) / max(frames - 1, 1)
    unrest = np.exp(rng.normal(0, 0.7))
    mean = np.clip(rng.normal(0, [0.6 * yaw, 0.5 * pitch, 4]), [-yaw, -pitch, -10], [yaw, pitch, 10])
    drifts = np.stack([drift(rng, time, 0.2 * unrest) for _ in range(3)], axis=1)
    places = np.stack([drift(rng, time, 0.005 * unrest) for _ in range(3)], axis=1)
    return Pose(np.radians(mean + drifts), places, float(np.exp(rng.uniform(np.log(3.5), np.log(25)))))


def look(points: Array, pose: Pose, rng: np.random.Generator, size: int) -> View:
    """Turn points (n, V, 3) of a head, see them in perspective, and align them by the landmarks of the first frame.

    The alignment is as inexact as landmarks that a finder finds.
    """
    turned = (points - _PIVOT) @ _rotations(pose.turns).transpose(0, 2, 1)
    space = turned + _PIVOT + pose.places[:, None]
    nearness = 1 / (pose.distance - space[..., 2])
    plane = space[..., :2] * [1, -1] * nearness[..., None]
    marks = plane[0, landmark_vertices()]
    spread = np.ptp(marks[36:48, 0])
    found = marks + rng.normal(0, 0.012 * spread, 2) + rng.normal(0, 0.015 * spread, marks.shape)
    return View(space, transform(plane, alignment(found, size)), nearness)


def _rotations(turns: Array) -> Array:
    """Return rotations (n, 3, 3): first roll, then pitch, then yaw."""
    result = np.tile(np.eye(3), (len(turns), 1, 1))
    for angle, (a, b) in zip((2, 1, 0), ((0, 1), (1, 2), (2, 0)), strict=True):
        step = np.tile(np.eye(3), (len(turns), 1, 1))
        cos, sin = np.cos(turns[:, angle]), np.sin(turns[:, angle])
        step[:, a, a], step[:, b, b], step[:, a, b], step[:, b, a] = cos, cos, -sin, sin
        result = step @ result
    return result
