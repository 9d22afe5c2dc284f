# mypy: allow-untyped-defs
"""The backward kernels of CCC: gradients of the maps and of the parameters. `ccc.py` has the mathematics."""

from typing import Any, NamedTuple

import triton
import triton.language as tl
from torch import Tensor

from . import common, tiles
from .ccc_forward import below, choose, launch, packed, pixels, planes, rank_offsets, sides, sizes, steps
from .common import Launch, Target

PARTS = 128
"""Number of programs for the gradients of a parameter, if there are enough maps."""
MANY, SMALL = 128, 128 * 256
"""Fewest maps and most elements of a map for which one program computes both gradients of a map."""


@triton.jit
def load_ranks(p_winner, o_c, m_c, d, D: tl.constexpr, BC: tl.constexpr, BD: tl.constexpr, PACKED: tl.constexpr):
    """Load the ranks of the winners of a map, at BC channels `o_c` and BD pixels from `d`."""
    o_w, m_w = rank_offsets(o_c, m_c, d, D, BD, BD, PACKED)
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
    width,
    C: tl.constexpr,
    D: tl.constexpr,
    RANKS: tl.constexpr,
    CP: tl.constexpr,
    BD: tl.constexpr,
    BI: tl.constexpr,
    BR: tl.constexpr,
    BK: tl.constexpr,
    PACKED: tl.constexpr,
    FLAT: tl.constexpr,
    WIDE: tl.constexpr,
    ACC: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Compute dP and dQ of map n at the pixels from `d`."""
    p_dy += n * s_n
    p_winner += n * (C * ((D + 1) // 2 if PACKED else D))
    p_index += n * (RANKS * C)
    p_dpq += n * (C * D * 2)
    o_c = tl.arange(0, CP)
    o_d = d + tl.arange(0, BD)
    m_c, m_d = below(o_c, C, CP), below(o_d, D, BD)
    m_t = m_c[:, None] & m_d[None, :]
    dtype = p_dpq.dtype.element_ty
    o_p = pixels(o_d, width, s_h, s_w, FLAT, WIDE)
    b_de = tl.zeros((CP, BD), ACC)
    for k in range(0, C, BK):
        o_k = k + tl.arange(0, BK)
        m_k = below(o_k, C, BK)
        b_m = tl.load(p_mix + o_k[None, :] * C + o_c[:, None], m_c[:, None] & m_k[None, :], 0.0)  # [CP, BK]
        b_dy = tl.load(
            p_dy + steps(o_k, s_c, WIDE)[:, None] + o_p[None, :], m_k[:, None] & m_d[None, :], 0.0
        )  # [BK, BD]
        b_de = tl.dot(b_m, b_dy, b_de, input_precision=PRECISION, out_dtype=ACC)  # [CP, BD]
    b_w = load_ranks(p_winner, o_c, m_c, d, D, CP, BD, PACKED)
    p_dp = p_dpq + o_d[None, :]
    tl.store(p_dp + o_c[:, None] * (2 * D), tl.where(b_w < RANKS, b_de, 0.0).to(dtype), m_t)
    tl.debug_barrier()  # all of dP is written before its rows are read back
    b_dq = tl.zeros((CP, BD), ACC)
    o_ri = tl.arange(0, BR * BI)
    for i in range(0, C, BI):
        o_i = i + tl.arange(0, BI)
        m_i = below(o_i, C, BI)
        b_di = tl.load(p_dp + o_i[:, None] * (2 * D), m_i[:, None] & m_d[None, :], 0.0)  # [BI, BD]
        b_wi = load_ranks(p_winner, o_i, m_i, d, D, BI, BD, PACKED)
        for r in range(0, RANKS, BR):  # BR ranks side by side in one product
            m_ri = below(r + o_ri // BI, RANKS, BR) & below(i + o_ri % BI, C, BI)
            b_j = tl.load(p_index + (r + o_ri // BI) * C + i + o_ri % BI, m_ri, -1)
            b_r = (b_j[None, :] == o_c[:, None]).to(dtype)  # [CP, BR BI], 1 where i has j at rank r
            m_r = b_wi[None, :, :] == (r + tl.arange(0, BR))[:, None, None]
            b_dr = tl.reshape(tl.where(m_r, b_di[None, :, :], 0.0), (BR * BI, BD))
            b_dq = tl.dot(b_r, b_dr, b_dq, input_precision=PRECISION, out_dtype=ACC)  # [CP, BD]
    tl.store(p_dp + o_c[:, None] * (2 * D) + D, b_dq.to(dtype), m_t)


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
    width,
    C: tl.constexpr,
    D: tl.constexpr,
    CP: tl.constexpr,
    BX: tl.constexpr,
    BK: tl.constexpr,
    FLAT: tl.constexpr,
    WIDE: tl.constexpr,
    ACC: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Compute dx = dy + (dP|dQ) (W_n - W_e | W_e) of map n at the pixels from `d`."""
    p_dpq += n * (C * D * 2)
    o_c = tl.arange(0, CP)
    o_d = d + tl.arange(0, BX)
    m_c, m_d = below(o_c, C, CP), below(o_d, D, BX)
    m_t = m_c[:, None] & m_d[None, :]
    b_dx = tl.zeros((CP, BX), ACC)
    for k in range(0, 2 * D, BK):
        o_k = k + tl.arange(0, BK)
        m_k = below(o_k, 2 * D, BK)
        b_g = tl.load(p_dpq + o_c[:, None] * (2 * D) + o_k[None, :], m_c[:, None] & m_k[None, :], 0.0)  # [CP, BK]
        b_w = tl.load(p_weight + o_k[:, None] * D + o_d[None, :], m_k[:, None] & m_d[None, :], 0.0)  # [BK, BX]
        b_dx = tl.dot(b_g, b_w, b_dx, input_precision=PRECISION, out_dtype=ACC)
    o_p = pixels(o_d, width, s_h, s_w, FLAT, WIDE)
    b_dx += tl.load(p_dy + n * s_n + steps(o_c, s_c, WIDE)[:, None] + o_p[None, :], m_t, 0.0).to(ACC)
    tl.store(p_dx + n * (C * D) + o_c[:, None] * D + o_d[None, :], b_dx.to(p_dx.dtype.element_ty), m_t)


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
    width,
    C: tl.constexpr,
    D: tl.constexpr,
    RANKS: tl.constexpr,
    CP: tl.constexpr,
    BD: tl.constexpr,
    BI: tl.constexpr,
    BR: tl.constexpr,
    BK: tl.constexpr,
    PACKED: tl.constexpr,
    FLAT: tl.constexpr,
    WIDE: tl.constexpr,
    ACC: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Compute dP and dQ. Grid: (N, tiles of BD pixels)."""
    n, d = tl.program_id(0).to(tl.int64), tl.program_id(1) * BD
    edge_gradient(
        p_dy, p_winner, p_index, p_mix, p_dpq, n, d, s_n, s_c, s_h, s_w, width,
        C, D, RANKS, CP, BD, BI, BR, BK, PACKED, FLAT, WIDE, ACC, PRECISION,
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
    width,
    C: tl.constexpr,
    D: tl.constexpr,
    CP: tl.constexpr,
    BX: tl.constexpr,
    BK: tl.constexpr,
    FLAT: tl.constexpr,
    WIDE: tl.constexpr,
    ACC: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Compute dx. Grid: (N, tiles of BX pixels)."""
    n, d = tl.program_id(0).to(tl.int64), tl.program_id(1) * BX
    input_gradient(
        p_dy, p_dpq, p_weight, p_dx, n, d, s_n, s_c, s_h, s_w, width,
        C, D, CP, BX, BK, FLAT, WIDE, ACC, PRECISION,
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
    width,
    C: tl.constexpr,
    D: tl.constexpr,
    RANKS: tl.constexpr,
    CP: tl.constexpr,
    BD: tl.constexpr,
    BI: tl.constexpr,
    BR: tl.constexpr,
    BX: tl.constexpr,
    BK: tl.constexpr,
    PACKED: tl.constexpr,
    FLAT: tl.constexpr,
    WIDE: tl.constexpr,
    ACC: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Compute both gradients of a map in one program, which reads its dP|dQ back from the cache. Grid: (N,)."""
    n = tl.program_id(0).to(tl.int64)
    for d in tl.range(0, D, BD, disable_licm=True):
        edge_gradient(
            p_dy, p_winner, p_index, p_mix, p_dpq, n, d, s_n, s_c, s_h, s_w, width,
            C, D, RANKS, CP, BD, BI, BR, BK, PACKED, FLAT, WIDE, ACC, PRECISION,
        )  # fmt: skip
    tl.debug_barrier()  # all of dP|dQ is written before it is read back
    for d in tl.range(0, D, BX, disable_licm=True):
        input_gradient(
            p_dy, p_dpq, p_weight, p_dx, n, d, s_n, s_c, s_h, s_w, width,
            C, D, CP, BX, BK, FLAT, WIDE, ACC, PRECISION,
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
    parts,
    width,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    DEPTH: tl.constexpr,
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
    """Compute product[a, b] = sum over n, r of A[n, a, r] B[n, b, r], and sum[a] of A[n, a, r], in parts by map.

    With CHANNELS, r runs over channels and a, b over pixels; otherwise the other way round. Grid: (tiles, parts).
    """
    TILES: tl.constexpr = (COLUMNS + BB - 1) // BB
    tile_b = tl.program_id(0) % TILES
    part = tl.program_id(1)
    o_a = tl.program_id(0) // TILES * BA + tl.arange(0, BA)
    o_b = tile_b * BB + tl.arange(0, BB)
    m_a, m_b = below(o_a, ROWS, BA), below(o_b, COLUMNS, BB)
    b_p = tl.zeros((BA, BB), ACC)
    b_s = tl.zeros((BA,), ACC)
    PER_MAP: tl.constexpr = (DEPTH + BR - 1) // BR
    for step in range(0, tl.cdiv(maps - part, parts) * PER_MAP):
        n = (part + step // PER_MAP * parts).to(tl.int64)
        o_r = step % PER_MAP * BR + tl.arange(0, BR)
        m_r = below(o_r, DEPTH, BR)
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
    p_product += part.to(tl.int64) * (ROWS * COLUMNS)
    tl.store(p_product + o_a[:, None] * COLUMNS + o_b[None, :], b_p, m_a[:, None] & m_b[None, :])
    tl.store(p_sum + part * ROWS + o_a, b_s, o_a + tile_b * ROWS < ROWS)  # only the first tile of columns


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
    """Make the launches that fill `dpq (N, C, 2 D)` and `dx`: one for many small maps, else two of more programs."""
    n, c, h, w = dy.shape
    d, strides, flat = h * w, *planes(dy)
    pointers = {"p_dy": dy, "p_winner": winner, "p_index": index, "p_mix": mix}
    pointers |= {"p_weight": weight, "p_dpq": dpq, "p_dx": dx}
    known = {**pointers, **strides, **sizes(dy, index), "CP": common.block(c)}
    known |= {"PACKED": packed(index.shape[1]), "FLAT": flat}

    def step(kernel: Any, grid: tuple[int, ...], flops: int, config: Any, again: int) -> Launch:
        values = {name: known[name] for name in kernel.arg_names if name in known}
        return launch(kernel, "backward", dy.dtype, target, grid, values, config, flops, again)

    def edges_again(config: Any) -> int:
        """Bytes: mix for every tile of pixels, the ranks twice, and dP read back."""
        return (n * triton.cdiv(d, config.BD) - 1) * common.size_of(mix) + common.size_of(winner, dy)

    def inputs_again(config: Any) -> int:
        """Bytes: dP|dQ for every tile of pixels, and the weights for every map."""
        return (triton.cdiv(d, config.BX) - 1) * common.size_of(dpq) + (n - 1) * common.size_of(weight)

    edges, product = 2 * n * c * c * d, 4 * n * c * d * d
    if n >= MANY and c * d <= SMALL and d % 16 == 0:
        config = map_gradient_tile(dy, index.shape[1])
        again = edges_again(config) + inputs_again(config) + common.size_of(dpq, dy)  # dP|dQ and dy once more
        return [step(ccc_map_gradient_kernel, (n,), edges + product, config, again)]
    first, second = edge_gradient_tile(dy, index.shape[1]), input_gradient_tile(dy)
    return [
        step(ccc_edge_gradient_kernel, (n, triton.cdiv(d, first.BD)), edges, first, edges_again(first)),
        step(ccc_input_gradient_kernel, (n, triton.cdiv(d, second.BX)), product, second, inputs_again(second)),
    ]


class EdgeGradientTile(NamedTuple):
    """Pixels per program, channels and ranks of a one-hot product, depth of a step, warps, stages, programs."""

    BD: int
    BI: int
    BR: int
    BK: int
    num_warps: int
    num_stages: int
    programs: int


class InputGradientTile(NamedTuple):
    """Pixels per program, depth of a product's step, warps, stages, programs."""

    BX: int
    BK: int
    num_warps: int
    num_stages: int
    programs: int


class MapGradientTile(NamedTuple):
    """Pixels of dP|dQ at once, channels and ranks of a one-hot product, pixels of dx at once, depth of a step, warps,
    stages, programs."""

    BD: int
    BI: int
    BR: int
    BX: int
    BK: int
    num_warps: int
    num_stages: int
    programs: int


class ParameterTile(NamedTuple):
    """Rows and columns per program, depth of a product's step, warps, stages, programs."""

    BA: int
    BB: int
    BR: int
    num_warps: int
    num_stages: int
    programs: int


TILES = {
    "ccc_edge_gradient_kernel": EdgeGradientTile,
    "ccc_input_gradient_kernel": InputGradientTile,
    "ccc_map_gradient_kernel": MapGradientTile,
    "ccc_parameter_gradient_kernel": ParameterTile,
}


def one_hot(x: Tensor, k: int) -> tuple[int, int]:
    """Return channels and ranks of a one-hot product: all ranks, and as many channels as the registers hold."""
    depth = min(64, 16384 // common.block(x.shape[1])) // (1 if x.element_size() == 2 else 2)
    channels = max(16, depth // triton.next_power_of_2(k))
    return channels, depth // channels


def edge_gradient_tile(x: Tensor, k: int) -> EdgeGradientTile:
    own = sides(x)
    pinned = EdgeGradientTile(own.BD, *one_hot(x, k), own.BK, own.num_warps, own.num_stages, own.programs)
    return choose("ccc_edge_gradient_kernel", x, pinned)


def input_gradient_tile(x: Tensor) -> InputGradientTile:
    own = sides(x)
    columns = min(2 * own.BD, common.block(x.shape[2] * x.shape[3]))
    pinned = InputGradientTile(columns, own.BK, own.num_warps, own.num_stages, own.programs)
    return choose("ccc_input_gradient_kernel", x, pinned)


def map_gradient_tile(x: Tensor, k: int) -> MapGradientTile:
    own = sides(x)
    # With 128 columns two programs would fit, too, but spill under Triton 3.6 if dy is channels last.
    columns = min(2 * own.BD // own.programs, common.block(x.shape[2] * x.shape[3]))
    pinned = MapGradientTile(own.BD, *one_hot(x, k), columns, 32, own.num_warps, 2, own.programs)
    return choose("ccc_map_gradient_kernel", x, pinned)


def parameter_tile(x: Tensor, rows: int, columns: int) -> ParameterTile:
    """Choose the tiles for the gradient `(rows, columns)` of a parameter, whose size is its shape class."""
    side = 128 if rows * columns >= 2**16 and x.element_size() == 2 else 64
    warps = 4 if side == 64 and x.element_size() == 2 else 8
    pinned = ParameterTile(side, side, 32, warps, 4 if x.element_size() == 2 else 2, 1)
    shape = tiles.shape_class(rows, columns)
    return tiles.choose("ccc_parameter_gradient_kernel", shape, x.dtype, pinned, x.device)


def blocks(config: ParameterTile, rows: int, columns: int) -> int:
    return triton.cdiv(rows, config.BA) * triton.cdiv(columns, config.BB)


def parts(x: Tensor, rows: int, columns: int) -> int:
    """Return the number of partial sums of a parameter's gradient `(rows, columns)` on maps like `x`, at least one."""
    return max(1, min(x.shape[0], PARTS // blocks(parameter_tile(x, rows, columns), rows, columns)))


def parameter_launch(
    a: Tensor, b: Tensor, product: Tensor, total: Tensor, over_channels: bool, target: Target
) -> Launch:
    """Make the launch that fills `product (parts, A, B)` and `total (parts, A)` from maps `a` and `b (N, C, ...)`.

    The sums run over channels or over pixels.
    """
    n, c, h, w = b.shape
    rows, columns = product.shape[1:]
    config = parameter_tile(b, rows, columns)
    strides_a, flat_a = planes(a, "a")
    strides_b, flat_b = planes(b, "b")
    depth = c if over_channels else h * w
    # Concurrent programs read all rows of A and all columns of B.
    again = (triton.cdiv(columns, config.BB) - 1) * common.size_of(a) + (
        triton.cdiv(rows, config.BA) - 1
    ) * common.size_of(b)
    return launch(
        ccc_parameter_gradient_kernel,
        "backward",
        b.dtype,
        target,
        (blocks(config, rows, columns), product.shape[0]),
        {"p_a": a, "p_b": b, "p_product": product, "p_sum": total, **strides_a, **strides_b}
        | {"maps": n, "parts": product.shape[0], "width": w, "ROWS": rows, "COLUMNS": columns, "DEPTH": depth}
        | {"CHANNELS": over_channels, "FLAT_A": flat_a, "FLAT_B": flat_b},
        config,
        2 * n * rows * columns * depth,
        again,
    )
