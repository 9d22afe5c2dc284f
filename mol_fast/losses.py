"""The loss of the joint training, term by term."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .model import MOLOutput


class LossTerms(NamedTuple):
    """Scalars; `total` is the weighted sum of the others."""

    total: Tensor
    expression: Tensor
    flow: Tensor
    landmarks: Tensor


class JointLoss(nn.Module):
    """Cross-entropy, squared flow error over T-1 and landmark error over the distance of the eyes (MOL paper, losses).

    Args:
        expression, flow, landmarks: weights of the terms; the released code uses 1, 10 and 0.5.
    """

    def __init__(self, expression: float = 1.0, flow: float = 10.0, landmarks: float = 0.5) -> None:
        super().__init__()
        self.weights = (expression, flow, landmarks)

    def forward(self, output: MOLOutput, labels: Tensor, flow: Tensor, landmarks: Tensor) -> LossTerms:
        """`labels (B,)`, `flow (B, 2, T-1, H, W)` and `landmarks (B, T, 68, 2)` in pixels (frame 0 unused)."""
        expression = F.cross_entropy(output.logits.float(), labels)
        squared = F.mse_loss(output.flow.float(), flow) / flow.shape[2]
        true = landmarks[:, 1:]
        eyes = torch.linalg.vector_norm(true[:, :, 36:42].mean(dim=2) - true[:, :, 42:48].mean(dim=2), dim=-1)
        error = (output.landmarks.float() - true).abs().sum(dim=(2, 3)) / eyes  # (B, T-1)
        distance = error.sum() / (true.shape[0] * true.shape[2])
        w_expression, w_flow, w_landmarks = self.weights
        total = w_expression * expression + w_flow * squared + w_landmarks * distance
        return LossTerms(total, expression, squared, distance)
