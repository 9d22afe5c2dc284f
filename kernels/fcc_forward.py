# mypy: allow-untyped-defs
"""The forward kernels of FCC: batch statistics, then y. `fcc.py` has the mathematics."""

from collections.abc import Sequence
from typing import Any

import triton
import triton.language as tl
from torch import Tensor

from . import common
from .common import Launch, Target
from .fcc_shared import (
    Problem,
    Tile,
    choose,
    circulant,
    launch,
    offsets,
    parameters,
    pos1_lengths,
    problem,
    row_of,
    strides,
    vector,
)


@triton.jit
def pooled(p_partial, at, step, per_group, chunk, splits, AREA: tl.constexpr, BS: tl.constexpr, ACC: tl.constexpr):
    """Return mean and biased variance of a group, from those of its chunks."""
    o_s = tl.arange(0, BS)
    m = o_s < splits
    b_count = tl.minimum(tl.maximum(per_group - o_s * chunk, 0), chunk).to(ACC) * AREA
    total = per_group * (1.0 * AREA)
    b_mean = tl.load(p_partial + o_s * step + at, mask=m, other=0.0)
    b_square = tl.load(p_partial + (splits + o_s) * step + at, mask=m, other=0.0)
    mean = tl.sum(b_mean * b_count, axis=0) / total
    b_delta = tl.where(m, b_mean - mean, 0.0)
    return mean, tl.sum(b_square + b_count * b_delta * b_delta, axis=0) / total


@triton.jit
def fcc_statistics_kernel(
    p_x,
    p_vh_pos1,
    p_hv_pos1,
    p_partial,
    per_group,
    chunk,
    splits,
    channels,
    groups,
    s_n,
    s_c,
    s_h,
    s_w,
    H: tl.constexpr,
    W: tl.constexpr,
    BH: tl.constexpr,
    BW: tl.constexpr,
    BN: tl.constexpr,
    BR: tl.constexpr,
    WIDE: tl.constexpr,
    ACC: tl.constexpr,
):
    """Compute mean and sum of squared deviations of x + pos1, for one channel over one chunk of a group's maps."""
    pid = tl.program_id(0)
    ch, g, split = pid % channels, pid // channels % groups, pid // channels // groups
    half = channels // 2
    o_r = tl.arange(0, BR)[:, None]
    o_q = tl.arange(0, BN * BW)[None, :]
    o_p, o_w = o_q // BW, o_q % BW
    p_pos_h = row_of(p_vh_pos1, p_hv_pos1, ch, half, H)
    p_pos_w = row_of(p_vh_pos1, p_hv_pos1, ch, half, W)
    pos1_h, pos1_w = pos1_lengths(ch, half, H, W)
    b_pos_w = tl.load(p_pos_w + o_w, mask=o_w < pos1_w, other=0.0).to(ACC)
    ROWS: tl.constexpr = BH // BR
    end = tl.minimum(per_group, (split + 1) * chunk)
    count = 0.0
    mean = 0.0
    square = 0.0
    for step in range(0, tl.cdiv(end - split * chunk, BN) * ROWS):
        t, row = split * chunk + step // ROWS * BN, step % ROWS * BR
        o_h = row + o_r
        m = (t + o_p < end) & (o_h < H) & (o_w < W)
        o_x = offsets(g + groups * (t + o_p), ch, o_h, o_w, s_n, s_c, s_h, s_w, WIDE)
        b_pos_h = tl.load(p_pos_h + o_h, mask=o_h < pos1_h, other=0.0).to(ACC)
        b_v = tl.load(p_x + o_x, mask=m, other=0.0).to(ACC) + b_pos_h + b_pos_w  # [BR, BN BW]
        tile_count = (tl.minimum(end - t, BN) * tl.minimum(H - row, BR) * W).to(ACC)
        tile_mean = tl.sum(tl.where(m, b_v, 0.0)) / tile_count
        b_delta = tl.where(m, b_v - tile_mean, 0.0)
        delta = tile_mean - mean
        square += tl.sum(b_delta * b_delta) + delta * delta * (count * tile_count / (count + tile_count))
        count += tile_count
        mean += delta * (tile_count / count)
    o_out = g * channels + ch
    tl.store(p_partial + split * groups * channels + o_out, mean)
    tl.store(p_partial + (splits + split) * groups * channels + o_out, square)


@triton.jit
def fcc_forward_kernel(
    p_x,
    p_y,
    p_partial,
    p_vh_mean,
    p_vh_var,
    p_hv_mean,
    p_hv_var,
    p_mean,
    p_var,
    p_vh_kernel1,
    p_vh_pos1,
    p_vh_bias1,
    p_vh_kernel2,
    p_vh_pos2,
    p_vh_bias2,
    p_vh_weight,
    p_vh_bias,
    p_hv_kernel1,
    p_hv_pos1,
    p_hv_bias1,
    p_hv_kernel2,
    p_hv_pos2,
    p_hv_bias2,
    p_hv_weight,
    p_hv_bias,
    per_group,
    chunk,
    splits,
    channels,
    groups,
    s_n,
    s_c,
    s_h,
    s_w,
    EPS: tl.constexpr,
    TRAINING: tl.constexpr,
    H: tl.constexpr,
    W: tl.constexpr,
    BH: tl.constexpr,
    BW: tl.constexpr,
    BN: tl.constexpr,
    BR: tl.constexpr,
    BS: tl.constexpr,
    WIDE: tl.constexpr,
    PRECISION: tl.constexpr,
    ACC: tl.constexpr,
):
    """Compute y of one channel over one chunk of a group's maps, and write the group's mean and variance.

    They are those of the batch if TRAINING, else given for each half, `(groups, channels / 2)`.
    """
    DTYPE: tl.constexpr = p_x.dtype.element_ty
    pid = tl.program_id(0)
    ch, g, split = pid % channels, pid // channels % groups, pid // channels // groups
    half = channels // 2
    is_vh = ch < half
    o_g = g * channels + ch
    if TRAINING:
        mean, var = pooled(p_partial, o_g, groups * channels, per_group, chunk, splits, H * W, BS, ACC)
    else:
        mean = tl.load(row_of(p_vh_mean, p_hv_mean, ch, half, 1) + g * half).to(ACC)
        var = tl.load(row_of(p_vh_var, p_hv_var, ch, half, 1) + g * half).to(ACC)
    tl.store(p_mean + o_g, mean, mask=split == 0)
    tl.store(p_var + o_g, var, mask=split == 0)
    inverse = tl.rsqrt(var + EPS)
    p_kv = row_of(p_vh_kernel1, p_hv_kernel2, ch, half, H)
    p_kh = row_of(p_vh_kernel2, p_hv_kernel1, ch, half, W)
    sum_v = tl.sum(vector(p_kv, H, BH, ACC), axis=0)
    sum_h = tl.sum(vector(p_kh, W, BW, ACC), axis=0)
    weight = tl.load(row_of(p_vh_weight, p_hv_weight, ch, half, 1)).to(ACC)
    constant = tl.load(row_of(p_vh_bias, p_hv_bias, ch, half, 1)).to(ACC) * sum_v * sum_h
    constant += tl.load(row_of(p_vh_bias1, p_hv_bias1, ch, half, 1)).to(ACC) * tl.where(is_vh, sum_h, sum_v)
    constant += tl.load(row_of(p_vh_bias2, p_hv_bias2, ch, half, 1)).to(ACC)
    pos1_h, pos1_w = pos1_lengths(ch, half, H, W)
    b_pos2_h = vector(row_of(p_vh_pos2, p_hv_pos2, ch, half, H), H - pos1_h, BH, ACC)
    b_pos2_w = vector(row_of(p_vh_pos2, p_hv_pos2, ch, half, W), W - pos1_w, BW, ACC)
    b_bt = circulant(p_kh, 0, 0, W, BW, BW, True)
    b_col = constant + tl.sum(b_bt.to(ACC) * b_pos2_w[:, None], axis=0)  # [BW]
    b_bt = b_bt.to(DTYPE)
    # A tile of BN maps is read as [h, (n, w)] for the product from the left. The result, reshaped to [(h, n), w], is
    # the operand of the product from the right.
    o_h = tl.arange(0, BH)[:, None]
    o_q = tl.arange(0, BN * BW)[None, :]
    o_p, o_w = o_q // BW, o_q % BW
    p_pos_h = row_of(p_vh_pos1, p_hv_pos1, ch, half, H)
    p_pos_w = row_of(p_vh_pos1, p_hv_pos1, ch, half, W)
    b_pos_h = tl.load(p_pos_h + o_h, mask=o_h < pos1_h, other=0.0).to(ACC) - mean
    b_pos_w = tl.load(p_pos_w + o_w, mask=o_w < pos1_w, other=0.0).to(ACC)
    o_rn = tl.arange(0, BR * BN)[:, None]
    o_yr, o_yp, o_yw = o_rn // BN, o_rn % BN, tl.arange(0, BW)[None, :]
    ROWS: tl.constexpr = BH // BR
    end = tl.minimum(per_group, (split + 1) * chunk)
    b_a = circulant(p_kv, 0, 0, H, BR, BH, False)
    for step in range(0, tl.cdiv(end - split * chunk, BN) * ROWS):
        t, row = split * chunk + step // ROWS * BN, step % ROWS * BR
        if ROWS > 1:
            b_a = circulant(p_kv, row, 0, H, BR, BH, False)
        b_row = tl.sum(b_a.to(ACC) * b_pos2_h[None, :], axis=1)  # [BR]
        m = (t + o_p < end) & (o_h < H) & (o_w < W)
        o_x = offsets(g + groups * (t + o_p), ch, o_h, o_w, s_n, s_c, s_h, s_w, WIDE)
        b_x = tl.load(p_x + o_x, mask=m, other=0.0)
        b_u = tl.where(m, (b_x.to(ACC) + b_pos_h + b_pos_w) * inverse, 0.0)  # [BH, BN BW]
        b_au = tl.dot(b_a.to(DTYPE), b_u.to(DTYPE), input_precision=PRECISION, out_dtype=ACC)
        b_au = tl.reshape(b_au.to(DTYPE), (BR * BN, BW))
        b_y = tl.dot(b_au, b_bt, input_precision=PRECISION, out_dtype=ACC) * weight
        b_row = tl.reshape(tl.broadcast_to(b_row[:, None], (BR, BN)), (BR * BN,))
        n = g + groups * (t + o_yp)
        m = (t + o_yp < end) & (row + o_yr < H) & (o_yw < W)
        if ROWS > 1:
            b_x = tl.load(p_x + offsets(n, ch, row + o_yr, o_yw, s_n, s_c, s_h, s_w, WIDE), mask=m, other=0.0)
        else:
            b_x = tl.reshape(b_x, (BR * BN, BW))
        b_y += b_x.to(ACC) + b_row[:, None] + b_col[None, :]  # [BR BN, BW]
        o_y = offsets(n, ch, row + o_yr, o_yw, channels * (H * W), H * W, W, 1, WIDE)
        tl.store(p_y + o_y, b_y.to(DTYPE), mask=m)


TILES = {"fcc_statistics_kernel": Tile, "fcc_forward_kernel": Tile}


def statistics_tile(p: Problem) -> Tile:
    """Choose the tiles of the statistics. The pinned ones are those of the forward, except warps for large maps."""
    pinned = pinned_tile(p)
    return choose("fcc_statistics_kernel", p, pinned if pinned.num_warps == 1 else pinned._replace(num_warps=8))


def forward_tile(p: Problem) -> Tile:
    return choose("fcc_forward_kernel", p, pinned_tile(p))


def pinned_tile(p: Problem) -> Tile:
    """Return the pinned tiles: several small maps at once with one warp, large maps in blocks of 32 rows."""
    height, width = p.sides
    if height * width <= 512:
        return Tile(1024 // (height * width), height, 1, 2)
    return Tile(1, min(height, 32), 4 if p.narrow else 8, 2)


def forward_launches(
    x: Tensor,
    vh: Sequence[Tensor],
    hv: Sequence[Tensor],
    given: Sequence[Tensor] | None,
    made: tuple[Tensor, Tensor, Tensor],
    partial: Tensor | None,
    eps: float,
    target: Target,
) -> list[Launch]:
    """Make the launches that compute `made`: y, mean and var.

    Mean and var are those of the batch, by way of `partial (2, splits, G, C)`; or they are `given`: mean and var
    `(G, C/2)` of vh, then of hv. One of both must be None.
    """
    y, mean, var = made
    p = problem(x, mean.shape[0])
    names = ("p_vh_mean", "p_vh_var", "p_hv_mean", "p_hv_var")
    values: dict[str, Any] = dict(zip(names, given or (None,) * 4, strict=True))
    values |= {"p_x": x, "p_y": y, "p_mean": mean, "p_var": var, "p_partial": partial, **parameters(vh, hv)}
    values |= {**strides(x), "EPS": eps, "TRAINING": partial is not None}
    config = forward_tile(p)
    blocks = p.sides[0] // config.BR  # blocks of rows of y; each reads the whole map, and its own rows once more
    again = blocks * common.size_of(x) if blocks > 1 else 0
    forward = launch(fcc_forward_kernel, "forward", p, target, config, p.programs, p.flops, values, again)
    if partial is None:
        return [forward]
    return [launch(fcc_statistics_kernel, "forward", p, target, statistics_tile(p), p.programs, 0, values), forward]


def forward_partial(x: Tensor, mean: Tensor) -> Tensor:
    """Return an empty buffer for the statistics of the chunks."""
    return mean.new_empty(2, problem(x, mean.shape[0]).splits, *mean.shape)
