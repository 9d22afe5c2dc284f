"""Batch normalisation with statistics per frame index, and its running statistics.

The official code calls its network frame by frame: statistics over (batch, H, W) per frame index, and one update of the
running statistics per call. Here all frames form one batch `(B G, C, H, W)`, in which map n is frame n mod G. Running
statistics are updated from the statistics of the frames, in the order of those calls.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mol_fast.nn.plain import is_plain, read
from mol_fast.nn.sync import pool_statistics, processes


def moments(x: Tensor, dims: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Return mean and biased variance of `x` over `dims`, differentiable.

    Makes two passes. It is as exact as torch.var_mean, whose single pass takes ten times as long on a CPU.
    """
    mean = x.mean(dim=dims, keepdim=True)
    return mean.squeeze(dims), (x - mean).square().mean(dim=dims)


def update_running(
    norm: "FrameBatchNorm2d", mean: Tensor, var: Tensor, count: int | Tensor, calls: Sequence[int]
) -> None:
    """Update the running statistics of `norm` as successive calls would; not at all if it is frozen or has none.

    Uses only elementwise operations on device tensors: autocast does not lower their precision, and nothing is copied
    from the host, which would break the capture of a CUDA graph.

    Args:
        norm: the layer whose buffers change.
        mean, var: statistics `(G, C)` of each group; the variance is biased.
        count: number of elements behind each statistic.
        calls: group of each call, in order.
    """
    if not norm.tracks():
        return
    counted = norm.num_batches_tracked
    with torch.no_grad():
        running = norm.running()
        more = (count - 1).clamp_min(1) if isinstance(count, Tensor) else max(count - 1, 1)
        statistics = torch.stack([mean, var * (count / more)], dim=1)  # (G, 2, C)
        exact = torch.promote_types(running[0].dtype, statistics.dtype)
        value, statistics = torch.stack(running).to(exact), statistics.to(exact)
        for call, group in enumerate(calls, 1):
            share: float | Tensor | None = norm.momentum
            if share is None:  # without a counter, PyTorch leaves the statistics as they are
                share = 0.0 if counted is None else (counted + call).to(exact).reciprocal()
            value = torch.lerp(value, statistics[group], share)
        torch._foreach_copy_(running, value.unbind())
        if counted is not None:
            counted.add_(len(calls))


@contextmanager
def kept_statistics(module: nn.Module) -> Iterator[None]:
    """Restore the running statistics of `module` at the end of the context, though it is in training mode."""
    norms = [layer for layer in module.modules() if isinstance(layer, _BatchNorm)]
    before = [{name: value.clone() for name, value in norm.named_buffers()} for norm in norms]
    try:
        yield
    finally:
        for norm, buffers in zip(norms, before, strict=True):
            for name, value in buffers.items():
                norm.get_buffer(name).copy_(value)


class FrameBatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation of `(B G, C, H, W)` with statistics per frame; map n is frame n mod G.

    With one group it equals `torch.nn.BatchNorm2d`; parameters and buffers have the same names, and evaluation mode,
    `momentum=None`, `track_running_stats` and `affine` mean the same. If `synchronised` (see `mol_fast.nn.sync`), the
    statistics are those of the batches of all processes.
    """

    synchronised = False

    def running(self) -> tuple[Tensor, Tensor]:
        """Return the running mean and variance `(C,)`, which evaluation uses."""
        mean, var = self.running_mean, self.running_var
        assert mean is not None
        assert var is not None
        return mean, var

    def batch_statistics(self) -> bool:
        """Return True if the layer normalises by the batch: in training, or without running statistics."""
        return self.training or self.running_mean is None

    def tracks(self) -> bool:
        """Return True if a call updates the running statistics."""
        return self.training and self.track_running_stats and self.running_mean is not None

    def shares(self) -> bool:
        """Return True if the statistics are those of several processes."""
        return self.synchronised and self.training and processes() > 1

    def forward(self, x: Tensor, calls: Sequence[int] = (0,)) -> Tensor:
        """Normalise `x`. `calls` lists the frame index of each emulated call, so G is its largest entry + 1."""
        groups = max(calls) + 1
        shared = self.shares()
        if not self.batch_statistics() or (not shared and (groups == 1 == len(calls) or not x.shape[0])):
            return super().forward(x)
        exact = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
        frames = exact.unflatten(0, (-1, groups))
        mean, var = moments(frames, (0, 3, 4))  # (G, C)
        own = frames.numel() // (groups * x.shape[1])
        count: int | Tensor = own
        if shared:
            mean, var, count = pool_statistics(mean, var, own)
        update_running(self, mean.detach(), var.detach(), count, calls)
        scale = torch.rsqrt(var + self.eps)
        if self.weight is not None:
            scale = self.weight * scale
        shift = -mean * scale if self.bias is None else self.bias - mean * scale
        y = frames * scale[:, :, None, None] + shift[:, :, None, None]
        return y.flatten(0, 1).to(x.dtype)


def joined_running(vh: FrameBatchNorm2d, hv: FrameBatchNorm2d) -> tuple[Tensor, Tensor]:
    """Return the running mean and variance of both halves, `(1, C)`."""
    (vh_mean, vh_var), (hv_mean, hv_var) = vh.running(), hv.running()
    mean, var = torch.cat([vh_mean, hv_mean, vh_var, hv_var]).view(2, 1, -1).unbind()
    return mean, var


def read_running(vh: FrameBatchNorm2d, hv: FrameBatchNorm2d) -> list[Tensor] | None:
    """Return the running means and variances and the counts of batches, which one kernel updates; empty if none is.

    None if PyTorch must update the halves one after the other. The norms agree in what `read_norms` compares.
    """
    vh_mean, hv_mean = vh.running_mean, hv.running_mean
    if not (vh.training and vh.track_running_stats) or vh_mean is hv_mean is None:
        return []
    if vh_mean is hv_mean:  # tied halves: programs of the kernel would write the same memory
        return None
    found = vh_mean, vh.running_var, hv_mean, hv.running_var, vh.num_batches_tracked, hv.num_batches_tracked
    running = [value for value in found if value is not None and value.is_contiguous()]
    one_dtype = len({value.dtype for value in running[:4]}) == 1
    return running if len(running) == len(found) and one_dtype and vh.momentum == hv.momentum is not None else None


def read_norms(vh: FrameBatchNorm2d, hv: FrameBatchNorm2d) -> tuple[Tensor, Tensor, Tensor, Tensor] | None:
    """Return weight and bias of both norms if one operator can normalise both halves; None if they must be called."""
    if not (
        is_plain(vh, FrameBatchNorm2d)
        and is_plain(hv, FrameBatchNorm2d)
        and vh.eps == hv.eps
        and vh.training == hv.training
        and vh.track_running_stats == hv.track_running_stats
        and vh.synchronised == hv.synchronised
        and (vh.training or (vh.running_mean is None) == (hv.running_mean is None))
    ):
        return None
    names = "weight", "bias"
    a, b, c, d = *read(vh, FrameBatchNorm2d, names), *read(hv, FrameBatchNorm2d, names)
    return None if a is None or b is None or c is None or d is None else (a, b, c, d)


def normalise(norm: nn.Module | None, x: Tensor, calls: Sequence[int]) -> Tensor:
    """Call a norm that may have been replaced by another kind.

    Raises:
        ValueError: there is no norm; or it is in training, and knows no frames, but there are several.
    """
    if norm is None:
        raise ValueError("a norm was replaced by None; put torch.nn.Identity() in its place")
    if isinstance(norm, FrameBatchNorm2d):
        return norm(x, calls)
    if norm.training and max(calls) > 0:
        raise ValueError(
            f"a norm was replaced by {type(norm).__name__}, which cannot train on {max(calls) + 1} frames with "
            'statistics of their own; freeze it with eval(), or use groups=1 (norm_stats="batch" in MOL)'
        )
    y: Tensor = norm(x)
    return y


class HoldsNorm(nn.Module):
    """Base of modules with a `FrameBatchNorm2d`, which stays one when PyTorch converts it to a SyncBatchNorm.

    A SyncBatchNorm that is added or assigned becomes a synchronised `FrameBatchNorm2d` with the same tensors.

    Raises:
        ValueError: the SyncBatchNorm has a process group of its own.
    """

    def add_module(self, name: str, module: nn.Module | None) -> None:
        """Add a child, as `convert_sync_batchnorm` does with a module that holds a norm."""
        super().add_module(name, _frame_norm(module))

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute; people convert one norm alone and put it back."""
        super().__setattr__(name, _frame_norm(value))


def _frame_norm(given: Any) -> Any:
    """Return the `FrameBatchNorm2d` that stands for a SyncBatchNorm; anything else as it is."""
    if not isinstance(given, nn.SyncBatchNorm):
        return given
    if given.process_group is not None:
        raise ValueError("statistics are shared by all processes: convert to SyncBatchNorm without a process_group")
    norm = FrameBatchNorm2d(given.num_features, given.eps, given.momentum, given.affine, given.track_running_stats)
    norm._parameters.update(given._parameters)
    norm._buffers.update(given._buffers)
    norm.training, norm.synchronised = given.training, True
    return norm
