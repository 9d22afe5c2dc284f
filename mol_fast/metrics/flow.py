"""End-point error of optical flow, beside the zero-flow error (of predicting no motion)."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

MOVING = 0.1  # px; a pixel moves if its true flow is longer


@dataclass(frozen=True)
class FlowScores:
    """Mean end-point errors in pixels; `zero_` is the error of predicting no motion.

    The errors over moving pixels (true flow longer than 0.1 px) are None if nothing moves.
    """

    error: float
    zero_error: float
    moving_error: float | None
    moving_zero_error: float | None
    pixels: int
    moving_pixels: int


@dataclass(frozen=True)
class FlowSums:
    """Sums of end-point errors in pixels. Add them over batches and folds.

    Raises:
        ValueError: a sum is negative or not finite, or there are more moving pixels than pixels.
    """

    error: float = 0.0
    zero_error: float = 0.0
    moving_error: float = 0.0
    moving_zero_error: float = 0.0
    pixels: int = 0
    moving_pixels: int = 0

    def __post_init__(self) -> None:
        sums = (self.error, self.zero_error, self.moving_error, self.moving_zero_error)
        if not (all(0 <= value < math.inf for value in sums) and 0 <= self.moving_pixels <= self.pixels):
            raise ValueError(f"these sums of flow errors cannot be: {self}")

    def __add__(self, other: "FlowSums") -> "FlowSums":
        return FlowSums(
            error=self.error + other.error,
            zero_error=self.zero_error + other.zero_error,
            moving_error=self.moving_error + other.moving_error,
            moving_zero_error=self.moving_zero_error + other.moving_zero_error,
            pixels=self.pixels + other.pixels,
            moving_pixels=self.moving_pixels + other.moving_pixels,
        )

    def scores(self) -> FlowScores:
        """Return the means over pixels.

        Raises:
            ValueError: there are no pixels.
        """
        if not self.pixels:
            raise ValueError("there is no flow to score")
        moves = self.moving_pixels > 0
        return FlowScores(
            error=self.error / self.pixels,
            zero_error=self.zero_error / self.pixels,
            moving_error=self.moving_error / self.moving_pixels if moves else None,
            moving_zero_error=self.moving_zero_error / self.moving_pixels if moves else None,
            pixels=self.pixels,
            moving_pixels=self.moving_pixels,
        )


def flow_sums(flow: Tensor, flow_true: Tensor) -> FlowSums:
    """Sum the end-point errors of predicted flow, in float64.

    Args:
        flow, flow_true: (B, 2, ...) in pixels, channel 0 = x, 1 = y; any floating type.

    Raises:
        ValueError: the shapes differ or are not (B, 2, ...), or a value is not finite.
    """
    if flow.shape != flow_true.shape or flow.dim() < 2 or flow.shape[1] != 2:
        raise ValueError(f"flow {tuple(flow.shape)} and flow_true {tuple(flow_true.shape)} must be (B, 2, ...)")
    true = flow_true.detach().float()
    error = torch.linalg.vector_norm(flow.detach().float() - true, dim=1)
    zero_error = torch.linalg.vector_norm(true, dim=1)
    moving = zero_error > MOVING
    return FlowSums(
        error=_total(error),
        zero_error=_total(zero_error),
        moving_error=_total(error[moving]),
        moving_zero_error=_total(zero_error[moving]),
        pixels=error.numel(),
        moving_pixels=int(moving.sum()),
    )


def _total(errors: Tensor) -> float:
    total = errors.sum(dtype=torch.float64)
    if not total.isfinite():
        raise ValueError("flow or flow_true has values that are not finite")
    return float(total)
