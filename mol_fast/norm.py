"""Batch normalisation with statistics per frame index, and its running statistics.

A network that is called frame by frame sees one frame index at a time: statistics over (batch, H, W) per index,
running statistics updated once per call. Here all frames are one batch `(B G, C, H, W)`, map n being frame n mod G,
and the running statistics after the calls are a weighted sum in closed form.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


def update_running(norm: nn.BatchNorm2d, mean: Tensor, var: Tensor, count: int, calls: Sequence[int]) -> None:
    """Update the running statistics of `norm` as successive calls would.

    Args:
        norm: the layer whose buffers change.
        mean, var: statistics `(G, C)` of each group, the variance biased.
        count: elements behind each statistic.
        calls: group of each call, in the order of the calls.
    """
    momentum = 0.0 if norm.momentum is None else norm.momentum
    assert norm.running_mean is not None
    assert norm.running_var is not None
    assert norm.num_batches_tracked is not None
    weights = [0.0] * mean.shape[0]
    for age, group in enumerate(reversed(calls)):
        weights[group] += momentum * (1 - momentum) ** age
    with torch.no_grad():
        w = mean.new_tensor(weights)
        keep = (1 - momentum) ** len(calls)
        norm.running_mean.mul_(keep).add_((w @ mean).to(norm.running_mean.dtype))
        norm.running_var.mul_(keep).add_((w @ var).to(norm.running_var.dtype), alpha=count / max(count - 1, 1))
        norm.num_batches_tracked.add_(len(calls))


class FrameBatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation of `(B G, C, H, W)`, map n being frame n mod G, with statistics per frame.

    With one group it is `torch.nn.BatchNorm2d`. Parameters and buffers have the same names.
    """

    def forward(self, x: Tensor, calls: Sequence[int] = (0,)) -> Tensor:
        """Normalise; `calls` lists the frame index of each call that is emulated, so G is its largest plus one."""
        groups = max(calls) + 1
        if not self.training or groups == 1 == len(calls):
            return super().forward(x)
        exact = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
        frames = exact.unflatten(0, (-1, groups))
        var, mean = torch.var_mean(frames, dim=(0, 3, 4), correction=0)  # (G, C)
        update_running(self, mean.detach(), var.detach(), frames.numel() // (groups * x.shape[1]), calls)
        scale = self.weight * torch.rsqrt(var + self.eps)
        shift = self.bias - mean * scale
        y = frames * scale[:, :, None, None] + shift[:, :, None, None]
        return y.flatten(0, 1).to(x.dtype)
