"""Compute a batch that is split over processes like one batch: shared statistics, shared dropout masks.

Modules with a class attribute `synchronised` do so in training, once `synchronise` has set it. They use the default
group of `torch.distributed`. All processes must have equally many clips. PyTorch's own SyncBatchNorm needs GPUs.
"""

from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn


def synchronise(model: nn.Module) -> None:
    """Let `model` use batch statistics and dropout masks of the whole batch of all processes."""
    for module in model.modules():
        if hasattr(type(module), "synchronised"):
            setattr(module, "synchronised", True)  # noqa: B010


def pool_statistics(mean: Tensor, var: Tensor) -> tuple[Tensor, Tensor]:
    """Pool mean and biased variance over processes. Any shape, differentiable.

    The variance is the mean of the variances plus the mean of the squared distances of the means. Unlike
    E[x^2] - E[x]^2, this loses no digits if the mean is large. All processes get bit-identical results.
    """
    means, variances = _Gather.apply(torch.stack([mean, var])).unbind(1)
    pooled = means.mean(dim=0)
    return pooled, (variances + (means - pooled).square()).mean(dim=0)


class _Gather(torch.autograd.Function):
    """Stack the tensors of all processes. The gradient of a process's own tensor is the sum over processes."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        parts = [torch.empty_like(x) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, x.contiguous())
        return torch.stack(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        gradient = gradients[0].contiguous().clone()
        dist.all_reduce(gradient)
        return gradient[dist.get_rank()]


class BatchDropout(nn.Dropout):
    """Dropout of `(B, ...)`. If `synchronised`, all processes draw the mask of the whole batch and use their rows.

    All processes must have the same random state.
    """

    synchronised = False

    def forward(self, x: Tensor) -> Tensor:
        x = x.contiguous()  # masks are drawn in the order of memory
        if not (self.training and self.synchronised and self.p):
            return super().forward(x)
        whole = torch.ones_like(x).repeat(dist.get_world_size(), *[1] * (x.dim() - 1))
        return x * F.dropout(whole, self.p).unflatten(0, (-1, len(x)))[dist.get_rank()]
