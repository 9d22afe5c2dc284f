"""Batch normalisation with statistics per frame index, and its running statistics.

The official code calls its network frame by frame: statistics over (batch, H, W) per frame index, and one update of the
running statistics per call. Here all frames form one batch `(B G, C, H, W)`, in which map n is frame n mod G. Running
statistics are updated from the statistics of the frames, in the order of those calls.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import Tensor, nn

from mol_fast.nn.sync import pool_statistics


def moments(x: Tensor, dims: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Return mean and biased variance of `x` over `dims`, differentiable.

    Makes two passes. It is as exact as torch.var_mean, whose single pass takes ten times as long on a CPU.
    """
    mean = x.mean(dim=dims, keepdim=True)
    return mean.squeeze(dims), (x - mean).square().mean(dim=dims)


def update_running(norm: "FrameBatchNorm2d", mean: Tensor, var: Tensor, count: int, calls: Sequence[int]) -> None:
    """Update the running statistics of `norm` as successive calls would.

    Uses only elementwise operations on device tensors: autocast does not lower their precision, and nothing is copied
    from the host, which would break the capture of a CUDA graph.

    Args:
        norm: the layer whose buffers change.
        mean, var: statistics `(G, C)` of each group; the variance is biased.
        count: number of elements behind each statistic.
        calls: group of each call, in order.
    """
    assert norm.momentum is not None
    assert norm.num_batches_tracked is not None
    with torch.no_grad():
        running = norm.running()
        statistics = torch.stack([mean, var * (count / max(count - 1, 1))], dim=1)  # (G, 2, C)
        exact = torch.promote_types(running[0].dtype, statistics.dtype)
        value, statistics = torch.stack(running).to(exact), statistics.to(exact)
        for group in calls:
            value = torch.lerp(value, statistics[group], norm.momentum)
        torch._foreach_copy_(running, value.unbind())
        norm.num_batches_tracked.add_(len(calls))


@contextmanager
def kept_statistics(module: nn.Module) -> Iterator[None]:
    """Restore the running statistics of `module` at the end of the context, though it is in training mode."""
    norms = [layer for layer in module.modules() if isinstance(layer, FrameBatchNorm2d)]
    before = [{name: value.clone() for name, value in norm.named_buffers()} for norm in norms]
    try:
        yield
    finally:
        for norm, buffers in zip(norms, before, strict=True):
            for name, value in buffers.items():
                norm.get_buffer(name).copy_(value)


class FrameBatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation of `(B G, C, H, W)` with statistics per frame; map n is frame n mod G.

    With one group it equals `torch.nn.BatchNorm2d`; parameters and buffers have the same names. If `synchronised` (see
    `mol_fast.nn.sync`), the statistics are those of the batches of all processes, which must have the same size.
    """

    synchronised = False

    def running(self) -> tuple[Tensor, Tensor]:
        """Return the running mean and variance `(C,)`, which evaluation uses."""
        assert self.running_mean is not None
        assert self.running_var is not None
        return self.running_mean, self.running_var

    def forward(self, x: Tensor, calls: Sequence[int] = (0,)) -> Tensor:
        """Normalise `x`. `calls` lists the frame index of each emulated call, so G is its largest entry + 1."""
        groups = max(calls) + 1
        if not self.training or (groups == 1 == len(calls) and not self.synchronised) or not x.shape[0]:
            return super().forward(x)
        exact = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
        frames = exact.unflatten(0, (-1, groups))
        mean, var = moments(frames, (0, 3, 4))  # (G, C)
        count = frames.numel() // (groups * x.shape[1])
        if self.synchronised:
            mean, var = pool_statistics(mean, var)
            count *= dist.get_world_size()
        update_running(self, mean.detach(), var.detach(), count, calls)
        scale = self.weight * torch.rsqrt(var + self.eps)
        shift = self.bias - mean * scale
        y = frames * scale[:, :, None, None] + shift[:, :, None, None]
        return y.flatten(0, 1).to(x.dtype)
