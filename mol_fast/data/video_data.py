"""The content of a prepared video, and the one check of it: at writing, and before it is used."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from mol_fast.vision.ibug import LEFT_EYE, RIGHT_EYE
from mol_fast.vision.sizes import FRAME, PAIRS, WINDOW, interval

LEAST_EYE_DISTANCE = 1.0
"""Least distance of the eye centres in pixels; landmark errors are divided by it. It is about 30 in a frontal face."""
_LARGEST_HALF = 0x7BFF  # bits of the largest finite float16


class VideoData(NamedTuple):
    """Content of a video of n frames.

    Attributes:
        frames: uint8 (n, 144, 144), grey.
        landmarks: float32 (n, 68, 2), (x, y) in pixels.
        flow: float16 (7 * (n // 8), 2, 144, 144), in pixels.
    """

    frames: Tensor
    landmarks: Tensor
    flow: Tensor


def shape_problem(data: VideoData) -> str | None:
    """Return what is wrong with the shapes and dtypes of a video, or None."""
    n = len(data.frames) if data.frames.ndim else 0
    expected = {
        "frames": ((n, FRAME, FRAME), torch.uint8),
        "landmarks": ((n, 68, 2), torch.float32),
        "flow": ((PAIRS * interval(n), 2, FRAME, FRAME), torch.float16),
    }
    for (name, (shape, dtype)), tensor in zip(expected.items(), data, strict=True):
        if tuple(tensor.shape) != shape or tensor.dtype != dtype:
            return f"{name} is {tensor.dtype} {tuple(tensor.shape)}, must be {dtype} {shape}"
    return None if n >= WINDOW else f"the video has {n} frames, at least {WINDOW} are needed"


def value_problem(data: VideoData) -> str | None:
    """Return what is wrong with the values of a video of the right shapes, or None. Reads all of it.

    Landmarks and flow must be finite, landmarks at most one frame's width outside the frame, and the eyes apart.
    """
    landmarks = data.landmarks.numpy()
    eyes = landmarks[:, LEFT_EYE].mean(1) - landmarks[:, RIGHT_EYE].mean(1)
    outside = (landmarks < -FRAME) | (landmarks > 2 * FRAME)
    for fault, frames in (
        ("are not finite", ~np.isfinite(landmarks).all((1, 2))),
        (f"lie more than {FRAME} pixels outside the frame", outside.any((1, 2))),
        ("have both eyes in one place", np.hypot(*eyes.T) < LEAST_EYE_DISTANCE),
    ):
        if frames.any():
            return f"the landmarks of frame {frames.argmax()} {fault}"
    # the bits of a float16 without its sign grow with its value, up to infinity and NaN: 20 times faster than isfinite
    if (data.flow.numpy().view(np.uint16) & 0x7FFF).max() > _LARGEST_HALF:
        return "the flow is not finite"
    return None
