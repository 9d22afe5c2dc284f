"""The loss of the joint training, term by term."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mol_fast.model import MOLOutput


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

    Outputs in half precision are compared in float32.

    Raises:
        ValueError: flow or landmarks of another shape than the output's.
    """

    def __init__(self, expression: float = 1.0, flow: float = 10.0, landmarks: float = 0.5) -> None:
        super().__init__()
        self.weights = (expression, flow, landmarks)

    def forward(self, output: MOLOutput, labels: Tensor, flow: Tensor, landmarks: Tensor) -> LossTerms:
        """`labels (B,)`, `flow (B, 2, T-1, H, W)` and `landmarks (B, T, 68, 2)` in pixels (frame 0 unused)."""
        true = landmarks[:, 1:]
        _check_shape("flow", flow, output.flow)
        _check_shape("landmarks without frame 0", true, output.landmarks)
        expression = F.cross_entropy(_exact(output.logits), labels)
        squared = F.mse_loss(_exact(output.flow), flow) / flow.shape[2]
        eyes = torch.linalg.vector_norm(true[:, :, 36:42].mean(dim=2) - true[:, :, 42:48].mean(dim=2), dim=-1)
        error = (_exact(output.landmarks) - true).abs().sum(dim=(2, 3)) / eyes  # (B, T-1)
        distance = error.sum() / (true.shape[0] * true.shape[2])
        w_expression, w_flow, w_landmarks = self.weights
        total = w_expression * expression + w_flow * squared + w_landmarks * distance
        return LossTerms(total, expression, squared, distance)


def _exact(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _check_shape(name: str, value: Tensor, estimate: Tensor) -> None:
    if value.shape != estimate.shape:
        raise ValueError(f"{name} must have shape {tuple(estimate.shape)}, got {tuple(value.shape)}")
