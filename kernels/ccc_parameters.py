# mypy: allow-untyped-defs
"""The kernels on CCC's parameters: stack and round before the forward, sum gradients after the backward.

`ccc.py` has the mathematics.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from . import common
from .ccc_forward import choose
from .common import Launch

NAMES = ("node_weight", "node_bias", "edge_weight", "edge_bias", "mix_weight", "mix_bias")
"""The parameters, in the order of the operators' arguments."""


@triton.jit
def ccc_stack_kernel(
    p_node_weight,
    p_node_bias,
    p_edge_weight,
    p_edge_bias,
    p_mix_weight,
    p_mix_bias,
    p_weight,
    p_bias,
    p_mix,
    p_mixed_bias,
    channels,
    area,
    B: tl.constexpr,
    ACC: tl.constexpr,
):
    """Compute W_n - W_e | W_e `(2 D, D)`, b_n + b_e, mix and its bias in ACC, and round them to the maps' dtype.

    Bytes: every parameter is read once and written once, W_e twice. Grid: (tiles of B elements of the largest,).
    """
    o = tl.program_id(0) * B + tl.arange(0, B)
    dtype = p_weight.dtype.element_ty
    m = o < area * area
    b_edge = tl.load(p_edge_weight + o, m, 0.0).to(ACC)
    b_node = tl.load(p_node_weight + o, m, 0.0).to(ACC)
    tl.store(p_weight + o, (b_node - b_edge).to(dtype), m)
    tl.store(p_weight + area * area + o, b_edge.to(dtype), m)
    m = o < channels * channels
    tl.store(p_mix + o, tl.load(p_mix_weight + o, m, 0.0).to(ACC).to(dtype), m)
    m = o < area
    b_bias = tl.load(p_node_bias + o, m, 0.0).to(ACC) + tl.load(p_edge_bias + o, m, 0.0).to(ACC)
    tl.store(p_bias + o, b_bias.to(dtype), m)
    m = o < channels
    tl.store(p_mixed_bias + o, tl.load(p_mix_bias + o, m, 0.0).to(ACC).to(dtype), m)


@triton.jit
def over_parts(p, o, m, parts, step, B: tl.constexpr, BP: tl.constexpr, ACC: tl.constexpr):
    """Sum elements `o [B]` over `parts` vectors, `step` apart, BP parts at a time."""
    o_p = tl.arange(0, BP)[:, None]
    b = tl.zeros((B,), ACC)
    for s in range(0, parts, BP):
        o_s = (s + o_p).to(tl.int64) * step + o[None, :]
        b += tl.sum(tl.load(p + o_s, (s + o_p < parts) & m[None, :], 0.0), 0)
    return b


@triton.jit
def ccc_sum_kernel(
    p_weight,
    p_bias,
    p_mix,
    p_mixed_bias,
    p_node_weight,
    p_node_bias,
    p_edge_weight,
    p_edge_bias,
    p_mix_weight,
    p_mix_bias,
    weight_parts,
    mix_parts,
    channels,
    area,
    B: tl.constexpr,
    BP: tl.constexpr,
    ACC: tl.constexpr,
):
    """Compute the parameters' gradients, in their dtype, from partial sums for the stacked parameters.

    With G | H the sums for W_n - W_e | W_e: d W_n = G, d W_e = H - G; d b_n = d b_e = first half of the bias's sums.
    Bytes: every partial sum is read once, every gradient written once. Grid: (tiles of W_n, then tiles of mix,).
    """
    tiles = tl.cdiv(area * area, B)
    pid = tl.program_id(0)
    dtype = p_node_weight.dtype.element_ty
    if pid < tiles:
        o = pid * B + tl.arange(0, B)
        m = o < area * area
        step = tl.full((), 2, tl.int64) * area * area  # area may be a constant
        b_node = over_parts(p_weight, o, m, weight_parts, step, B, BP, ACC)
        b_edge = over_parts(p_weight + area * area, o, m, weight_parts, step, B, BP, ACC) - b_node
        tl.store(p_node_weight + o, b_node.to(dtype), m)
        tl.store(p_edge_weight + o, b_edge.to(dtype), m)
        if pid * B < area:
            m = o < area
            b_bias = over_parts(p_bias, o, m, weight_parts, 2 * area, B, BP, ACC).to(dtype)
            tl.store(p_node_bias + o, b_bias, m)
            tl.store(p_edge_bias + o, b_bias, m)
    else:
        o = (pid - tiles) * B + tl.arange(0, B)
        m = o < channels * channels
        b_mix = over_parts(p_mix, o, m, mix_parts, channels * channels, B, BP, ACC)
        tl.store(p_mix_weight + o, b_mix.to(dtype), m)
        if (pid - tiles) * B < channels:
            m = o < channels
            b_mix = over_parts(p_mixed_bias, o, m, mix_parts, channels, B, BP, ACC)
            tl.store(p_mix_bias + o, b_mix.to(dtype), m)


class StackTile(NamedTuple):
    """Elements per program, warps, stages."""

    B: int
    num_warps: int
    num_stages: int


class SumTile(NamedTuple):
    """Elements per program, parts added at once, warps, stages."""

    B: int
    BP: int
    num_warps: int
    num_stages: int


TILES = {"ccc_stack_kernel": StackTile, "ccc_sum_kernel": SumTile}


def stacked_like(x: Tensor) -> tuple[Tensor, ...]:
    """Return empty stacked weight `(2 D, D)`, its bias `(D,)`, mix and its bias for maps like `x`."""
    _, c, h, w = x.shape
    d = h * w
    shapes: tuple[tuple[int, ...], ...] = ((2 * d, d), (d,), (c, c), (c,))
    weight, bias, mix, mix_bias = (torch.empty(shape, dtype=x.dtype, device=x.device) for shape in shapes)
    return weight, bias, mix, mix_bias


def parameter_shapes(channels: int, area: int) -> tuple[tuple[int, ...], ...]:
    """Return the shapes of the parameters, in the order of `NAMES`."""
    return (area, area), (area,), (area, area), (area,), (channels, channels), (channels,)


def gradients_like(x: Tensor, dtype: torch.dtype) -> list[Tensor]:
    """Return empty gradients of the parameters for maps like `x`, in the order of `NAMES`."""
    _, c, h, w = x.shape
    return [torch.empty(shape, dtype=dtype, device=x.device) for shape in parameter_shapes(c, h * w)]


def stack_launch(x: Tensor, parameters: Sequence[Tensor], stacked: Sequence[Tensor]) -> Launch:
    """Make the launch that fills `stacked`, from contiguous parameters of one dtype."""
    config = choose("ccc_stack_kernel", x, StackTile(512, 4, 1))
    area, channels = parameters[1].shape[0], parameters[5].shape[0]
    names = (*(f"p_{name}" for name in NAMES), "p_weight", "p_bias", "p_mix", "p_mixed_bias")
    exact = torch.promote_types(parameters[0].dtype, stacked[0].dtype)
    return Launch(
        kernel=ccc_stack_kernel,
        phase="forward",
        grid=(triton.cdiv(max(area, channels) ** 2, config.B),),
        arguments={
            **dict(zip(names, (*parameters, *stacked), strict=True)),
            "channels": channels,
            "area": area,
        },
        constants={"B": config.B, "ACC": common.accumulator(exact)},
        num_warps=config.num_warps,
        num_stages=config.num_stages,
        bytes=common.size_of(*parameters, *stacked),
    )


def sum_launch(x: Tensor, partial: Sequence[Tensor], gradients: Sequence[Tensor]) -> Launch:
    """Make the launch that fills `gradients`, from partial sums `(parts, ...)` of the stacked weight, its bias, mix and
    its bias."""
    config = choose("ccc_sum_kernel", x, SumTile(128, 16, 4, 2))
    area, channels = gradients[1].shape[0], gradients[5].shape[0]
    names = ("p_weight", "p_bias", "p_mix", "p_mixed_bias", *(f"p_{name}" for name in NAMES))
    return Launch(
        kernel=ccc_sum_kernel,
        phase="backward",
        grid=(triton.cdiv(area**2, config.B) + triton.cdiv(channels**2, config.B),),
        arguments={
            **dict(zip(names, (*partial, *gradients), strict=True)),
            "weight_parts": partial[0].shape[0],
            "mix_parts": partial[2].shape[0],
            "channels": channels,
            "area": area,
        },
        constants={"B": config.B, "BP": config.BP, "ACC": common.accumulator(partial[0].dtype)},
        num_warps=config.num_warps,
        num_stages=config.num_stages,
        bytes=common.size_of(*partial, *gradients),
    )
