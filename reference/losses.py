"""The loss of the joint training: three terms and their weighted sum. The term of action units is beyond the paper."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .model import Output


@dataclass
class Losses:
    """The terms and their weighted sum."""

    expression: Tensor
    flow: Tensor
    landmarks: Tensor
    total: Tensor


def losses(
    output: Output,
    labels: Tensor,
    flow: Tensor,
    landmarks: Tensor,
    weights: tuple[float, float, float] = (1.0, 10.0, 0.5),
) -> Losses:
    """Compute cross-entropy, squared flow error / (T-1), and landmark error / inter-ocular distance.

    `labels (B,)`, `flow (B, 2, T-1, H, W)`, `landmarks (B, T, 68, 2)`; landmarks of frame 0 are ignored.
    """
    pairs = flow.shape[2]
    expression = F.cross_entropy(output.logits, labels)
    squared = ((output.flow - flow) ** 2).mean() / pairs
    distance = expression.new_zeros(())
    for t in range(pairs):
        for predicted, true in zip(output.landmarks[:, t], landmarks[:, t + 1], strict=True):
            eyes = (true[36:42].mean(dim=0) - true[42:48].mean(dim=0)).norm()
            distance = distance + (predicted - true).abs().sum() / eyes
    term = distance / (68 * len(labels))
    total = weights[0] * expression + weights[1] * squared + weights[2] * term
    return Losses(expression, squared, term, total)


def unit_loss(logits: Tensor, truth: Tensor) -> Tensor:
    """Compute the mean binary cross-entropy of action units, `logits` and `truth (B, U)`; a truth of -1 is unknown."""
    known = [
        F.binary_cross_entropy_with_logits(logits[b, u], truth[b, u].to(logits.dtype))
        for b in range(truth.shape[0])
        for u in range(truth.shape[1])
        if truth[b, u] != -1
    ]
    return torch.stack(known).mean()
