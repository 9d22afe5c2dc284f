# mypy: allow-untyped-defs
"""The forward kernels of CCC: `ccc_neighbours_kernel` selects, `ccc_edges_kernel` computes. `ccc.py` has the
mathematics."""

from collections.abc import Mapping
from typing import Any, NamedTuple, TypeVar

import torch
import triton
import triton.language as tl
from torch import Tensor

from . import common, tiles
from .common import Launch, Phase, Target


@triton.jit
def steps(o, stride, WIDE: tl.constexpr):
    """Offsets of `o` steps of a stride."""
    if WIDE:
        o = o.to(tl.int64)
    return o * stride


@triton.jit
def pixels(o_d, width, s_h, s_w, FLAT: tl.constexpr, WIDE: tl.constexpr):
    """Offsets of the pixels `o_d` of a plane; a plane that is one run of equal steps needs no division."""
    if FLAT:
        return steps(o_d, s_w, WIDE)
    return steps(o_d // width, s_h, WIDE) + steps(o_d % width, s_w, WIDE)


@triton.jit
def rank_offsets(o_c, d, channels, area, BD: tl.constexpr, PACKED: tl.constexpr):
    """Offsets into the ranks of a map, of the channels `o_c` and the BD pixels from `d`, and which of them exist."""
    if PACKED:
        o_d = d // 2 + tl.arange(0, BD // 2)
        area = (area + 1) // 2
    else:
        o_d = d + tl.arange(0, BD)
    return o_c[:, None] * area + o_d[None, :], (o_c < channels)[:, None] & (o_d < area)[None, :]


@triton.jit
def ccc_neighbours_kernel(
    p_x,
    p_index,
    s_n,
    s_c,
    s_h,
    s_w,
    channels,
    area,
    width,
    ranks,
    CP: tl.constexpr,
    BI: tl.constexpr,
    BD: tl.constexpr,
    FLAT: tl.constexpr,
    WIDE: tl.constexpr,
    ACC: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """index[n, r, i] = the channel of rank r by similarity to channel i. Grid: (N, tiles of BI channels)."""
    n = tl.program_id(0).to(tl.int64)
    o_i = tl.program_id(1) * BI + tl.arange(0, BI)
    o_j = tl.arange(0, CP)
    m_i, m_j = o_i < channels, o_j < channels
    p_x += n * s_n
    b_s = tl.zeros((BI, CP), ACC)
    b_ni = tl.zeros((BI,), ACC)
    b_nj = tl.zeros((CP,), ACC)
    for d in range(0, area, BD):
        o_d = d + tl.arange(0, BD)
        m_d = o_d < area
        o_p = pixels(o_d, width, s_h, s_w, FLAT, WIDE)
        b_j = tl.load(p_x + steps(o_j, s_c, WIDE)[:, None] + o_p[None, :], m_j[:, None] & m_d[None, :], 0.0)  # [CP, BD]
        b_i = b_j
        if BI < CP:
            p_i = p_x + steps(o_i, s_c, WIDE)[:, None] + o_p[None, :]
            b_i = tl.load(p_i, m_i[:, None] & m_d[None, :], 0.0)  # [BI, BD]
        b_s = tl.dot(b_i, tl.trans(b_j), b_s, input_precision=PRECISION, out_dtype=ACC)  # [BI, CP]
        b_ni += tl.sum(b_i.to(ACC) * b_i.to(ACC), 1)
        b_nj += tl.sum(b_j.to(ACC) * b_j.to(ACC), 1)
    b_s /= tl.maximum(tl.sqrt(b_ni), 1e-12)[:, None]
    b_s /= tl.maximum(tl.sqrt(b_nj), 1e-12)[None, :]
    # NaN ranks first, as in torch.topk; a similarity is never infinite otherwise.
    b_s = tl.where(b_s == b_s, b_s, float("inf"))
    b_s = tl.where(m_j[None, :], b_s, float("-inf"))
    p_index += n * ranks * channels + o_i
    for r in range(ranks):
        b_best = tl.argmax(b_s, 1)  # the lowest index among equals
        tl.store(p_index + r * channels, b_best.to(tl.int16), m_i)
        b_s = tl.where(o_j[None, :] == b_best[:, None], float("-inf"), b_s)


@triton.jit
def ccc_edges_kernel(
    p_x,
    p_weight,
    p_bias,
    p_mix,
    p_mix_bias,
    p_index,
    p_out,
    p_edges,
    p_winner,
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
    BK: tl.constexpr,
    SAVE: tl.constexpr,
    PACKED: tl.constexpr,
    FLAT: tl.constexpr,
    WIDE: tl.constexpr,
    ACC: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """out, and with SAVE the edges and winners, of all channels of BD pixels of one map. Grid: (N * tiles,).

    Q, and the edges, go through this program's own tile of an output, so that other rows of them can be read.
    """
    tiles = tl.cdiv(area, BD)
    n = (tl.program_id(0) // tiles).to(tl.int64)
    o_c = tl.arange(0, CP)
    d = tl.program_id(0) % tiles * BD
    o_d = d + tl.arange(0, BD)
    m_c, m_d = o_c < channels, o_d < area
    m_t = m_c[:, None] & m_d[None, :]
    p_x += n * s_n
    p_out += n * channels * area
    p_index += n * ranks * channels
    dtype = p_out.dtype.element_ty
    b_p = tl.zeros((CP, BD), ACC)
    b_q = tl.zeros((CP, BD), ACC)
    for k in range(0, area, BK):
        o_k = k + tl.arange(0, BK)
        m_k = o_k < area
        o_p = pixels(o_k, width, s_h, s_w, FLAT, WIDE)
        b_f = tl.load(p_x + steps(o_c, s_c, WIDE)[:, None] + o_p[None, :], m_c[:, None] & m_k[None, :], 0.0)  # [CP, BK]
        p_w = p_weight + o_d[None, :] * area + o_k[:, None]
        m_w = m_d[None, :] & m_k[:, None]
        b_p = tl.dot(b_f, tl.load(p_w, m_w, 0.0), b_p, input_precision=PRECISION, out_dtype=ACC)
        b_q = tl.dot(b_f, tl.load(p_w + area * area, m_w, 0.0), b_q, input_precision=PRECISION, out_dtype=ACC)
    o_t = o_c[:, None] * area + o_d[None, :]
    tl.store(p_out + o_t, b_q.to(dtype), m_t)
    tl.debug_barrier()  # every row of Q is written before any is gathered
    b_best = tl.full((CP, BD), float("-inf"), dtype)
    b_winner = tl.zeros((CP, BD), tl.int32)
    for r in range(ranks):
        o_j = tl.load(p_index + r * channels + o_c, m_c, 0).to(tl.int32)
        b_g = tl.load(p_out + o_j[:, None] * area + o_d[None, :], m_t, 0.0)  # [CP, BD]
        m_g = (b_g > b_best) | (b_g != b_g)
        b_best = tl.where(m_g, b_g, b_best)
        b_winner = tl.where(m_g, r, b_winner)
    tl.debug_barrier()  # every row of Q is gathered before anything takes its place
    b_p += b_best.to(ACC) + tl.load(p_bias + o_d, m_d, 0.0).to(ACC)[None, :]
    m_live = m_t & ((b_p > 0) | (b_p != b_p))
    b_e = tl.where(m_live, b_p, 0.0).to(dtype)  # [CP, BD]
    if SAVE:
        b_winner = tl.where(m_live, b_winner, ranks)
        p_winner += n * channels * (((area + 1) // 2) if PACKED else area)
        if PACKED:
            b_even, b_odd = tl.split(tl.reshape(b_winner, (CP, BD // 2, 2)))
            b_winner = b_even | (b_odd << 4)
        o_w, m_w = rank_offsets(o_c, d, channels, area, BD, PACKED)
        tl.store(p_winner + o_w, b_winner.to(p_winner.dtype.element_ty), m_w)
        p_e = p_edges + n * channels * area
    else:
        p_e = p_out
    tl.store(p_e + o_t, b_e, m_t)
    tl.debug_barrier()  # all edges are written before they are read back
    b_y = tl.zeros((CP, BD), ACC)
    for k in range(0, channels, BK):
        o_k = k + tl.arange(0, BK)
        m_k = o_k < channels
        b_m = tl.load(p_mix + o_c[:, None] * channels + o_k[None, :], m_c[:, None] & m_k[None, :], 0.0)  # [CP, BK]
        b_ek = tl.load(p_e + o_k[:, None] * area + o_d[None, :], m_k[:, None] & m_d[None, :], 0.0)  # [BK, BD]
        b_y = tl.dot(b_m, b_ek, b_y, input_precision=PRECISION, out_dtype=ACC)
    tl.debug_barrier()  # all edges are read before the output takes their place
    b_y += tl.load(p_mix_bias + o_c, m_c, 0.0).to(ACC)[:, None]
    o_p = pixels(o_d, width, s_h, s_w, FLAT, WIDE)
    b_y += tl.load(p_x + steps(o_c, s_c, WIDE)[:, None] + o_p[None, :], m_t, 0.0).to(ACC)
    tl.store(p_out + o_t, b_y.to(dtype), m_t)


class NeighboursTile(NamedTuple):
    """Rows of similarities of a program, pixels of a product's step, and its warps and stages."""

    BI: int
    BD: int
    num_warps: int
    num_stages: int


class EdgesTile(NamedTuple):
    """Pixels of a program, depth of a product's step, and its warps and stages."""

    BD: int
    BK: int
    num_warps: int
    num_stages: int


TILES = {"ccc_neighbours_kernel": NeighboursTile, "ccc_edges_kernel": EdgesTile}

T = TypeVar("T", bound=tuple)


class Sides(NamedTuple):
    """What the pinned tiles of all kernels follow from: pixels of a program, depth of a product's step."""

    CP: int
    BD: int
    BK: int
    num_warps: int
    num_stages: int


def sides(x: Tensor) -> Sides:
    """All channels of maps like x are in one tile, so that more of them mean fewer pixels.

    float32 takes three products for one, and rows of addresses that are not known to be aligned take registers:
    both get smaller tiles.
    """
    cp, aligned = common.block(x.shape[1]), x.shape[2] * x.shape[3] % 16 == 0
    warps = 4 if cp <= 32 else 8
    if aligned and x.element_size() == 2:
        depth, stages = (64, 3) if cp <= 128 else (32, 3 if cp <= 256 else 2)
        return Sides(cp, min(64, 8192 // cp), depth, warps, stages)
    pixels = (4096 if aligned else 2048) // cp
    return Sides(cp, max(16, min(32, pixels)), 32 if cp <= 256 else 16, warps, 2)


def choose(kernel: str, x: Tensor, pinned: T) -> T:
    """The tiles of a kernel for maps like x; a program has no more rows of similarities than there are."""
    shape = tiles.shape_class(x.shape[1], x.shape[2] * x.shape[3])
    return tiles.choose(kernel, shape, x.dtype, pinned, x.device, {"BI": common.block(x.shape[1])})


def neighbours_tile(x: Tensor) -> NeighboursTile:
    own, aligned = sides(x), x.shape[2] * x.shape[3] % 16 == 0
    entries = 16384 if aligned and x.element_size() == 2 else 8192 if aligned else 4096
    rows, stages = min(own.CP, max(16, entries // own.CP)), 3 if own.CP > 256 else own.num_stages
    pinned = NeighboursTile(rows, min(own.BK, 8192 // own.CP), own.num_warps, stages)
    return choose("ccc_neighbours_kernel", x, pinned)


def edges_tile(x: Tensor, save: bool) -> EdgesTile:
    own = sides(x)
    # Without the backward's part and with 3 stages, ptxas settles for 128 registers and spills.
    pinned = EdgesTile(own.BD, own.BK, own.num_warps, own.num_stages if save else 2)
    return choose("ccc_edges_kernel", x, pinned)


def planes(x: Tensor, suffix: str = "") -> tuple[dict[str, int], bool]:
    """The stride arguments for maps `x (N, C, H, W)`, and whether a plane is one run of equal steps."""
    height, width = x.shape[2:]
    s_n, s_c, s_h, s_w = x.stride()
    if width == 1:
        s_w = s_h
    strides = {f"s{suffix}_n": s_n, f"s{suffix}_c": s_c, f"s{suffix}_h": s_h, f"s{suffix}_w": s_w}
    return strides, width == 1 or height == 1 or s_h == width * s_w


def launch(
    kernel: Any,
    phase: Phase,
    dtype: torch.dtype,
    target: Target,
    grid: tuple[int, ...],
    values: Mapping[str, Any],
    config: Any,
    flops: int,
) -> Launch:
    """A launch with the sides of `config`, `values` and the arithmetic of `dtype`; the tensors among the values count
    once each in its bytes."""
    tensors = [value for value in values.values() if isinstance(value, Tensor)]
    known = {
        "WIDE": common.wide(*(t[:1] for t in tensors)),
        "ACC": common.accumulator(dtype),
        "PRECISION": common.precision(dtype, target),
        **{name: side for name, side in config._asdict().items() if name.isupper()},
        **values,
    }
    return Launch(
        kernel,
        phase,
        grid,
        {name: value for name, value in known.items() if not name.isupper()},
        {name: value for name, value in known.items() if name.isupper()},
        config.num_warps,
        config.num_stages,
        common.size_of(*tensors),
        flops,
    )


def sizes(x: Tensor, index: Tensor) -> dict[str, int]:
    _, c, h, w = x.shape
    return {"channels": c, "area": h * w, "width": w, "ranks": index.shape[1]}


def packed(k: int) -> bool:
    """Whether two ranks, of 0 to k, share a byte."""
    return k <= 15


def neighbours_launch(x: Tensor, index: Tensor, target: Target) -> Launch:
    """`index (N, k, C)`: the k channels most similar to each."""
    n, c, h, w = x.shape
    config = neighbours_tile(x)
    strides, flat = planes(x)
    exact = common.precision(x.dtype, target, exact=True)
    return launch(
        ccc_neighbours_kernel,
        "forward",
        x.dtype,
        target,
        (n, triton.cdiv(c, config.BI)),
        {"p_x": x, "p_index": index, **strides, **sizes(x, index)}
        | {"CP": common.block(c), "FLAT": flat, "PRECISION": exact},
        config,
        2 * n * c * c * h * w,
    )


def edges_launch(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    mix: Tensor,
    mix_bias: Tensor,
    index: Tensor,
    out: Tensor,
    saved: tuple[Tensor, Tensor] | None,
    target: Target,
) -> Launch:
    """`out`, and where given `saved`: the edges `(N, C, D)` and the ranks of the winners, for the backward."""
    n, c, h, w = x.shape
    config = edges_tile(x, saved is not None)
    strides, flat = planes(x)
    edges, winner = saved or (None, None)
    parameters = {"p_weight": weight, "p_bias": bias, "p_mix": mix, "p_mix_bias": mix_bias}
    pointers = {"p_x": x, "p_index": index, "p_out": out, "p_edges": edges, "p_winner": winner}
    return launch(
        ccc_edges_kernel,
        "forward",
        x.dtype,
        target,
        (n * triton.cdiv(h * w, config.BD),),
        {**pointers, **parameters, **strides, **sizes(x, index)}
        | {"CP": common.block(c), "FLAT": flat}
        | {"SAVE": saved is not None, "PACKED": packed(index.shape[1])},
        config,
        2 * n * c * h * w * (2 * h * w + c),
    )
