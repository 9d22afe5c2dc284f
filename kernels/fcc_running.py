# mypy: allow-untyped-defs
"""The kernel that updates the running statistics of FCC's batch normalisations, of both halves in one launch."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from . import common, tiles
from .common import Launch


@triton.jit
def fcc_running_kernel(
    p_mean,
    p_var,
    p_vh_mean,
    p_vh_var,
    p_hv_mean,
    p_hv_var,
    p_vh_count,
    p_hv_count,
    unbiased,
    half,
    groups,
    MOMENTUM: tl.constexpr,
    B: tl.constexpr,
    ACC: tl.constexpr,
):
    """Update the running statistics of B channels of one half by the statistics of every group, in order.

    r += momentum (s - r), where s is the mean, or the variance times `unbiased` = n / (n - 1). The count of batches
    grows by the number of groups. Bytes: statistics once, running statistics twice. Grid: (tiles of channels, halves).
    """
    side = tl.program_id(1)
    o = tl.program_id(0) * B + tl.arange(0, B)
    m = o < half
    p_running_mean = tl.where(side == 0, p_vh_mean, p_hv_mean)
    p_running_var = tl.where(side == 0, p_vh_var, p_hv_var)
    b_mean = tl.load(p_running_mean + o, m, 0.0).to(ACC)
    b_var = tl.load(p_running_var + o, m, 0.0).to(ACC)
    p_count = tl.where(side == 0, p_vh_count, p_hv_count)
    first = tl.program_id(0) == 0
    count = tl.load(p_count, mask=first)
    for g in range(groups):
        o_s = (2 * g + side) * half + o
        b_mean += MOMENTUM * (tl.load(p_mean + o_s, m, 0.0).to(ACC) - b_mean)
        b_var += MOMENTUM * (tl.load(p_var + o_s, m, 0.0).to(ACC) * unbiased - b_var)
    tl.debug_barrier()  # all is read before anything is written over it
    tl.store(p_running_mean + o, b_mean.to(p_vh_mean.dtype.element_ty), m)
    tl.store(p_running_var + o, b_var.to(p_vh_var.dtype.element_ty), m)
    tl.store(p_count, count + groups, mask=first)


class RunningTile(NamedTuple):
    """Channels per program, warps, stages."""

    B: int
    num_warps: int
    num_stages: int


TILES = {"fcc_running_kernel": RunningTile}


def running_launch(mean: Tensor, var: Tensor, running: Sequence[Tensor], momentum: float, elements: int) -> Launch:
    """Make the launch that updates `running` by `mean` and the biased `var`, `(G, C)`, of `elements` elements each.

    `running`: mean and variance `(C/2,)` of vh, then of hv, then the counts of batches `()` of both.
    """
    groups, channels = mean.shape
    config = tiles.choose(
        "fcc_running_kernel", tiles.shape_class(channels, 1), mean.dtype, RunningTile(128, 4, 1), mean.device
    )
    names = ("vh_mean", "vh_var", "hv_mean", "hv_var", "vh_count", "hv_count")
    exact = torch.promote_types(running[0].dtype, mean.dtype)
    return Launch(
        kernel=fcc_running_kernel,
        phase="forward",
        grid=(triton.cdiv(channels // 2, config.B), 2),
        arguments={
            "p_mean": mean,
            "p_var": var,
            **{f"p_{name}": value for name, value in zip(names, running, strict=True)},
            "unbiased": elements / max(elements - 1, 1),
            "half": channels // 2,
            "groups": groups,
        },
        constants={"MOMENTUM": momentum, "B": config.B, "ACC": common.accumulator(exact)},
        num_warps=config.num_warps,
        num_stages=config.num_stages,
        bytes=common.size_of(mean, var) + 2 * common.size_of(*running),
    )
