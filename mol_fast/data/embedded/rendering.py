"""Render a moving face: frames, exact landmarks and exact flow.

In frame t, a point x of the neutral face is at phi_t(x) = P_t(x + D_t(x)). D_t is the sum of the fields of the action
units, P_t is the pose. Frame t shows texture(phi_t^-1(y)) at pixel y. Landmarks are phi_t(landmarks). The flow from
frame a to frame b is phi_b(phi_a^-1(y)) - y. Light and noise change grey levels only.

Everything is computed in double precision. Rounding, which differs between machines and numbers of threads, vanishes
when the results are stored.
"""

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from mol_fast.data.embedded.geometry import Similarity, pixel_grid, sample
from mol_fast.data.embedded.motion import Motion
from mol_fast.data.embedded.subjects import TEXELS, Subject
from mol_fast.vision.sizes import FRAME, PAIRS

STEEPEST = 0.6  # largest slope of a displacement field, pixels per pixel; below 1, the face never folds
_EXACT = 5e-4  # pixels


class MovingFace(NamedTuple):
    """The maps phi_t of n frames.

    Attributes:
        displacement: (n, 2, f, f), on a grid of one pixel that starts `margin` pixels before the frame.
        pose: a similarity batched over the frames.
        margin: pixels.
    """

    displacement: Tensor
    pose: Similarity
    margin: int

    def displace(self, points: Tensor) -> Tensor:
        """Return D_t at points (n, P, 2) of the neutral face."""
        return sample(self.displacement, points + self.margin).mT

    def forward(self, points: Tensor) -> Tensor:
        """Return phi_t at points (n, P, 2) of the neutral face."""
        return self.pose(points + self.displace(points))

    def inverse(self, points: Tensor) -> Tensor:
        """Return the points (n, P, 2) of the neutral face that appear at `points` (P, 2) in each frame.

        Uses fixed-point iteration: D_t changes by at most 0.6 px per pixel, so each step shrinks the error.
        """
        still = self.pose.inverse()(points)
        result, change = still, math.inf
        while change > _EXACT:
            before, result = result, still - self.displace(result)
            change = float(torch.linalg.vector_norm(result - before, ord=math.inf))
        return result

    def later(self, interval: int, count: int) -> "MovingFace":
        """Return the maps of `count` frames, starting at frame `interval`."""
        frames = slice(interval, interval + count)
        pose = Similarity(self.pose.matrix[frames], self.pose.shift[frames])
        return MovingFace(self.displacement[frames], pose, self.margin)


def moving_face(subject: Subject, motion: Motion) -> MovingFace:
    """Combine the fields of a subject by a motion. Scale down a motion that is too steep to invert."""
    count, side = len(motion.strength), subject.fields.shape[-1]
    displacement = (motion.strength @ subject.fields.flatten(1)).view(count, 2, side, side)
    steepness = sum(displacement.diff(dim=axis).square().sum(1).max() for axis in (-1, -2)) ** 0.5
    return MovingFace(displacement * (STEEPEST / max(STEEPEST, float(steepness))), motion.pose, subject.margin)


def render_frames(rng: np.random.Generator, subject: Subject, motion: Motion, neutral: Tensor, size: int) -> Tensor:
    """Render frames, uint8 (n, size, size), that show the points `neutral` (n, size * size, 2) of the neutral face."""
    texels = (neutral + subject.margin + 0.5) * TEXELS - 0.5
    texture = subject.texture.expand(len(neutral), -1, -1, -1)
    grey = sample(texture, texels, "bicubic").view(-1, size, size)
    across = torch.linspace(-1, 1, size, dtype=torch.float64)
    grey = grey * (motion.gain[:, None, None] + motion.tilt[:, None, None] * across)
    grey = grey + motion.noise * torch.from_numpy(rng.standard_normal(grey.shape))
    return grey.round().clamp(0, 255).to(torch.uint8)


def render_clip(
    rng: np.random.Generator, subject: Subject, motion: Motion, interval: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Render frames uint8 (n, 144, 144), landmarks float32 (n, 68, 2), flow float16 (7 interval, 2, 144, 144)."""
    face = moving_face(subject, motion)
    grid = pixel_grid(FRAME, FRAME)
    neutral = face.inverse(grid)
    count = PAIRS * interval
    flow = face.later(interval, count).forward(neutral[:count]) - grid
    landmarks = face.forward(subject.landmarks.expand(len(neutral), -1, -1))
    return (
        render_frames(rng, subject, motion, neutral, FRAME),
        landmarks.float(),
        flow.mT.reshape(count, 2, FRAME, FRAME).half(),
    )
