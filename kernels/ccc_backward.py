# mypy: allow-untyped-defs
"""The backward kernels of CCC: gradients of the maps, and of the parameters. `ccc.py` has the mathematics."""

from typing import Any, NamedTuple

import triton
import triton.language as tl
from torch import Tensor

from . import common, tiles
from .ccc_forward import choose, launch, packed, pixels, planes, rank_offsets, sides, sizes, steps
from .common import Launch, Target

PARTS = 128
"""Programs that the gradients of the parameters are spread over, where there are maps enough."""
MANY, SMALL = 128, 128 * 256
"""From so many maps of at most so many elements on, one program makes both gradients of a map."""


@triton.jit
def load_ranks(p_winner, o_c, d, channels, area, BC: tl.constexpr, BD: tl.constexpr, PACKED: tl.constexpr):
    """The ranks of the winners at the BC channels `o_c` and the pixels from `d`, of one map."""
    o_w, m_w = rank_offsets(o_c, d, channels, area, BD, PACKED)
    b_w = tl.load(p_winner + o_w, m_w, 0)
    if PACKED:
        b_w = tl.reshape(tl.join(b_w & 15, b_w >> 4), (BC, BD))
    return b_w  # [BC, BD]


@triton.jit
def edge_gradient(
    p_dy,
    p_winner,
    p_index,
    p_mix,
    p_dpq,
    n,
    d,
    s_n,
    s_c,
    s_h,
    s_w,
    channels,
    area,
    width,
    ranks,
    CP: tl.constexpr,
    BD: tl.constexpr,
    BI: tl.constexpr,
    BK: tl.constexpr,
    PACKED: tl.constexpr,
    FLAT: tl.constexpr,
    WIDE: tl.constexpr,
    ACC: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """dP and dQ of map n at the pixels from `d`."""
    p_dy += n * s_n
    p_winner += n * channels * (((area + 1) // 2) if PACKED else area)
    p_index += n * ranks * channels
    p_dpq += n * channels * area * 2
    o_c = tl.arange(0, CP)
    o_d = d + tl.arange(0, BD)
    m_c, m_d = o_c < channels, o_d < area
    m_t = m_c[:, None] & m_d[None, :]
    dtype = p_dpq.dtype.element_ty
    o_p = pixels(o_d, width, s_h, s_w, FLAT, WIDE)
    b_de = tl.zeros((CP, BD), ACC)
    for k in range(0, channels, BK):
        o_k = k + tl.arange(0, BK)
        m_k = o_k < channels
        b_m = tl.load(p_mix + o_k[None, :] * channels + o_c[:, None], m_c[:, None] & m_k[None, :], 0.0)  # [CP, BK]
        b_dy = tl.load(
            p_dy + steps(o_k, s_c, WIDE)[:, None] + o_p[None, :], m_k[:, None] & m_d[None, :], 0.0
        )  # [BK, BD]
        b_de = tl.dot(b_m, b_dy, b_de, input_precision=PRECISION, out_dtype=ACC)  # [CP, BD]
    b_w = load_ranks(p_winner, o_c, d, channels, area, CP, BD, PACKED)
    p_dp = p_dpq + o_d[None, :]
    tl.store(p_dp + o_c[:, None] * (2 * area), tl.where(b_w < ranks, b_de, 0.0).to(dtype), m_t)
    tl.debug_barrier()  # all of dP is written before its rows are read back
    b_dq = tl.zeros((CP, BD), ACC)
    for i in range(0, channels, BI):
        o_i = i + tl.arange(0, BI)
        m_i = o_i < channels
        m_it = m_i[:, None] & m_d[None, :]
        b_di = tl.load(p_dp + o_i[:, None] * (2 * area), m_it, 0.0)  # [BI, BD]
        b_wi = load_ranks(p_winner, o_i, d, channels, area, BI, BD, PACKED)
        for r in range(ranks):
            b_j = tl.load(p_index + r * channels + o_i, m_i, -1)
            b_r = (b_j[None, :] == o_c[:, None]).to(dtype)  # [CP, BI], 1 where i has j at rank r
            b_dr = tl.where(b_wi == r, b_di, 0.0)
            b_dq = tl.dot(b_r, b_dr, b_dq, input_precision=PRECISION, out_dtype=ACC)  # [CP, BD]
    tl.store(p_dp + o_c[:, None] * (2 * area) + area, b_dq.to(dtype), m_t)


@triton.jit
def input_gradient(
    p_dy,
    p_dpq,
    p_weight,
    p_dx,
    n,
    d,
    s_n,
    s_c,
    s_h,
    s_w,
    channels,
    area,
    width,
    CP: tl.constexpr,
    BX: tl.constexpr,
    BK: tl.constexpr,
    FLAT: tl.constexpr,
    WIDE: tl.constexpr,
    ACC: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """dx = dy + (dP|dQ) (W_n - W_e | W_e) of map n at the pixels from `d`."""
    p_dpq += n * channels * area * 2
    o_c = tl.arange(0, CP)
    o_d = d + tl.arange(0, BX)
    m_c, m_d = o_c < channels, o_d < area
    m_t = m_c[:, None] & m_d[None, :]
    b_dx = tl.zeros((CP, BX), ACC)
    for k in range(0, 2 * area, BK):
        o_k = k + tl.arange(0, BK)
        m_k = o_k < 2 * area
        b_g = tl.load(p_dpq + o_c[:, None] * (2 * area) + o_k[None, :], m_c[:, None] & m_k[None, :], 0.0)  # [CP, BK]
        b_w = tl.load(p_weight + o_k[:, None] * area + o_d[None, :], m_k[:, None] & m_d[None, :], 0.0)  # [BK, BX]
        b_dx = tl.dot(b_g, b_w, b_dx, input_precision=PRECISION, out_dtype=ACC)
    o_p = pixels(o_d, width, s_h, s_w, FLAT, WIDE)
    b_dx += tl.load(p_dy + n * s_n + steps(o_c, s_c, WIDE)[:, None] + o_p[None, :], m_t, 0.0).to(ACC)
    tl.store(p_dx + n * channels * area + o_c[:, None] * area + o_d[None, :], b_dx.to(p_dx.dtype.element_ty), m_t)


@triton.jit
def ccc_edge_gradient_kernel(
    p_dy,
    p_winner,
    p_index,
    p_mix,
    p_dpq,
    s_n,
    s_c,
    s_h,
    s_w,
    channels,
    area,
    width,
    ranks,
    CP: tl.constexpr,
    BD: tl.constexpr,
    BI: tl.constexpr,
    BK: tl.constexpr,
    PACKED: tl.constexpr,
    FLAT: tl.constexpr,
    WIDE: tl.constexpr,
    ACC: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Grid: (N, tiles of BD pixels)."""
    n, d = tl.program_id(0).to(tl.int64), tl.program_id(1) * BD
    edge_gradient(
        p_dy, p_winner, p_index, p_mix, p_dpq, n, d, s_n, s_c, s_h, s_w, channels, area, width, ranks,
        CP, BD, BI, BK, PACKED, FLAT, WIDE, ACC, PRECISION,
    )  # fmt: skip


@triton.jit
def ccc_input_gradient_kernel(
    p_dy,
    p_dpq,
    p_weight,
    p_dx,
    s_n,
    s_c,
    s_h,
    s_w,
    channels,
    area,
    width,
    CP: tl.constexpr,
    BX: tl.constexpr,
    BK: tl.constexpr,
    FLAT: tl.constexpr,
    WIDE: tl.constexpr,
    ACC: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Grid: (N, tiles of BX pixels)."""
    n, d = tl.program_id(0).to(tl.int64), tl.program_id(1) * BX
    input_gradient(
        p_dy, p_dpq, p_weight, p_dx, n, d, s_n, s_c, s_h, s_w, channels, area, width,
        CP, BX, BK, FLAT, WIDE, ACC, PRECISION,
    )  # fmt: skip


@triton.jit
def ccc_map_gradient_kernel(
    p_dy,
    p_winner,
    p_index,
    p_mix,
    p_weight,
    p_dpq,
    p_dx,
    s_n,
    s_c,
    s_h,
    s_w,
    channels,
    area,
    width,
    ranks,
    CP: tl.constexpr,
    BD: tl.constexpr,
    BI: tl.constexpr,
    BX: tl.constexpr,
    BK: tl.constexpr,
    PACKED: tl.constexpr,
    FLAT: tl.constexpr,
    WIDE: tl.constexpr,
    ACC: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Both gradients of one map in one program, which reads its dP|dQ back from the cache. Grid: (N,)."""
    n = tl.program_id(0).to(tl.int64)
    for d in range(0, area, BD):
        edge_gradient(
            p_dy, p_winner, p_index, p_mix, p_dpq, n, d, s_n, s_c, s_h, s_w, channels, area, width, ranks,
            CP, BD, BI, BK, PACKED, FLAT, WIDE, ACC, PRECISION,
        )  # fmt: skip
    tl.debug_barrier()  # all of dP|dQ is written before it is read back
    for d in range(0, area, BX):
        input_gradient(
            p_dy, p_dpq, p_weight, p_dx, n, d, s_n, s_c, s_h, s_w, channels, area, width,
            CP, BX, BK, FLAT, WIDE, ACC, PRECISION,
        )  # fmt: skip


@triton.jit
def ccc_parameter_gradient_kernel(
    p_a,
    p_b,
    p_product,
    p_sum,
    sa_n,
    sa_c,
    sa_h,
    sa_w,
    sb_n,
    sb_c,
    sb_h,
    sb_w,
    maps,
    rows,
    columns,
    depth,
    parts,
    width,
    BA: tl.constexpr,
    BB: tl.constexpr,
    BR: tl.constexpr,
    CHANNELS: tl.constexpr,
    FLAT_A: tl.constexpr,
    FLAT_B: tl.constexpr,
    WIDE: tl.constexpr,
    ACC: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """product[a, b] = sum over maps and r of A[n, a, r] B[n, b, r], sum[a] of A[n, a, r], in parts by map.

    r runs over the channels and a, b over pixels (CHANNELS), or the other way round. Grid: (tiles, parts).
    """
    tiles = tl.cdiv(columns, BB)
    tile_b = tl.program_id(0) % tiles
    part = tl.program_id(1)
    o_a = tl.program_id(0) // tiles * BA + tl.arange(0, BA)
    o_b = tile_b * BB + tl.arange(0, BB)
    m_a, m_b = o_a < rows, o_b < columns
    b_p = tl.zeros((BA, BB), ACC)
    b_s = tl.zeros((BA,), ACC)
    per_map = tl.cdiv(depth, BR)
    for step in range(0, tl.cdiv(maps - part, parts) * per_map):
        n = (part + step // per_map * parts).to(tl.int64)
        o_r = step % per_map * BR + tl.arange(0, BR)
        m_r = o_r < depth
        if CHANNELS:
            o_ra = steps(o_r, sa_c, WIDE)[None, :] + pixels(o_a, width, sa_h, sa_w, FLAT_A, WIDE)[:, None]
            o_rb = steps(o_r, sb_c, WIDE)[:, None] + pixels(o_b, width, sb_h, sb_w, FLAT_B, WIDE)[None, :]
        else:
            o_ra = steps(o_a, sa_c, WIDE)[:, None] + pixels(o_r, width, sa_h, sa_w, FLAT_A, WIDE)[None, :]
            o_rb = steps(o_b, sb_c, WIDE)[None, :] + pixels(o_r, width, sb_h, sb_w, FLAT_B, WIDE)[:, None]
        b_a = tl.load(p_a + n * sa_n + o_ra, m_a[:, None] & m_r[None, :], 0.0)  # [BA, BR]
        b_b = tl.load(p_b + n * sb_n + o_rb, m_r[:, None] & m_b[None, :], 0.0)  # [BR, BB]
        b_p = tl.dot(b_a, b_b, b_p, input_precision=PRECISION, out_dtype=ACC)
        b_s += tl.sum(b_a.to(ACC), 1)
    p_product += part.to(tl.int64) * rows * columns
    tl.store(p_product + o_a[:, None] * columns + o_b[None, :], b_p, m_a[:, None] & m_b[None, :])
    tl.store(p_sum + part * rows + o_a, b_s, o_a + tile_b * rows < rows)  # the first tile of columns alone


def map_launches(
    dy: Tensor,
    winner: Tensor,
    index: Tensor,
    mix: Tensor,
    weight: Tensor,
    dpq: Tensor,
    dx: Tensor,
    target: Target,
) -> list[Launch]:
    """`dpq (N, C, 2 D)` and `dx`: one launch for many small maps, two of more programs otherwise."""
    n, c, h, w = dy.shape
    d, strides, flat = h * w, *planes(dy)
    pointers = {"p_dy": dy, "p_winner": winner, "p_index": index, "p_mix": mix}
    pointers |= {"p_weight": weight, "p_dpq": dpq, "p_dx": dx}
    known = {**pointers, **strides, **sizes(dy, index), "CP": common.block(c)}
    known |= {"PACKED": packed(index.shape[1]), "FLAT": flat}

    def step(kernel: Any, grid: tuple[int, ...], flops: int, config: Any) -> Launch:
        values = {name: known[name] for name in kernel.arg_names if name in known}
        return launch(kernel, "backward", dy.dtype, target, grid, values, config, flops)

    edges, product = 2 * n * c * c * d, 4 * n * c * d * d
    if n >= MANY and c * d <= SMALL and d % 16 == 0:
        return [step(ccc_map_gradient_kernel, (n,), edges + product, map_gradient_tile(dy))]
    first, second = edge_gradient_tile(dy), input_gradient_tile(dy)
    return [
        step(ccc_edge_gradient_kernel, (n, triton.cdiv(d, first.BD)), edges, first),
        step(ccc_input_gradient_kernel, (n, triton.cdiv(d, second.BX)), product, second),
    ]


class EdgeGradientTile(NamedTuple):
    """Pixels of a program, channels of a one-hot product, depth of a product's step, and its warps and stages."""

    BD: int
    BI: int
    BK: int
    num_warps: int
    num_stages: int


class InputGradientTile(NamedTuple):
    """Pixels of a program, depth of a product's step, and its warps and stages."""

    BX: int
    BK: int
    num_warps: int
    num_stages: int


class MapGradientTile(NamedTuple):
    """Pixels at once of dP|dQ and of dx, channels of a one-hot product, depth of a product's step, warps, stages."""

    BD: int
    BI: int
    BX: int
    BK: int
    num_warps: int
    num_stages: int


class ParameterTile(NamedTuple):
    """Rows and columns of a program, depth of a product's step, and its warps and stages."""

    BA: int
    BB: int
    BR: int
    num_warps: int
    num_stages: int


TILES = {
    "ccc_edge_gradient_kernel": EdgeGradientTile,
    "ccc_input_gradient_kernel": InputGradientTile,
    "ccc_map_gradient_kernel": MapGradientTile,
    "ccc_parameter_gradient_kernel": ParameterTile,
}


def edge_gradient_tile(x: Tensor) -> EdgeGradientTile:
    own = sides(x)
    pinned = EdgeGradientTile(own.BD, min(32, 8192 // own.CP), own.BK, own.num_warps, own.num_stages)
    return choose("ccc_edge_gradient_kernel", x, pinned)


def input_gradient_tile(x: Tensor) -> InputGradientTile:
    own = sides(x)
    columns = min(2 * own.BD, common.block(x.shape[2] * x.shape[3]))
    return choose("ccc_input_gradient_kernel", x, InputGradientTile(columns, own.BK, own.num_warps, own.num_stages))


def map_gradient_tile(x: Tensor) -> MapGradientTile:
    own, stages = sides(x), 4 if x.element_size() == 2 else 3
    columns = min(2 * own.BD, common.block(x.shape[2] * x.shape[3]))
    pinned = MapGradientTile(own.BD, min(32, 8192 // own.CP), columns, 32, own.num_warps, stages)
    return choose("ccc_map_gradient_kernel", x, pinned)


def parameter_tile(x: Tensor, rows: int, columns: int) -> ParameterTile:
    """The configuration for the gradient `(rows, columns)` of a parameter, which is its class of shapes."""
    side = 128 if rows * columns >= 2**16 and x.element_size() == 2 else 64
    warps = 4 if side == 64 and x.element_size() == 2 else 8
    pinned = ParameterTile(side, side, 32, warps, 4 if x.element_size() == 2 else 2)
    shape = tiles.shape_class(rows, columns)
    return tiles.choose("ccc_parameter_gradient_kernel", shape, x.dtype, pinned, x.device)


def blocks(config: ParameterTile, rows: int, columns: int) -> int:
    return triton.cdiv(rows, config.BA) * triton.cdiv(columns, config.BB)


def parts(x: Tensor, rows: int, columns: int) -> int:
    """The number of partial sums of a parameter's gradient `(rows, columns)` on maps like `x`; at least one."""
    return max(1, min(x.shape[0], PARTS // blocks(parameter_tile(x, rows, columns), rows, columns)))


def parameter_launch(
    a: Tensor, b: Tensor, product: Tensor, total: Tensor, over_channels: bool, target: Target
) -> Launch:
    """`product (parts, A, B)` and `total (parts, A)` of maps `a`, `b (N, C, ...)`, over channels or over pixels."""
    n, c, h, w = b.shape
    rows, columns = product.shape[1:]
    config = parameter_tile(b, rows, columns)
    strides_a, flat_a = planes(a, "a")
    strides_b, flat_b = planes(b, "b")
    depth = c if over_channels else h * w
    return launch(
        ccc_parameter_gradient_kernel,
        "backward",
        b.dtype,
        target,
        (blocks(config, rows, columns), product.shape[0]),
        {"p_a": a, "p_b": b, "p_product": product, "p_sum": total, **strides_a, **strides_b}
        | {"maps": n, "rows": rows, "columns": columns, "depth": depth, "parts": product.shape[0], "width": w}
        | {"CHANNELS": over_channels, "FLAT_A": flat_a, "FLAT_B": flat_b},
        config,
        2 * n * rows * columns * depth,
    )
