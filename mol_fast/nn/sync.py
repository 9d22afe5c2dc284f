"""Compute a batch that is split over processes like one batch: shared statistics, shared dropout masks.

Modules with a class attribute `synchronised` do so in training, once `synchronise` has set it. They use the default
group of `torch.distributed`. Dropout masks need equally many clips in all processes; statistics need at least one.
PyTorch's own SyncBatchNorm needs GPUs, and knows no frames.
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


def processes() -> int:
    """Return the number of processes of the default group; 1 if there is none."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def pool_statistics(mean: Tensor, var: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Pool mean and biased variance of `count` elements over processes; also return the number of all, `(..., 1)`.

    Any shape, differentiable. Processes may have different counts. The variance is the mean of the variances plus the
    mean of the squared distances of the means. Unlike E[x^2] - E[x]^2, this loses no digits if the mean is large. All
    processes get bit-identical results.

    Raises:
        ValueError: this process has no elements.
    """
    if not count:
        raise ValueError("a process has no maps, but all processes share their statistics; give each at least one")
    means, variances, counts = _Gather.apply(torch.stack([mean, var, torch.full_like(mean, count)])).unbind(1)
    total = counts.detach().sum(dim=0)
    share = counts.detach() / total
    pooled = (share * means).sum(dim=0)
    return pooled, (share * (variances + (means - pooled).square())).sum(dim=0), total[..., :1]


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
