# mypy: allow-untyped-defs
"""The backward kernels of FCC: reductions, parameters, and dx. `fcc.py` has the mathematics."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
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
def shifted(p, length, L: tl.constexpr, BL: tl.constexpr, ACC: tl.constexpr):
    """Return [BL, BL] with entry (i, s) = p[(i + s) mod L] for i and s below `length` (L or 0); zero beyond."""
    o_i = tl.arange(0, BL)[:, None]
    o_s = tl.arange(0, BL)[None, :]
    return tl.load(p + (o_i + o_s) % L, mask=(o_i < length) & (o_s < length), other=0.0).to(ACC)  # [BL, BL]


@triton.jit
def fold(b_e, row, col, L: tl.constexpr, BL: tl.constexpr, BR: tl.constexpr, BC: tl.constexpr):
    """Sum E[i, (i + s) mod L] over i for every s < BL, over block [BR, BC] of E at (row, col)."""
    o_r = row + tl.arange(0, BR)[:, None]
    o_s = tl.arange(0, BL)[None, :]
    o_c = (o_r + o_s) % L - col
    m = (o_r < L) & (o_s < L) & (o_c >= 0) & (o_c < BC)
    b = tl.gather(b_e, tl.where(m, o_c, 0), axis=1)
    return tl.sum(tl.where(m, b, 0.0), axis=0)  # [BL]


@triton.jit
def store_block(p, b, start, L: tl.constexpr, BL: tl.constexpr, B: tl.constexpr):
    """Store `b [B]` at `start` of a vector of length L, and zero elsewhere."""
    o = tl.arange(0, BL)
    tl.store(p + o, 0.0, mask=(o < L) & ((o < start) | (o >= start + B)))
    o = start + tl.arange(0, B)
    tl.store(p + o, b, mask=o < L)


@triton.jit
def fcc_reduce_kernel(
    p_x,
    p_d,
    p_partial,
    p_mean,
    p_var,
    p_vh_kernel1,
    p_vh_pos1,
    p_vh_kernel2,
    p_hv_kernel1,
    p_hv_pos1,
    p_hv_kernel2,
    per_group,
    chunk,
    channels,
    groups,
    s_n,
    s_c,
    s_h,
    s_w,
    s_dn,
    s_dc,
    s_dh,
    s_dw,
    EPS: tl.constexpr,
    H: tl.constexpr,
    W: tl.constexpr,
    BH: tl.constexpr,
    BW: tl.constexpr,
    BN: tl.constexpr,
    BR: tl.constexpr,
    BC: tl.constexpr,
    WIDE: tl.constexpr,
    PRECISION: tl.constexpr,
    ACC: tl.constexpr,
):
    """Compute the sums over one chunk of a group's maps, for one channel, BR rows of u and BC columns of d.

    Stores fold(E), fold(F), R, C and the sum of u along the axis of pos1, each of length H or W.
    """
    DTYPE: tl.constexpr = p_x.dtype.element_ty
    ROWS: tl.constexpr = BH // BR
    COLS: tl.constexpr = BW // BC
    # The blocks of a map run concurrently, so they share reads in the cache.
    block, pid = tl.program_id(0) % (ROWS * COLS), tl.program_id(0) // (ROWS * COLS)
    ch, g, split = pid % channels, pid // channels % groups, pid // channels // groups
    row, col = block % ROWS * BR, block // ROWS * BC
    half = channels // 2
    is_vh = ch < half
    mean = tl.load(p_mean + g * channels + ch)
    inverse = tl.rsqrt(tl.load(p_var + g * channels + ch) + EPS)
    p_kv = row_of(p_vh_kernel1, p_hv_kernel2, ch, half, H)
    p_kh = row_of(p_vh_kernel2, p_hv_kernel1, ch, half, W)
    b_at = circulant(p_kv, row, 0, H, BR, BH, True).to(DTYPE)
    b_bt = circulant(p_kh, 0, col, W, BW, BC, True).to(DTYPE)
    # d is read as [h, (n, w)], u as [(h, n), w]; a reshape converts products from one to the other.
    o_h = tl.arange(0, BH)[:, None]
    o_q = tl.arange(0, BN * BC)[None, :]
    o_p, o_w = o_q // BC, col + o_q % BC
    o_rn = tl.arange(0, BR * BN)[:, None]
    o_ur, o_up, o_uw = row + o_rn // BN, o_rn % BN, tl.arange(0, BW)[None, :]
    p_pos_h = row_of(p_vh_pos1, p_hv_pos1, ch, half, H)
    p_pos_w = row_of(p_vh_pos1, p_hv_pos1, ch, half, W)
    pos1_h, pos1_w = pos1_lengths(ch, half, H, W)
    b_pos_h = tl.load(p_pos_h + o_ur, mask=o_ur < pos1_h, other=0.0).to(ACC) - mean
    b_pos_w = tl.load(p_pos_w + o_uw, mask=o_uw < pos1_w, other=0.0).to(ACC)
    b_e = tl.zeros((BH, BR), ACC)
    b_f = tl.zeros((BC, BW), ACC)
    b_d_sum = tl.zeros((BH, BN * BC), ACC)
    b_u_sum = tl.zeros((BR * BN, BW), ACC)
    end = tl.minimum(per_group, (split + 1) * chunk)
    for t in range(split * chunk, end, BN):
        m = (t + o_p < end) & (o_h < H) & (o_w < W)
        o_d = offsets(g + groups * (t + o_p), ch, o_h, o_w, s_dn, s_dc, s_dh, s_dw, WIDE)
        b_d = tl.load(p_d + o_d, mask=m, other=0.0)  # [BH, BN BC]
        m = (t + o_up < end) & (o_ur < H) & (o_uw < W)
        o_x = offsets(g + groups * (t + o_up), ch, o_ur, o_uw, s_n, s_c, s_h, s_w, WIDE)
        b_u = (tl.load(p_x + o_x, mask=m, other=0.0).to(ACC) + b_pos_h + b_pos_w) * inverse
        b_u = tl.where(m, b_u, 0.0)  # [BR BN, BW]
        b_d_sum += b_d.to(ACC)
        b_u_sum += b_u
        b_u = b_u.to(DTYPE)
        b_ub = tl.dot(b_u, b_bt, input_precision=PRECISION, out_dtype=ACC)
        b_ub = tl.reshape(b_ub.to(DTYPE), (BR, BN * BC))
        b_e = tl.dot(b_d, tl.trans(b_ub), b_e, input_precision=PRECISION, out_dtype=ACC)
        b_ad = tl.dot(b_at, b_d, input_precision=PRECISION, out_dtype=ACC)
        b_ad = tl.reshape(b_ad.to(DTYPE), (BR * BN, BC))
        b_f = tl.dot(tl.trans(b_ad), b_u, b_f, input_precision=PRECISION, out_dtype=ACC)
    L: tl.constexpr = max(H, W)
    o_v, o_c = tl.arange(0, BH), tl.arange(0, BW)
    part = split * (ROWS * COLS) + block
    p_out = p_partial + ((part * groups + g) * channels + ch).to(tl.int64) * (5 * L)
    tl.store(p_out + o_v, fold(b_e, 0, row, H, BH, BH, BR), mask=o_v < H)
    tl.store(p_out + L + o_c, fold(b_f, col, 0, W, BW, BC, BW), mask=o_c < W)
    # Blocks with the same columns read the same d, blocks with the same rows the same u: only the first counts it.
    b_d_sum = tl.where(row == 0, b_d_sum, 0.0)
    b_u_sum = tl.where(col == 0, b_u_sum, 0.0)
    tl.store(p_out + 2 * L + o_v, tl.sum(b_d_sum, axis=1), mask=o_v < H)
    b_c = tl.sum(tl.reshape(b_d_sum, (BH * BN, BC)), axis=0)
    store_block(p_out + 3 * L, b_c, col, W, BW, BC)
    if is_vh:
        b_rows = tl.sum(tl.reshape(b_u_sum, (BR, BN * BW)), axis=1)
        store_block(p_out + 4 * L, b_rows, row, H, BH, BR)
    else:
        tl.store(p_out + 4 * L + o_c, tl.sum(b_u_sum, axis=0), mask=o_c < W)


@triton.jit
def fcc_parameters_kernel(
    p_partial,
    p_var,
    p_moments,
    p_dkv,
    p_dkh,
    p_dpv,
    p_dph,
    p_dscalars,
    p_vh_kernel1,
    p_vh_bias1,
    p_vh_kernel2,
    p_vh_pos2,
    p_vh_weight,
    p_vh_bias,
    p_hv_kernel1,
    p_hv_bias1,
    p_hv_kernel2,
    p_hv_pos2,
    p_hv_weight,
    p_hv_bias,
    parts,
    per_group,
    channels,
    groups,
    EPS: tl.constexpr,
    TRAINING: tl.constexpr,
    H: tl.constexpr,
    W: tl.constexpr,
    BH: tl.constexpr,
    BW: tl.constexpr,
    BG: tl.constexpr,
    BP: tl.constexpr,
    ACC: tl.constexpr,
):
    """Compute the gradients of one channel's parameters, and S_v S_h D_g / M and e_g / M for every group.

    BP partial sums of BG groups are loaded at once; each of their five vectors is one block.
    """
    OUT: tl.constexpr = p_dkv.dtype.element_ty
    L: tl.constexpr = max(H, W)
    ch = tl.program_id(0)
    half = channels // 2
    is_vh, is_hv = ch < half, ch >= half
    p_kv = row_of(p_vh_kernel1, p_hv_kernel2, ch, half, H)
    p_kh = row_of(p_vh_kernel2, p_hv_kernel1, ch, half, W)
    b_kv = vector(p_kv, H, BH, ACC)
    b_kh = vector(p_kh, W, BW, ACC)
    sum_v, sum_h = tl.sum(b_kv, axis=0), tl.sum(b_kh, axis=0)
    weight = tl.load(row_of(p_vh_weight, p_hv_weight, ch, half, 1)).to(ACC)
    b_e = tl.zeros((BH,), ACC)
    b_f = tl.zeros((BW,), ACC)
    b_r = tl.zeros((BH,), ACC)
    b_c = tl.zeros((BW,), ACC)
    b_first_v = tl.zeros((BH,), ACC)
    b_first_h = tl.zeros((BW,), ACC)
    b_centre_v = tl.zeros((BH,), ACC)
    b_centre_h = tl.zeros((BW,), ACC)
    b_weight = tl.zeros((BG,), ACC)
    count = per_group * (1.0 * H * W)
    pos1_h, pos1_w = pos1_lengths(ch, half, H, W)
    o_v, o_h = tl.arange(0, BH), tl.arange(0, BW)
    for g in range(0, groups, BG):
        o_g = g + tl.arange(0, BG)
        m_g = o_g < groups
        b_scale = weight * tl.rsqrt(tl.load(p_var + o_g * channels + ch, m_g, 1.0) + EPS)  # [BG]
        b_ge = tl.zeros((BG, BH), ACC)
        b_gf = tl.zeros((BG, BW), ACC)
        b_gr = tl.zeros((BG, BH), ACC)
        b_gc = tl.zeros((BG, BW), ACC)
        b_guv = tl.zeros((BG, BH), ACC)
        b_guh = tl.zeros((BG, BW), ACC)
        for s in range(0, parts, BP):
            o_s = s + tl.arange(0, BP)
            m = (o_s < parts)[:, None, None] & m_g[None, :, None]  # [BP, BG, 1]
            p_in = p_partial + ((o_s[:, None] * groups + o_g[None, :]) * channels + ch).to(tl.int64)[:, :, None] * (
                5 * L
            )
            p_v, p_h = p_in + o_v[None, None, :], p_in + o_h[None, None, :]
            m_v, m_h = m & (o_v < H)[None, None, :], m & (o_h < W)[None, None, :]
            b_pe = tl.load(p_v, m_v, 0.0)  # [BP, BG, BH]
            b_pf = tl.load(p_h + L, m_h, 0.0)  # [BP, BG, BW]
            b_pr = tl.load(p_v + 2 * L, m_v, 0.0)
            b_pc = tl.load(p_h + 3 * L, m_h, 0.0)
            b_ge += tl.sum(b_pe, axis=0)
            b_gf += tl.sum(b_pf, axis=0)
            b_gr += tl.sum(b_pr, axis=0)
            b_gc += tl.sum(b_pc, axis=0)
            if TRAINING:
                b_guv += tl.sum(tl.load(p_v + 4 * L, m & (o_v < pos1_h)[None, None, :], 0.0), axis=0)
                b_guh += tl.sum(tl.load(p_h + 4 * L, m & (o_h < pos1_w)[None, None, :], 0.0), axis=0)
        b_ke = tl.sum(b_ge * b_kv[None, :], axis=1)  # [BG]
        b_e += tl.sum(b_ge, axis=0)
        b_f += tl.sum(b_gf, axis=0)
        b_r += tl.sum(b_gr, axis=0)
        b_c += tl.sum(b_gc, axis=0)
        b_first_v += tl.sum(b_scale[:, None] * b_gr, axis=0)
        b_first_h += tl.sum(b_scale[:, None] * b_gc, axis=0)
        b_weight += b_ke
        if TRAINING:
            b_moment1 = sum_v * sum_h * tl.sum(b_gr, axis=1) / count
            b_moment2 = b_ke / count
            tl.store(p_moments + o_g * channels + ch, b_moment1, m_g)
            tl.store(p_moments + (groups + o_g) * channels + ch, b_moment2, m_g)
            b_first, b_second = (b_scale * b_moment1)[:, None], (b_scale * b_moment2)[:, None]
            b_centre_v += tl.sum(b_first * (per_group * W) + b_second * b_guv, axis=0)
            b_centre_h += tl.sum(b_first * (per_group * H) + b_second * b_guh, axis=0)
    total = tl.sum(b_r, axis=0)
    bias = tl.load(row_of(p_vh_bias, p_hv_bias, ch, half, 1)).to(ACC)
    bias1 = tl.load(row_of(p_vh_bias1, p_hv_bias1, ch, half, 1)).to(ACC)
    b_shift_v = shifted(row_of(p_vh_pos2, p_hv_pos2, ch, half, H), H - pos1_h, H, BH, ACC)
    b_shift_h = shifted(row_of(p_vh_pos2, p_hv_pos2, ch, half, W), W - pos1_w, W, BW, ACC)
    b_dkv = weight * b_e + total * (bias * sum_h + tl.where(is_hv, bias1, 0.0))
    b_dkh = weight * b_f + total * (bias * sum_v + tl.where(is_vh, bias1, 0.0))
    b_dkv += tl.sum(b_shift_v * b_r[:, None], axis=0)
    b_dkh += tl.sum(b_shift_h * b_c[:, None], axis=0)
    # A^T of a column vector and B^T of a row vector: pos1 in one half, pos2 in the other.
    b_v = tl.where(is_vh, sum_h * b_first_v, b_r)
    b_h = tl.where(is_hv, sum_v * b_first_h, b_c)
    b_dpv = tl.sum(circulant(p_kv, 0, 0, H, BH, BH, False).to(ACC) * b_v[:, None], axis=0)
    b_dph = tl.sum(circulant(p_kh, 0, 0, W, BW, BW, False).to(ACC) * b_h[:, None], axis=0)
    b_dpv -= tl.where(is_vh, b_centre_v, 0.0)
    b_dph -= tl.where(is_hv, b_centre_h, 0.0)
    tl.store(p_dkv + ch * H + o_v, b_dkv.to(OUT), mask=o_v < H)
    tl.store(p_dpv + ch * H + o_v, b_dpv.to(OUT), mask=o_v < H)
    tl.store(p_dkh + ch * W + o_h, b_dkh.to(OUT), mask=o_h < W)
    tl.store(p_dph + ch * W + o_h, b_dph.to(OUT), mask=o_h < W)
    tl.store(p_dscalars + ch, (tl.where(is_vh, sum_h, sum_v) * total).to(OUT))
    tl.store(p_dscalars + channels + ch, total.to(OUT))
    tl.store(p_dscalars + 2 * channels + ch, tl.sum(b_weight, axis=0).to(OUT))
    tl.store(p_dscalars + 3 * channels + ch, (sum_v * sum_h * total).to(OUT))


@triton.jit
def fcc_input_kernel(
    p_x,
    p_d,
    p_dx,
    p_moments,
    p_mean,
    p_var,
    p_vh_kernel1,
    p_vh_pos1,
    p_vh_kernel2,
    p_vh_weight,
    p_hv_kernel1,
    p_hv_pos1,
    p_hv_kernel2,
    p_hv_weight,
    per_group,
    chunk,
    channels,
    groups,
    s_n,
    s_c,
    s_h,
    s_w,
    s_dn,
    s_dc,
    s_dh,
    s_dw,
    EPS: tl.constexpr,
    TRAINING: tl.constexpr,
    H: tl.constexpr,
    W: tl.constexpr,
    BH: tl.constexpr,
    BW: tl.constexpr,
    BN: tl.constexpr,
    BR: tl.constexpr,
    WIDE: tl.constexpr,
    PRECISION: tl.constexpr,
    ACC: tl.constexpr,
):
    """Compute dx of one channel over one chunk of a group's maps."""
    DTYPE: tl.constexpr = p_d.dtype.element_ty
    ROWS: tl.constexpr = BH // BR
    pid = tl.program_id(0)
    ch, g, split = pid % channels, pid // channels % groups, pid // channels // groups
    half = channels // 2
    inverse = tl.rsqrt(tl.load(p_var + g * channels + ch) + EPS)
    scale = inverse * tl.load(row_of(p_vh_weight, p_hv_weight, ch, half, 1)).to(ACC)
    p_kv = row_of(p_vh_kernel1, p_hv_kernel2, ch, half, H)
    p_kh = row_of(p_vh_kernel2, p_hv_kernel1, ch, half, W)
    b_b = circulant(p_kh, 0, 0, W, BW, BW, False).to(DTYPE)
    o_h = tl.arange(0, BH)[:, None]
    o_q = tl.arange(0, BN * BW)[None, :]
    o_p, o_w = o_q // BW, o_q % BW
    o_rn = tl.arange(0, BR * BN)[:, None]
    o_yr, o_yp, o_yw = o_rn // BN, o_rn % BN, tl.arange(0, BW)[None, :]
    if TRAINING:
        mean = tl.load(p_mean + g * channels + ch)
        moment1 = tl.load(p_moments + g * channels + ch)
        moment2 = tl.load(p_moments + (groups + g) * channels + ch) * inverse
        p_pos_h = row_of(p_vh_pos1, p_hv_pos1, ch, half, H)
        p_pos_w = row_of(p_vh_pos1, p_hv_pos1, ch, half, W)
        pos1_h, pos1_w = pos1_lengths(ch, half, H, W)
        b_pos_w = tl.load(p_pos_w + o_yw, mask=o_yw < pos1_w, other=0.0).to(ACC) - mean
    end = tl.minimum(per_group, (split + 1) * chunk)
    b_at = circulant(p_kv, 0, 0, H, BR, BH, True).to(DTYPE)
    for step in range(0, tl.cdiv(end - split * chunk, BN) * ROWS):
        t, row = split * chunk + step // ROWS * BN, step % ROWS * BR
        if ROWS > 1:
            b_at = circulant(p_kv, row, 0, H, BR, BH, True).to(DTYPE)
        m = (t + o_p < end) & (o_h < H) & (o_w < W)
        o_d = offsets(g + groups * (t + o_p), ch, o_h, o_w, s_dn, s_dc, s_dh, s_dw, WIDE)
        b_d = tl.load(p_d + o_d, mask=m, other=0.0)  # [BH, BN BW]
        b_ad = tl.dot(b_at, b_d, input_precision=PRECISION, out_dtype=ACC)
        b_ad = tl.reshape(b_ad.to(DTYPE), (BR * BN, BW))
        b_dx = tl.dot(b_ad, b_b, input_precision=PRECISION, out_dtype=ACC)  # [BR BN, BW]
        n, o_r = g + groups * (t + o_yp), row + o_yr
        m = (t + o_yp < end) & (o_r < H) & (o_yw < W)
        if TRAINING:
            b_x = tl.load(p_x + offsets(n, ch, o_r, o_yw, s_n, s_c, s_h, s_w, WIDE), mask=m, other=0.0).to(ACC)
            b_pos_h = tl.load(p_pos_h + o_r, mask=o_r < pos1_h, other=0.0).to(ACC)
            b_dx -= moment1 + moment2 * (b_x + b_pos_h + b_pos_w)
        if ROWS > 1:
            b_d = tl.load(p_d + offsets(n, ch, o_r, o_yw, s_dn, s_dc, s_dh, s_dw, WIDE), mask=m, other=0.0)
        else:
            b_d = tl.reshape(b_d, (BR * BN, BW))
        b_dx = b_d.to(ACC) + scale * b_dx
        o_dx = offsets(n, ch, o_r, o_yw, channels * (H * W), H * W, W, 1, WIDE)
        tl.store(p_dx + o_dx, b_dx.to(DTYPE), mask=m)


class ReduceTile(NamedTuple):
    """Maps, rows of u and columns of d per program, warps, stages."""

    BN: int
    BR: int
    BC: int
    num_warps: int
    num_stages: int


class ParametersTile(NamedTuple):
    """Groups and partial sums that a program loads at once (a program handles one channel), warps, stages."""

    BG: int
    BP: int
    num_warps: int
    num_stages: int


TILES = {"fcc_reduce_kernel": ReduceTile, "fcc_parameters_kernel": ParametersTile, "fcc_input_kernel": Tile}


def reduce_tile(p: Problem) -> ReduceTile:
    """Choose the tiles of the reductions. They accumulate two matrices, so tiles are smaller or warps more."""
    height, width = p.sides
    if height * width <= 512:
        pinned = ReduceTile(512 // (height * width), height, width, 1 if p.narrow else 2, 2)
    elif p.narrow:
        pinned = ReduceTile(1, min(height, 32), min(width, 32), 4, 2)
    else:
        pinned = ReduceTile(1, min(height, 32), 16, 8, 2)
    return choose("fcc_reduce_kernel", p, pinned)


def parameters_tile(p: Problem) -> ParametersTile:
    """Choose the tiles of the kernel over channels, which has matrices of a map's sides but no products."""
    height, width = p.sides
    side = max(height, width)
    groups = min(triton.next_power_of_2(p.groups), 512 // side)
    sums = min(triton.next_power_of_2(max(1, parts(p))), 1024 // (groups * side))
    pinned = ParametersTile(groups, sums, 4 if height * width <= 512 else 8, 1)
    return choose("fcc_parameters_kernel", p, pinned)


def input_tile(p: Problem) -> Tile:
    """Choose the tiles of dx."""
    height, width = p.sides
    if height * width <= 512:
        pinned = Tile((1024 if p.narrow else 512) // (height * width), height, 1, 2)
    else:
        pinned = Tile(1, min(height, 32), 4, 2)
    return choose("fcc_input_kernel", p, pinned)


class Buffers(NamedTuple):
    """Buffers of the backward.

    Attributes:
        partial: partial sums.
        moments: moments of the statistics.
        gradients: dx, then those of `gradient_shapes`.
    """

    partial: Tensor
    moments: Tensor
    gradients: list[Tensor]


def parts(p: Problem) -> int:
    """Return the number of partial sums of a group and channel."""
    height, width = p.sides
    config = reduce_tile(p)
    return p.splits * (height // config.BR) * (width // config.BC)


def gradient_shapes(x: Tensor) -> list[tuple[int, ...]]:
    """Return the shapes of the gradients of kv, kh, vertical and horizontal positions, and (bias1, bias2, weight, bias)
    of each half."""
    _, c, h, w = x.shape
    return [(2, c // 2, h), (2, c // 2, w)] * 2 + [(8, c // 2)]


def backward_buffers(x: Tensor, dtype: torch.dtype, mean: Tensor) -> Buffers:
    """Return empty buffers. `dtype` is the dtype of the parameters."""
    p = problem(x, mean.shape[0])
    partial = mean.new_empty(parts(p), *mean.shape, 5, max(p.height, p.width))
    gradients = [torch.empty(shape, dtype=dtype, device=x.device) for shape in gradient_shapes(x)]
    dx = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    return Buffers(partial, mean.new_empty(2, *mean.shape), [dx, *gradients])


def backward_launches(
    x: Tensor,
    d: Tensor,
    vh: Sequence[Tensor],
    hv: Sequence[Tensor],
    mean: Tensor,
    var: Tensor,
    buffers: Buffers,
    eps: float,
    training: bool,
    target: Target,
) -> list[Launch]:
    """Make the launches that compute `buffers.gradients`."""
    p = problem(x, mean.shape[0])
    names = ("p_dx", "p_dkv", "p_dkh", "p_dpv", "p_dph", "p_dscalars")
    values: dict[str, Any] = {"p_x": x, "p_d": d, "p_mean": mean, "p_var": var, **parameters(vh, hv)}
    values |= {"p_partial": buffers.partial, "p_moments": buffers.moments}
    values |= dict(zip(names, buffers.gradients, strict=True)) | strides(x) | strides(d, "s_d")
    values |= {"EPS": eps, "TRAINING": training, "parts": parts(p)}
    reductions = p.channels * p.groups * parts(p)
    final = values if training else {**values, "p_x": None, "p_mean": None, "p_moments": None}
    reduced, blocks = reduce_tile(p), p.sides[0] // input_tile(p).BR
    # Each block of rows of u reads all of d, each block of columns of d all of u, each block of rows of dx all of d and
    # its own rows.
    rows, columns = p.sides[0] // reduced.BR, p.sides[1] // reduced.BC
    reduced_again = (rows - 1) * common.size_of(d) + (columns - 1) * common.size_of(x)
    again = blocks * common.size_of(d) if blocks > 1 else 0
    return [
        launch(fcc_reduce_kernel, "backward", p, target, reduced, reductions, 2 * p.flops, values, reduced_again),
        launch(fcc_parameters_kernel, "backward", p, target, parameters_tile(p), p.channels, 0, values),
        launch(fcc_input_kernel, "backward", p, target, input_tile(p), p.programs, p.flops, final, again),
    ]
