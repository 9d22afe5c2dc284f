"""A batch that is split over processes, computed as one: statistics over all of it, dropout masks of all of it.

A module with a class attribute `synchronised` does so once `synchronise` has set it, in training, with the default
group of `torch.distributed`. Every process must hold equally many clips. PyTorch's own SyncBatchNorm needs GPUs.
"""

from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn


def synchronise(model: nn.Module) -> None:
    """Let all batch statistics and dropout masks of `model` be those of the batch of all processes together."""
    for module in model.modules():
        if hasattr(type(module), "synchronised"):
            setattr(module, "synchronised", True)  # noqa: B010


def pool_statistics(mean: Tensor, var: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and biased variance over the processes from those of each of them, of any shape, differentiable.

    The variance is the mean of the variances plus that of the squared distances of the means, which loses no digits
    where the mean is large, as E[x^2] - E[x]^2 does. Every process gets the same bits.
    """
    means, variances = _Gather.apply(torch.stack([mean, var])).unbind(1)
    pooled = means.mean(dim=0)
    return pooled, (variances + (means - pooled).square()).mean(dim=0)


class _Gather(torch.autograd.Function):
    """The tensors of all processes, stacked. The gradient of one's own is the sum over the processes."""

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
    """Dropout of `(B, ...)`, whose mask is part of one for the batch of all processes when `synchronised`.

    All processes must have the same random state; they draw the mask of the whole batch, and each takes its rows.
    """

    synchronised = False

    def forward(self, x: Tensor) -> Tensor:
        x = x.contiguous()  # masks are drawn in the order of memory
        if not (self.training and self.synchronised and self.p):
            return super().forward(x)
        whole = torch.ones_like(x).repeat(dist.get_world_size(), *[1] * (x.dim() - 1))
        return x * F.dropout(whole, self.p).unflatten(0, (-1, len(x)))[dist.get_rank()]
