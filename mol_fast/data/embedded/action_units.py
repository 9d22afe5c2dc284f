"""Facial action units as smooth displacement fields anchored at landmarks, and emotions made of them.

The units follow the Facial Action Coding System (Ekman, Friesen and Hager, 2002). The fields are plausible
simplifications, not measurements.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mol_fast.vision.align import eye_centres
from mol_fast.vision.ibug import MIRROR


@dataclass(frozen=True)
class Bump:
    """A Gaussian bump of displacement in the left half of the picture; the right half gets its mirror image.

    Attributes:
        at: landmarks; their mean anchors the bump.
        shift: offset of the centre from the anchor, (x, y) in inter-ocular distances.
        pull: direction and relative size of the displacement at the centre, (x, y).
        spread: standard deviations in x and y, in inter-ocular distances.
    """

    at: tuple[int, ...]
    shift: tuple[float, float]
    pull: tuple[float, float]
    spread: tuple[float, float]


BLINK = 45

ACTION_UNITS: dict[int, tuple[Bump, ...]] = {
    1: (Bump((20, 21), (0.02, -0.05), (0, -1), (0.16, 0.15)),),  # inner brow raiser
    2: (  # outer brow raiser
        Bump((17, 18), (-0.02, -0.05), (0, -1), (0.18, 0.15)),
        Bump((19,), (0, -0.06), (0, -0.4), (0.16, 0.14)),
    ),
    4: (Bump((20, 21), (0.05, -0.02), (0.45, 1), (0.20, 0.14)),),  # brow lowerer
    6: (  # cheek raiser
        Bump((36, 48), (0, -0.05), (0.1, -1), (0.25, 0.20)),
        Bump((40, 41), (0, 0.05), (0, -0.6), (0.16, 0.08)),
        Bump((36,), (-0.08, 0.02), (0.5, -0.1), (0.10, 0.10)),
    ),
    7: (  # lid tightener
        Bump((40, 41), (0, 0.02), (0, -0.9), (0.16, 0.08)),
        Bump((37, 38), (0, -0.02), (0, 0.6), (0.15, 0.07)),
    ),
    9: (  # nose wrinkler
        Bump((31,), (-0.03, -0.02), (0, -1), (0.13, 0.14)),
        Bump((28,), (-0.08, 0), (0, -0.6), (0.12, 0.12)),
        Bump((21,), (0.03, 0), (0.2, 0.5), (0.12, 0.10)),
        Bump((49, 50), (0, 0), (0, -0.5), (0.14, 0.10)),
    ),
    10: (  # upper lip raiser
        Bump((50,), (-0.02, 0), (0, -1), (0.17, 0.10)),
        Bump((31, 49), (-0.06, 0), (-0.2, -0.7), (0.15, 0.14)),
    ),
    12: (  # lip corner puller
        Bump((48,), (0, 0), (-0.75, -0.75), (0.20, 0.18)),
        Bump((31, 48), (-0.12, 0), (-0.2, -0.4), (0.20, 0.15)),
    ),
    14: (Bump((48,), (0, 0), (1, 0.1), (0.15, 0.12)),),  # dimpler
    15: (Bump((48,), (0, 0.03), (-0.15, 1), (0.17, 0.14)),),  # lip corner depressor
    17: (  # chin raiser
        Bump((57,), (-0.10, 0.05), (0, -1), (0.22, 0.13)),
        Bump((8, 57), (-0.10, 0), (0, -0.8), (0.22, 0.15)),
    ),
    20: (Bump((48,), (0, 0.02), (-1, 0.2), (0.20, 0.15)),),  # lip stretcher
    24: (  # lip pressor
        Bump((50, 51), (0, 0), (0, 0.8), (0.20, 0.08)),
        Bump((57, 58), (0, 0), (0, -0.8), (0.20, 0.08)),
        Bump((48,), (0, 0), (0.5, 0), (0.12, 0.09)),
    ),
    BLINK: (
        Bump((37, 38), (0, 0), (0, 1), (0.17, 0.08)),
        Bump((40, 41), (0, 0.03), (0, -0.15), (0.15, 0.06)),
    ),
}

# The combinations of units that express each emotion, with the relative strength of each unit.
EMOTIONS: dict[str, tuple[dict[int, float], ...]] = {
    "surprise": ({1: 1.0, 2: 1.0}, {1: 1.0, 2: 0.6}, {1: 0.6, 2: 1.0}),
    "happiness": ({6: 0.6, 12: 1.0}, {12: 1.0}, {6: 1.0, 12: 0.7}),
    "disgust": ({4: 0.6, 9: 1.0}, {4: 1.0, 7: 0.6}, {4: 0.5, 7: 0.5, 10: 1.0}),
    "repression": ({15: 1.0, 17: 0.8}, {14: 1.0, 17: 0.6, 24: 0.6}, {15: 1.0, 24: 0.5}),
    "others": ({7: 0.4, 20: 1.0}, {1: 0.9, 4: 0.9}, {1: 0.6, 20: 1.0}),
}


def displacement_fields(
    landmarks: Tensor, points: Tensor, units: Mapping[int, tuple[Bump, ...]] = ACTION_UNITS
) -> Tensor:
    """Return the fields of units at points of a neutral face.

    Args:
        landmarks: (68, 2) of the neutral face, with level eyes.
        points: (P, 2).
        units: the bumps of each unit.

    Returns:
        Displacements (units, 2, P, 2) in the order of `units`: first the half anchored on the left, then the
        half on the right. Every unit is scaled so that the sum of its halves has a largest displacement of 1.
    """
    fields = torch.stack(
        [
            torch.stack([_half(bumps, landmarks, points, mirrored) for mirrored in (False, True)])
            for bumps in units.values()
        ]
    )
    return fields / fields.sum(1, keepdim=True).norm(dim=-1, keepdim=True).amax(2, keepdim=True)


def _half(bumps: tuple[Bump, ...], landmarks: Tensor, points: Tensor, mirrored: bool) -> Tensor:
    """Return the field (P, 2) of one half of a unit."""
    left, right = eye_centres(landmarks.numpy())
    distance = float(np.hypot(*(right - left)))
    side = landmarks.new_tensor([-1 if mirrored else 1, 1])
    field = torch.zeros_like(points)
    for bump in bumps:
        at = [MIRROR[k] if mirrored else k for k in bump.at]
        centre = landmarks[at].mean(0) + side * landmarks.new_tensor(bump.shift) * distance
        offset = (points - centre) / (landmarks.new_tensor(bump.spread) * distance)
        weight = torch.exp(-0.5 * offset.square().sum(-1, keepdim=True))
        field += weight * (side * landmarks.new_tensor(bump.pull))
    return field
