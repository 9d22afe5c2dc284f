"""The loss of the joint training: terms and weighted sum."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from mol_fast.nn.model import MOLUnitsOutput, Output
from mol_fast.nn.sync import processes
from mol_fast.vision.facs import UNKNOWN
from mol_fast.vision.ibug import LEFT_EYE, RIGHT_EYE


class LossTerms(NamedTuple):
    """Terms of the loss, scalars. `total` is the weighted sum of the others. Tasks that the model lacks are None."""

    total: Tensor
    expression: Tensor
    flow: Tensor | None = None
    landmarks: Tensor | None = None
    units: Tensor | None = None

    def detach(self) -> "LossTerms":
        """Return the terms without their graph."""
        tasks = (None if term is None else term.detach() for term in self[2:])
        return LossTerms(self.total.detach(), self.expression.detach(), *tasks)

    def mean(self, over: Callable[[Tensor], Any]) -> "LossTerms":
        """Average every term over processes, in one all-reduce.

        Args:
            over: averages a tensor over processes.
        """
        held = [place for place, term in enumerate(self) if term is not None]
        values = over(torch.stack([term for term in self.detach() if term is not None])).unbind()
        found: dict[int, Tensor] = dict(zip(held, values, strict=True))
        return LossTerms(found[0], found[1], *map(found.get, range(2, len(self))))


class JointLoss(nn.Module):
    """Weighted sum of cross-entropy, flow error and landmark error (MOL paper, losses).

    The flow error is the mean squared error / (T-1); the landmark error is relative to the inter-ocular distance, and
    frames of clips and stills count equally in it. Outputs in half precision are compared in float32. Tasks that the
    model lacks add nothing.

    Beyond the paper, action units add their binary cross-entropy, the mean over all units and clips whose truth is
    known. If `synchronised`, it is the mean over the whole batch of all processes.

    Args:
        expression, flow, landmarks: weights of the terms; the official code uses 1, 10 and 0.5.
        class_weights: factors `(K,)` on the cross-entropy of clips of each class. Default: 1. The sum over a batch is
            divided by the number of clips, not by the sum of weights, so that every class has its weight over an epoch
            whatever classes a batch mixes.
        units: weight of the term of action units.

    Raises:
        ValueError: flow, landmarks or units differ in shape from the output, or units are missing.
    """

    class_weights: Tensor | None
    synchronised = False

    def __init__(
        self,
        expression: float = 1.0,
        flow: float = 10.0,
        landmarks: float = 0.5,
        class_weights: Tensor | None = None,
        units: float = 1.0,
    ) -> None:
        super().__init__()
        self.weights = (expression, flow, landmarks, units)
        self.register_buffer("class_weights", class_weights, persistent=False)

    def forward(
        self,
        output: Output,
        labels: Tensor,
        flow: Tensor,
        landmarks: Tensor,
        stills: tuple[Tensor, Tensor] | None = None,
        units: Tensor | None = None,
    ) -> LossTerms:
        """Compute the loss.

        Args:
            output: output of the model.
            labels: `(B,)`, true classes.
            flow: `(B, 2, T-1, H, W)`, true flow in pixels.
            landmarks: `(B, T, 68, 2)`, true landmarks in pixels; frame 0 is ignored.
            stills: estimated and true landmarks of single frames, both `(N, 68, 2)`.
            units: `(B, 12)`, truth of the action units, see `mol_fast.vision.facs.unit_truth`.
        """
        w_expression, w_flow, w_landmarks, w_units = self.weights
        expression = self._expression(_exact(output.logits), labels)
        total = w_expression * expression
        squared = distance = entropy = None
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
        if isinstance(output, MOLUnitsOutput):
            entropy = self._units(_exact(output.units), units)
            total = total + w_units * entropy
        return LossTerms(total, expression, squared, distance, entropy)

    def _expression(self, logits: Tensor, labels: Tensor) -> Tensor:
        if self.class_weights is None:
            return F.cross_entropy(logits, labels)
        return F.cross_entropy(logits, labels, self.class_weights, reduction="sum") / len(labels)

    def _units(self, logits: Tensor, true: Tensor | None) -> Tensor:
        """Return the mean binary cross-entropy over units and clips whose truth is known; 0 if none is."""
        if true is None:
            raise ValueError("units must be given for a model with the task units")
        _check_shape("units", true, logits)
        known = true != UNKNOWN
        weights = known.to(logits.dtype)
        entropy = F.binary_cross_entropy_with_logits(logits, true.to(logits.dtype), weights, reduction="sum")
        count, parts = known.sum(), 1
        if self.synchronised and processes() > 1:
            parts = processes()
            dist.all_reduce(count)
        return parts * entropy / count.clamp(min=1)


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
