# mypy: allow-untyped-defs
"""Correlation of two maps over a window of displacements, with its mean and LeakyReLU, fused: forward and backward.

With R = max_displacement // stride and displacements dy, dx in -R..R,

    out[n, (dy, dx), y, x] = f(mean_c a[n, c, y, x] b[n, c, y + stride dy, x + stride dx]),  zero outside the map

where f is LeakyReLU (slope 1: none). For each map this is the product P = a^T b / C of all pairs of positions; the
displacement of a pair gives the address of its entry. Rows y and y + stride dy agree modulo the stride, so there is one
product per residue: `stride` products of side D / stride, D = H W, which is 1 / stride of all pairs. Entries that no
pair reaches are stored as zero, once, by the program that owns the position of a.

Backward. With g = dL/dout f'(out), where the sign of the output gives LeakyReLU's derivative, and G[p, q] the entry of
g of the pair (p, q), zero if there is none:

    da[c, p] = sum_q b[c, q] G[p, q] / C        db[c, q] = sum_p a[c, p] G[p, q] / C

G is never stored: its tiles are loaded from g at the same computed addresses. A non-finite value of a or b spreads to
the other gradient at all positions its row can be paired with, as in a product with a stored G.

Launches: forward one, backward one. Maps of at most 64 x 64.

Bytes: forward a, b and out once; backward a, b, da, db once, and the entries of g (and out, unless slope 1) with both
positions inside. FLOPs: forward P = 2 N C D^2 / stride, backward 2 P.

Source: FlowNetC's correlation, as used by the MOL paper.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from . import common, operators, tiles
from .common import Launch, Target
from .prepared import Built, Recipe, run

MAX_SIDE = 64


@triton.jit
def positions(tile, residue, B: tl.constexpr, H: tl.constexpr, W: tl.constexpr, STRIDE: tl.constexpr):
    """Return row, column and mask of positions `tile` to `tile + B` among the rows with `residue` mod STRIDE."""
    o = tile + tl.arange(0, B)
    o_y = residue + o // W * STRIDE
    return o_y, o % W, o_y < H


@triton.jit
def first_and_end(tile, residue, B: tl.constexpr, BN, H: tl.constexpr, W: tl.constexpr, STRIDE: tl.constexpr, REACH):
    """Return first and end of the positions that a tile of B positions meets; first is a multiple of BN."""
    rows = (H - residue + STRIDE - 1) // STRIDE
    first = tl.maximum(tile // W - REACH, 0) * W
    end = tl.minimum((tile + B - 1) // W + REACH + 1, rows) * W
    return first // BN * BN, end


@triton.jit
def displaced(o_y, o_x, o_ty, o_tx, STRIDE: tl.constexpr, REACH: tl.constexpr):
    """Return index and mask of the displacement from (y, x) to (ty, tx), for rows of one residue."""
    o_dy, o_dx = (o_ty - o_y) // STRIDE, (o_tx - o_x) // STRIDE
    m = ((o_tx - o_x) % STRIDE == 0) & (tl.abs(o_dy) <= REACH) & (tl.abs(o_dx) <= REACH)
    return (o_dy + REACH) * (2 * REACH + 1) + o_dx + REACH, m


@triton.jit
def correlation_forward_kernel(
    p_a,
    p_b,
    p_out,
    channels,
    tiles,
    s_an,
    s_ac,
    s_ah,
    s_aw,
    s_bn,
    s_bc,
    s_bh,
    s_bw,
    SLOPE: tl.constexpr,
    STRIDE: tl.constexpr,
    REACH: tl.constexpr,
    H: tl.constexpr,
    W: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
    BK: tl.constexpr,
    WIDE: tl.constexpr,
    PRECISION: tl.constexpr,
    ACC: tl.constexpr,
):
    """Compute all displacements of BM positions of a map of a, in rows of one residue."""
    INDEX: tl.constexpr = tl.int64 if WIDE else tl.int32
    COUNT: tl.constexpr = (2 * REACH + 1) * (2 * REACH + 1)
    pid = tl.program_id(0)
    tile, residue, n = pid % tiles * BM, pid // tiles % STRIDE, (pid // tiles // STRIDE).to(tl.int64)
    o_ay, o_ax, m_a = positions(tile, residue, BM, H, W, STRIDE)
    o_k = tl.arange(0, BK)
    p_a += n * s_an + o_ay.to(INDEX)[None, :] * s_ah + o_ax.to(INDEX)[None, :] * s_aw  # [1, BM]
    p_out += n * (COUNT * H * W)
    o_out = (o_ay * W + o_ax).to(INDEX)
    first, end = first_and_end(tile, residue, BM, BN, H, W, STRIDE, REACH)
    for start in range(first, end, BN):
        o_by, o_bx, m_b = positions(start, residue, BN, H, W, STRIDE)
        p_bn = p_b + n * s_bn + o_by.to(INDEX)[None, :] * s_bh + o_bx.to(INDEX)[None, :] * s_bw  # [1, BN]
        b_pairs = tl.zeros((BM, BN), ACC)
        for c in range(0, channels, BK):
            m_k = c + o_k < channels
            o_c = (c + o_k).to(INDEX)[:, None]
            b_a = tl.load(p_a + o_c * s_ac, mask=m_k[:, None] & m_a[None, :], other=0.0)  # [BK, BM]
            b_b = tl.load(p_bn + o_c * s_bc, mask=m_k[:, None] & m_b[None, :], other=0.0)  # [BK, BN]
            b_pairs = tl.dot(tl.trans(b_a), b_b, b_pairs, input_precision=PRECISION, out_dtype=ACC)
        b_pairs = b_pairs / channels
        b_pairs = tl.where(b_pairs > 0, b_pairs, b_pairs * SLOPE) if SLOPE != 1.0 else b_pairs
        o_d, m = displaced(o_ay[:, None], o_ax[:, None], o_by[None, :], o_bx[None, :], STRIDE, REACH)
        m &= m_a[:, None] & m_b[None, :]
        o_d = o_d.to(INDEX) * (H * W) + o_out[:, None]
        tl.store(p_out + o_d, b_pairs.to(p_out.dtype.element_ty), mask=m)
    o_c = tl.arange(0, 16)[:, None]
    for d in range(0, COUNT, 16):
        o_y = o_ay[None, :] + ((d + o_c) // (2 * REACH + 1) - REACH) * STRIDE
        o_x = o_ax[None, :] + ((d + o_c) % (2 * REACH + 1) - REACH) * STRIDE
        inside = (o_y >= 0) & (o_y < H) & (o_x >= 0) & (o_x < W)
        m = (d + o_c < COUNT) & m_a[None, :] & (inside == 0)
        tl.store(p_out + (d + o_c).to(INDEX) * (H * W) + o_out[None, :], 0.0, mask=m)  # [16, BM]


@triton.jit
def correlation_gradient(
    p_other,
    p_own,
    p_g,
    p_out,
    n,
    tile,
    residue,
    block,
    channels,
    s_n,
    s_c,
    s_h,
    s_w,
    s_gn,
    s_gd,
    s_gh,
    s_gw,
    OWN_IS_A: tl.constexpr,
    SLOPE: tl.constexpr,
    STRIDE: tl.constexpr,
    REACH: tl.constexpr,
    H: tl.constexpr,
    W: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
    BC: tl.constexpr,
    INDEX: tl.constexpr,
    PRECISION: tl.constexpr,
    ACC: tl.constexpr,
):
    """Compute the gradient of BC channels of BM positions of a map, from the paired positions of the other map."""
    COUNT: tl.constexpr = (2 * REACH + 1) * (2 * REACH + 1)
    DTYPE: tl.constexpr = p_other.dtype.element_ty
    o_y, o_x, m_own = positions(tile, residue, BM, H, W, STRIDE)
    o_c = block + tl.arange(0, BC)
    m_c = o_c < channels
    p_other += n * s_n + o_c.to(INDEX)[:, None] * s_c  # [BC, 1]
    p_g += n * s_gn
    p_out += n * (COUNT * H * W)
    b_own = tl.zeros((BC, BM), ACC)
    first, end = first_and_end(tile, residue, BM, BN, H, W, STRIDE, REACH)
    for start in range(first, end, BN):
        o_oy, o_ox, m_other = positions(start, residue, BN, H, W, STRIDE)
        if OWN_IS_A:
            o_ay, o_ax = tl.broadcast_to(o_y[None, :], (BN, BM)), tl.broadcast_to(o_x[None, :], (BN, BM))
            o_d, m = displaced(o_ay, o_ax, o_oy[:, None], o_ox[:, None], STRIDE, REACH)
        else:
            o_ay, o_ax = tl.broadcast_to(o_oy[:, None], (BN, BM)), tl.broadcast_to(o_ox[:, None], (BN, BM))
            o_d, m = displaced(o_ay, o_ax, o_y[None, :], o_x[None, :], STRIDE, REACH)
        m &= m_other[:, None] & m_own[None, :]
        o_d, o_ay, o_ax = o_d.to(INDEX), o_ay.to(INDEX), o_ax.to(INDEX)
        b_g = tl.load(p_g + o_d * s_gd + o_ay * s_gh + o_ax * s_gw, mask=m, other=0.0)  # [BN, BM]
        if SLOPE != 1.0:
            b_out = tl.load(p_out + o_d * (H * W) + o_ay * W + o_ax, mask=m, other=0.0)
            b_g = tl.where(b_out > 0, b_g.to(ACC), b_g.to(ACC) * SLOPE).to(DTYPE)
        o_other = o_oy.to(INDEX)[None, :] * s_h + o_ox.to(INDEX)[None, :] * s_w
        b_other = tl.load(p_other + o_other, mask=m_c[:, None] & m_other[None, :], other=0.0)  # [BC, BN]
        b_own = tl.dot(b_other, b_g, b_own, input_precision=PRECISION, out_dtype=ACC)
    p_own += (n * channels + o_c)[:, None] * (H * W) + (o_y * W + o_x)[None, :]
    tl.store(p_own, (b_own / channels).to(DTYPE), mask=m_c[:, None] & m_own[None, :])


@triton.jit
def correlation_backward_kernel(
    p_a,
    p_b,
    p_g,
    p_out,
    p_da,
    p_db,
    channels,
    tiles,
    blocks,
    s_an,
    s_ac,
    s_ah,
    s_aw,
    s_bn,
    s_bc,
    s_bh,
    s_bw,
    s_gn,
    s_gd,
    s_gh,
    s_gw,
    SLOPE: tl.constexpr,
    STRIDE: tl.constexpr,
    REACH: tl.constexpr,
    H: tl.constexpr,
    W: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
    BC: tl.constexpr,
    WIDE: tl.constexpr,
    PRECISION: tl.constexpr,
    ACC: tl.constexpr,
):
    """Compute da or db of BC channels of BM positions of a map, in rows of one residue."""
    INDEX: tl.constexpr = tl.int64 if WIDE else tl.int32
    pid = tl.program_id(0)
    tile, residue, pid = pid % tiles * BM, pid // tiles % STRIDE, pid // tiles // STRIDE
    block, side, n = pid % blocks * BC, pid // blocks % 2, (pid // blocks // 2).to(tl.int64)
    if side == 0:
        correlation_gradient(
            p_b, p_da, p_g, p_out, n, tile, residue, block, channels, s_bn, s_bc, s_bh, s_bw, s_gn, s_gd, s_gh, s_gw,
            True, SLOPE, STRIDE, REACH, H, W, BM, BN, BC, INDEX, PRECISION, ACC,
        )  # fmt: skip
    else:
        correlation_gradient(
            p_a, p_db, p_g, p_out, n, tile, residue, block, channels, s_an, s_ac, s_ah, s_aw, s_gn, s_gd, s_gh, s_gw,
            False, SLOPE, STRIDE, REACH, H, W, BM, BN, BC, INDEX, PRECISION, ACC,
        )  # fmt: skip


class ForwardTile(NamedTuple):
    """Positions of a tile and of its partners, channels per step, warps, stages."""

    BM: int
    BN: int
    BK: int
    num_warps: int
    num_stages: int


class BackwardTile(NamedTuple):
    """Positions of a tile and of its partners, channels per program, warps, stages."""

    BM: int
    BN: int
    BC: int
    num_warps: int
    num_stages: int


TILES = {"correlation_forward_kernel": ForwardTile, "correlation_backward_kernel": BackwardTile}


def forward_tile(a: Tensor) -> ForwardTile:
    """Choose the tiles of the forward. The pinned ones spill on no target."""
    pinned = ForwardTile(64, 64, 32, 4, 3) if a.element_size() == 2 else ForwardTile(64, 32, 32, 4, 2)
    return tiles.choose("correlation_forward_kernel", shape_class(a), a.dtype, pinned, a.device)


def backward_tile(a: Tensor) -> BackwardTile:
    """Choose the tiles of the backward. The pinned ones have as many channels as fit: each block gathers g again."""
    block = min(256, max(64, triton.next_power_of_2(a.shape[1])))
    pinned = BackwardTile(64, 32 if a.element_size() == 2 else 16, block, min(8, block // 16), 2)
    return tiles.choose("correlation_backward_kernel", shape_class(a), a.dtype, pinned, a.device)


def shape_class(a: Tensor) -> str:
    return tiles.shape_class(a.shape[1], a.shape[2] * a.shape[3])


def pairs(shape: tuple[int, ...], stride: int) -> int:
    """Count the pairs of positions whose rows agree modulo the stride."""
    n, _, h, w = shape
    return n * sum(len(range(residue, h, stride)) ** 2 for residue in range(min(stride, h))) * w * w


def reached(shape: tuple[int, ...], reach: int, stride: int) -> int:
    """Count the entries of the output whose second position is inside the map."""
    n, _, h, w = shape
    rows, cols = (sum(max(0, side - stride * abs(d)) for d in range(-reach, reach + 1)) for side in (h, w))
    return n * rows * cols


def meetings(shape: tuple[int, ...], reach: int, stride: int, size: int, other: int) -> int:
    """Count the products of tiles of a map: tiles of `size` positions with tiles of `other`, as in `first_and_end`."""
    _, _, h, w = shape
    total = 0
    for residue in range(stride):
        rows = triton.cdiv(h - residue, stride)
        for tile in range(0, triton.cdiv(h, stride) * w, size):
            first = max(tile // w - reach, 0) * w // other * other
            end = min((tile + size - 1) // w + reach + 1, rows) * w
            total += max(0, triton.cdiv(end - first, other))
    return total


def tensor_strides(prefix: str, axes: str, x: Tensor) -> dict[str, int]:
    return {f"s_{prefix}{axis}": stride for axis, stride in zip(axes, x.stride(), strict=True)}


def constants(a: Tensor, reach: int, stride: int, slope: float, target: Target, *tensors: Tensor) -> dict[str, Any]:
    return {
        "SLOPE": slope,
        "STRIDE": stride,
        "REACH": reach,
        "H": a.shape[2],
        "W": a.shape[3],
        "WIDE": common.wide(a, *tensors),
        "PRECISION": common.precision(a.dtype, target),
        "ACC": common.accumulator(a.dtype),
    }


def tiles_of(a: Tensor, stride: int, size: int) -> int:
    """Count the tiles of `size` positions in the rows of one residue."""
    return triton.cdiv(triton.cdiv(a.shape[2], stride) * a.shape[3], size)


def forward_launch(a: Tensor, b: Tensor, out: Tensor, reach: int, stride: int, slope: float, target: Target) -> Launch:
    n, c, _, _ = a.shape
    config = forward_tile(a)
    count = tiles_of(a, stride, config.BM)
    met = meetings(a.shape, reach, stride, config.BM, config.BN)
    return Launch(
        kernel=correlation_forward_kernel,
        phase="forward",
        grid=(n * stride * count,),
        arguments={
            "p_a": a,
            "p_b": b,
            "p_out": out,
            "channels": c,
            "tiles": count,
            **tensor_strides("a", "nchw", a),
            **tensor_strides("b", "nchw", b),
        },
        constants={
            **constants(a, reach, stride, slope, target, b, out),
            "BM": config.BM,
            "BN": config.BN,
            "BK": config.BK,
        },
        num_warps=config.num_warps,
        num_stages=config.num_stages,
        bytes=common.size_of(a, b, out),
        flops=2 * c * pairs(a.shape, stride),
        again=max(0, n * met * c * (config.BM + config.BN) * a.element_size() - common.size_of(a, b)),
    )


def backward_launch(
    a: Tensor,
    b: Tensor,
    g: Tensor,
    out: Tensor,
    da: Tensor,
    db: Tensor,
    reach: int,
    stride: int,
    slope: float,
    target: Target,
) -> Launch:
    """Make the launch of the backward. `out` is read unless the slope is 1."""
    n, c, _, _ = a.shape
    config = backward_tile(a)
    count, blocks = tiles_of(a, stride, config.BM), triton.cdiv(c, config.BC)
    maps = 1 if slope == 1.0 else 2
    entries = maps * reached(a.shape, reach, stride) * g.element_size()
    met = meetings(a.shape, reach, stride, config.BM, config.BN)
    again = max(0, 2 * n * met * c * config.BN * a.element_size() - common.size_of(a, b)) + (2 * blocks - 1) * entries
    return Launch(
        kernel=correlation_backward_kernel,
        phase="backward",
        grid=(n * 2 * blocks * stride * count,),
        arguments={
            "p_a": a,
            "p_b": b,
            "p_g": g,
            "p_out": out,
            "p_da": da,
            "p_db": db,
            "channels": c,
            "tiles": count,
            "blocks": blocks,
            **tensor_strides("a", "nchw", a),
            **tensor_strides("b", "nchw", b),
            **tensor_strides("g", "ndhw", g),
        },
        constants={
            **constants(a, reach, stride, slope, target, b, g, out),
            "BM": config.BM,
            "BN": config.BN,
            "BC": config.BC,
        },
        num_warps=config.num_warps,
        num_stages=config.num_stages,
        bytes=common.size_of(a, b, da, db) + entries,
        flops=4 * c * pairs(a.shape, stride),
        again=again,
    )


def output_like(a: Tensor, max_displacement: int, stride: int) -> Tensor:
    n, _, h, w = a.shape
    return a.new_empty(n, (2 * (max_displacement // stride) + 1) ** 2, h, w)


def build_forward(a: Tensor, b: Tensor, max_displacement: int, stride: int, slope: float, target: Target) -> Built:
    """Build the forward."""
    out = output_like(a, max_displacement, stride)
    return [out], [], [forward_launch(a, b, out, max_displacement // stride, stride, slope, target)]


def build_backward(
    g: Tensor, a: Tensor, b: Tensor, out: Tensor, max_displacement: int, stride: int, slope: float, target: Target
) -> Built:
    """Build the backward: gradients of a and b."""
    da, db = (x.new_empty(x.shape) for x in (a, b))
    reach = max_displacement // stride
    return [da, db], [], [backward_launch(a, b, g, out, da, db, reach, stride, slope, target)]


FORWARD = Recipe(("a", "b"), build_forward, 2)
BACKWARD = Recipe(("the gradient", "a", "b", "out"), build_backward, 4)


def correlate(a: Tensor, b: Tensor, max_displacement: int, stride: int, negative_slope: float) -> Tensor:
    return run(FORWARD, (a, b), max_displacement, stride, negative_slope, common.target())[0]


def correlate_fake(a: Tensor, b: Tensor, max_displacement: int, stride: int, negative_slope: float) -> Tensor:
    return output_like(a, max_displacement, stride)


correlation_forward = operators.define(
    "correlation(Tensor a, Tensor b, int max_displacement, int stride, float negative_slope) -> Tensor",
    correlate,
    correlate_fake,
)
"""Returns the correlation, followed by LeakyReLU with this slope."""


def differentiate(
    g: Tensor, a: Tensor, b: Tensor, out: Tensor | None, max_displacement: int, stride: int, negative_slope: float
) -> list[Tensor]:
    read = g if out is None else out
    return run(BACKWARD, (g, a, b, read), max_displacement, stride, negative_slope, common.target())


def differentiate_fake(
    g: Tensor, a: Tensor, b: Tensor, out: Tensor | None, max_displacement: int, stride: int, negative_slope: float
) -> list[Tensor]:
    return [a.new_empty(a.shape), b.new_empty(b.shape)]


correlation_backward = operators.define(
    "correlation_backward(Tensor g, Tensor a, Tensor b, Tensor? out, int max_displacement, int stride,"
    " float negative_slope) -> Tensor[]",
    differentiate,
    differentiate_fake,
)
"""Returns the gradients of a and b. `out` may be None for slope 1."""


class Correlation(torch.autograd.Function):
    """`correlation_forward` with its derivative."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, max_displacement: int, stride: int, slope: float) -> Tensor:
        with operators.below_autograd():
            out = correlation_forward(a, b, max_displacement, stride, slope)
        ctx.window = max_displacement, stride, slope
        ctx.save_for_backward(a, b, None if slope == 1.0 else out)
        ctx.set_materialize_grads(False)
        return out

    @staticmethod
    def backward(ctx: Any, g: Tensor | None) -> tuple[Any, ...]:
        arguments = (g, *ctx.saved_tensors, *ctx.window)
        da, db = (None, None) if g is None else operators.call(correlation_backward, *arguments)
        return da, db, None, None, None


operators.differentiate(correlation_forward, Correlation.apply)
operators.end(correlation_backward)


def correlation(
    a: Tensor, b: Tensor, max_displacement: int = 20, stride: int = 2, negative_slope: float = 1.0
) -> Tensor:
    """Compute the correlation of two maps and LeakyReLU in one fused kernel.

    Args:
        a, b: maps `(N, C, H, W)`, H and W from 1 to 64, same shape, dtype and device, any strides, on a GPU (or
            anywhere under TRITON_INTERPRET=1); float32, float16, bfloat16 (float64 under the interpreter).
        max_displacement, stride: in cells of the map.
        negative_slope: slope of the LeakyReLU, at least 0; 1 for none.

    Returns:
        `(N, (2 (max_displacement // stride) + 1)^2, H, W)`, contiguous, dy outer; zero if the second position is
        outside the map.

    Raises:
        ValueError: an argument has a wrong shape, dtype, device or value.
    """
    check(a, b, max_displacement, stride, negative_slope)
    return fused(a, b, max_displacement, stride, negative_slope)


def fused(a: Tensor, b: Tensor, max_displacement: int, stride: int, negative_slope: float) -> Tensor:
    """Compute `correlation` for checked arguments."""
    out: Tensor = operators.call(correlation_forward, a, b, max_displacement, stride, negative_slope)
    return out


def check(a: Tensor, b: Tensor, max_displacement: int, stride: int, negative_slope: float) -> None:
    """Raise ValueError for arguments that the kernels do not support."""
    common.check_input("a", a)
    common.check_input("b", b)
    if a.shape != b.shape or a.dtype != b.dtype or a.device != b.device:
        like = f"{tuple(a.shape)} {a.dtype} on {a.device}"
        raise ValueError(f"b must be like a ({like}), got {tuple(b.shape)} {b.dtype} on {b.device}")
    if max(a.shape[2:]) > MAX_SIDE:
        raise ValueError(f"a must have sides from 1 to {MAX_SIDE}, got {tuple(a.shape)}")
    if stride < 1 or max_displacement < 0:
        raise ValueError(f"stride must be positive and max_displacement at least 0, got {stride}, {max_displacement}")
    if negative_slope < 0:
        raise ValueError(f"negative_slope must be at least 0, got {negative_slope}")


def launches(
    shape: tuple[int, int, int, int],
    dtype: torch.dtype,
    target: Target,
    *,
    max_displacement: int = 20,
    stride: int = 2,
    negative_slope: float = 1.0,
    channels_last: bool = False,
) -> list[Launch]:
    """Return the launches of a forward and a backward call. No device is used.

    With `channels_last`, maps are channels last and the gradient is a slice of wider channels-last maps, as in the flow
    head; otherwise all tensors are contiguous.
    """
    order = torch.channels_last if channels_last else torch.contiguous_format
    a = torch.empty(shape, dtype=dtype, device="meta", memory_format=order)
    window = max_displacement, stride, negative_slope, target
    (out,), _, forward = build_forward(a, a, *window)
    g = out
    if channels_last:
        n, count, h, w = out.shape
        joined = count + 2 * shape[1] + 32
        wide = out.new_empty(n, h, w, joined + -joined % 8)
        g = wide[..., 32 : 32 + count].permute(0, 3, 1, 2)
    return forward + build_backward(g, a, a, out, *window)[2]


def shipped(dtype: torch.dtype, target: Target) -> Iterator[tuple[str, list[Launch]]]:
    """Yield all shipped configurations: the flow head's correlation with LeakyReLU, channels last and contiguous, and
    correlations with fewer channels."""
    head = 14  # cells; on the flow head's maps, longer displacements always leave the map
    name, shape = "224x256x16x16-channels-last", (224, 256, 16, 16)
    yield name, launches(shape, dtype, target, max_displacement=head, negative_slope=0.1, channels_last=True)
    for shape, reach in (((224, 256, 16, 16), head), ((8, 128, 64, 64), 20), ((8, 64, 16, 16), 20)):
        yield "x".join(map(str, shape)), launches(shape, dtype, target, max_displacement=reach, negative_slope=0.1)
