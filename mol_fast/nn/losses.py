"""The loss of the joint training: terms and weighted sum."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mol_fast.nn.model import MOLOutput
from mol_fast.vision.ibug import LEFT_EYE, RIGHT_EYE


class LossTerms(NamedTuple):
    """Terms of the loss, scalars. `total` is the weighted sum of the others. Tasks that the model lacks are None."""

    total: Tensor
    expression: Tensor
    flow: Tensor | None = None
    landmarks: Tensor | None = None

    def detach(self) -> "LossTerms":
        """Return the terms without their graph."""
        flow, landmarks = (None if term is None else term.detach() for term in (self.flow, self.landmarks))
        return LossTerms(self.total.detach(), self.expression.detach(), flow, landmarks)

    def mean(self, over: Callable[[Tensor], Any]) -> "LossTerms":
        """Average every term over processes, in one all-reduce.

        Args:
            over: averages a tensor over processes.
        """
        held = [place for place, term in enumerate(self) if term is not None]
        values = over(torch.stack([term for term in self.detach() if term is not None])).unbind()
        found: dict[int, Tensor] = dict(zip(held, values, strict=True))
        return LossTerms(found[0], found[1], found.get(2), found.get(3))


class JointLoss(nn.Module):
    """Weighted sum of cross-entropy, flow error and landmark error (MOL paper, losses).

    The flow error is the mean squared error / (T-1); the landmark error is relative to the inter-ocular distance, and
    frames of clips and stills count equally in it. Outputs in half precision are compared in float32. Tasks that the
    model lacks add nothing.

    Args:
        expression, flow, landmarks: weights of the terms; the official code uses 1, 10 and 0.5.
        class_weights: factors `(K,)` on the cross-entropy of clips of each class. Default: 1. The sum over a batch is
            divided by the number of clips, not by the sum of weights, so that every class has its weight over an epoch
            whatever classes a batch mixes.

    Raises:
        ValueError: flow or landmarks differ in shape from the output.
    """

    class_weights: Tensor | None

    def __init__(
        self,
        expression: float = 1.0,
        flow: float = 10.0,
        landmarks: float = 0.5,
        class_weights: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.weights = (expression, flow, landmarks)
        self.register_buffer("class_weights", class_weights, persistent=False)

    def forward(
        self,
        output: MOLOutput,
        labels: Tensor,
        flow: Tensor,
        landmarks: Tensor,
        stills: tuple[Tensor, Tensor] | None = None,
    ) -> LossTerms:
        """Compute the loss.

        Args:
            output: output of the model.
            labels: `(B,)`, true classes.
            flow: `(B, 2, T-1, H, W)`, true flow in pixels.
            landmarks: `(B, T, 68, 2)`, true landmarks in pixels; frame 0 is ignored.
            stills: estimated and true landmarks of single frames, both `(N, 68, 2)`.
        """
        w_expression, w_flow, w_landmarks = self.weights
        expression = self._expression(_exact(output.logits), labels)
        total = w_expression * expression
        squared = distance = None
        if output.flow is not None:
            squared = _flow_error(output.flow, flow)
            total = total + w_flow * squared
        if output.landmarks is not None:
            distance = _landmark_error(output.landmarks, landmarks[:, 1:])
            if stills is not None:
                frames, count = output.landmarks.shape[:2].numel(), len(stills[0])
                of_stills = output.landmarks.shape[1] * _landmark_error(*(points[:, None] for points in stills))
                distance = torch.lerp(distance, of_stills, count / (frames + count))
            total = total + w_landmarks * distance
        return LossTerms(total, expression, squared, distance)

    def _expression(self, logits: Tensor, labels: Tensor) -> Tensor:
        if self.class_weights is None:
            return F.cross_entropy(logits, labels)
        return F.cross_entropy(logits, labels, self.class_weights, reduction="sum") / len(labels)


def _flow_error(flow: Tensor, true: Tensor) -> Tensor:
    """Return the mean squared error over all elements, divided by T-1."""
    _check_shape("flow", true, flow)
    return F.mse_loss(_exact(flow), true) / true.shape[2]


def _landmark_error(landmarks: Tensor, true: Tensor) -> Tensor:
    """Return the landmark error, averaged over clips and points.

    It is the sum over frames of |dx| + |dy|, divided by the inter-ocular distance.
    """
    _check_shape("landmarks without frame 0", true, landmarks)
    eyes = torch.linalg.vector_norm(true[:, :, LEFT_EYE].mean(dim=2) - true[:, :, RIGHT_EYE].mean(dim=2), dim=-1)
    error = (_exact(landmarks) - true).abs().sum(dim=(2, 3)) / eyes  # (B, T-1)
    return error.sum() / (true.shape[0] * true.shape[2])


def _exact(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _check_shape(name: str, value: Tensor, estimate: Tensor) -> None:
    if value.shape != estimate.shape:
        raise ValueError(f"{name} must have shape {tuple(estimate.shape)}, got {tuple(value.shape)}")
