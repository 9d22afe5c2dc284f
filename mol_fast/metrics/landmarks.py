"""Error of 68 iBUG landmarks, relative to the inter-ocular distance."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from mol_fast.vision.ibug import LEFT_EYE, RIGHT_EYE

FAILURE = 10.0  # % of the inter-ocular distance; a frame fails if its mean landmark error is larger


@dataclass(frozen=True)
class LandmarkScores:
    """Landmark scores over frames.

    Attributes:
        error: mean distance from the true landmarks, in % of the inter-ocular distance.
        failure_rate: share (0..1) of the frames whose mean error is over 10 %.
        frames: number of frames.
    """

    error: float
    failure_rate: float
    frames: int


@dataclass(frozen=True)
class LandmarkSums:
    """Sums over frames of their mean landmark errors, in % of the inter-ocular distance. Add them over batches.

    Raises:
        ValueError: the sum is negative or not finite, or there are more failures than frames.
    """

    error: float = 0.0
    failures: int = 0
    frames: int = 0

    def __post_init__(self) -> None:
        if not (0 <= self.error < math.inf and 0 <= self.failures <= self.frames):
            raise ValueError(f"these sums of landmark errors cannot be: {self}")

    def __add__(self, other: "LandmarkSums") -> "LandmarkSums":
        return LandmarkSums(self.error + other.error, self.failures + other.failures, self.frames + other.frames)

    def scores(self) -> LandmarkScores:
        """Return the means over frames.

        Raises:
            ValueError: there are no frames.
        """
        if not self.frames:
            raise ValueError("there are no landmarks to score")
        return LandmarkScores(self.error / self.frames, self.failures / self.frames, self.frames)


def landmark_errors(landmarks: Tensor, landmarks_true: Tensor) -> Tensor:
    """Return the mean landmark error of each frame, in % of the inter-ocular distance.

    The inter-ocular distance is the distance of the true eye centres: the means of iBUG points 36-41 and 42-47.

    Args:
        landmarks, landmarks_true: (..., 68, 2), pixels.

    Returns:
        (...) in float64.

    Raises:
        ValueError: the shapes differ or are not (..., 68, 2), the eyes coincide, or a value is not finite.
    """
    if landmarks.shape != landmarks_true.shape or landmarks.shape[-2:] != (68, 2):
        raise ValueError(
            f"landmarks {tuple(landmarks.shape)} and landmarks_true {tuple(landmarks_true.shape)} must be (..., 68, 2)"
        )
    true = landmarks_true.detach().double()
    eyes = true[..., LEFT_EYE, :].mean(-2) - true[..., RIGHT_EYE, :].mean(-2)
    distance = torch.linalg.vector_norm(landmarks.detach().double() - true, dim=-1).mean(-1)
    errors = 100 * distance / torch.linalg.vector_norm(eyes, dim=-1)
    if not errors.isfinite().all():
        raise ValueError("landmarks are not finite, or the eyes of landmarks_true coincide")
    return errors


def landmark_sums(landmarks: Tensor, landmarks_true: Tensor) -> LandmarkSums:
    """Sum `landmark_errors` over frames."""
    errors = landmark_errors(landmarks, landmarks_true)
    return LandmarkSums(float(errors.sum()), int((errors > FAILURE).sum()), errors.numel())
