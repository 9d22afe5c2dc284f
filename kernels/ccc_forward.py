# mypy: allow-untyped-defs, disable-error-code="assignment"
"""The forward kernels of CCC: neighbours, then edges and output. `ccc.py` has the mathematics."""

from collections.abc import Mapping
from typing import Any, NamedTuple, TypeVar

import torch
import triton
import triton.language as tl
from torch import Tensor

from . import common, tiles
from .common import Launch, Phase, Target

UNROLLED = tl.constexpr(15)
"""Largest number of neighbours for which loops over them are unrolled."""


@triton.jit
def steps(o, stride, WIDE: tl.constexpr):
    """Return the offsets of `o` steps of a stride."""
    if WIDE:
        o = o.to(tl.int64)
    return o * stride


@triton.jit
def pixels(o_d, width, s_h, s_w, FLAT: tl.constexpr, WIDE: tl.constexpr):
    """Return the offsets of pixels `o_d` of a plane. A FLAT plane has equal steps, so it needs no division."""
    if FLAT:
        return steps(o_d, s_w, WIDE)
    return steps(o_d // width, s_h, WIDE) + steps(o_d % width, s_w, WIDE)


@triton.jit
def below(o, size: tl.constexpr, side: tl.constexpr):
    """Return the mask of indices `o` below `size`, for programs or steps of `side` indices.

    If `side` divides `size`, the mask is constant, so the compiler drops it.
    """
    if size % side == 0:
        return tl.full(o.shape, 1, tl.int1)
    return o < size


@triton.jit
def rank_offsets(o_c, m_c, d, D: tl.constexpr, BD: tl.constexpr, SIDE: tl.constexpr, PACKED: tl.constexpr):
    """Return offsets into the ranks of a map, for channels `o_c` and BD pixels from `d`, and their mask."""
    PER: tl.constexpr = 2 if PACKED else 1
    LENGTH: tl.constexpr = (D + PER - 1) // PER
    o_d = d // PER + tl.arange(0, BD // PER)
    return o_c[:, None] * LENGTH + o_d[None, :], m_c[:, None] & below(o_d, LENGTH, SIDE // PER)[None, :]


@triton.jit
def ccc_neighbours_kernel(
    p_x,
    p_index,
    s_n,
    s_c,
    s_h,
    s_w,
    width,
    C: tl.constexpr,
    D: tl.constexpr,
    RANKS: tl.constexpr,
    CP: tl.constexpr,
    BI: tl.constexpr,
    BD: tl.constexpr,
    FLAT: tl.constexpr,
    WIDE: tl.constexpr,
    ACC: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Compute index[n, r, i], the channel of rank r by similarity to channel i. Grid: (N, tiles of BI channels)."""
    n = tl.program_id(0).to(tl.int64)
    o_i = tl.program_id(1) * BI + tl.arange(0, BI)
    o_j = tl.arange(0, CP)
    m_i, m_j = below(o_i, C, BI), below(o_j, C, CP)
    p_x += n * s_n
    b_s = tl.zeros((BI, CP), ACC)
    b_ni = tl.zeros((BI,), ACC)
    b_nj = tl.zeros((CP,), ACC)
    for d in range(0, D, BD):
        o_d = d + tl.arange(0, BD)
        m_d = below(o_d, D, BD)
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
    # NaN ranks first, as in torch.topk; no similarity is infinite otherwise.
    b_s = tl.where(b_s == b_s, b_s, float("inf"))
    b_s = tl.where(m_j[None, :], b_s, float("-inf"))
    p_index += n * (RANKS * C) + o_i
    for r in range(RANKS):
        b_best = tl.argmax(b_s, 1)  # the lowest index among equals
        tl.store(p_index + r * C, b_best.to(tl.int16), m_i)
        b_s = tl.where(o_j[None, :] == b_best[:, None], float("-inf"), b_s)


@triton.jit
def better(b_best, b_winner, p_q, o_j, o_d, m_t, r, D: tl.constexpr):
    """Return the larger of the best candidates and those of rank `r` (rows `o_j` of Q), and the winners."""
    b_q = tl.load(p_q + o_j[:, None] * D + o_d[None, :], m_t, 0.0)  # [CP, BD]
    m_q = (b_q > b_best) | (b_q != b_q)
    return tl.where(m_q, b_q, b_best), tl.where(m_q, r, b_winner)


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
    width,
    C: tl.constexpr,
    D: tl.constexpr,
    RANKS: tl.constexpr,
    CP: tl.constexpr,
    BD: tl.constexpr,
    TURNS: tl.constexpr,
    BK: tl.constexpr,
    SAVE: tl.constexpr,
    PACKED: tl.constexpr,
    FLAT: tl.constexpr,
    WIDE: tl.constexpr,
    ACC: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Compute the output, and with SAVE edges and winners, of all channels of TURNS x BD pixels of a map.

    The products of all turns share their reads of the map and of mix. Between the products, turns of BD pixels run one
    by one, which takes fewer registers. Q and the edges pass through this program's tile of an output, so that other
    rows of them can be read. Grid: (N * tiles,).
    """
    TILES: tl.constexpr = (D + TURNS * BD - 1) // (TURNS * BD)
    n = (tl.program_id(0) // TILES).to(tl.int64)
    o_c = tl.arange(0, CP)
    m_c = below(o_c, C, CP)
    first = tl.program_id(0) % TILES * (TURNS * BD)
    p_x += n * s_n
    p_out += n * (C * D)
    p_index += n * (RANKS * C) + o_c
    dtype = p_out.dtype.element_ty
    zero = tl.zeros((CP, BD), ACC)
    b_p = (zero,)
    b_q = (zero,)
    for _ in tl.static_range(1, TURNS):
        b_p = b_p + (zero,)
        b_q = b_q + (zero,)
    for k in range(0, D, BK):
        o_k = k + tl.arange(0, BK)
        m_k = below(o_k, D, BK)
        o_p = pixels(o_k, width, s_h, s_w, FLAT, WIDE)
        b_f = tl.load(p_x + steps(o_c, s_c, WIDE)[:, None] + o_p[None, :], m_c[:, None] & m_k[None, :], 0.0)  # [CP, BK]
        b_pn = ()
        b_qn = ()
        for t in tl.static_range(TURNS):
            o_d = first + t * BD + tl.arange(0, BD)
            p_w = p_weight + o_d[None, :] * D + o_k[:, None]
            m_w = below(o_d, D, TURNS * BD)[None, :] & m_k[:, None]
            b_pn = b_pn + (tl.dot(b_f, tl.load(p_w, m_w, 0.0), b_p[t], input_precision=PRECISION, out_dtype=ACC),)
            b_qn = b_qn + (
                tl.dot(b_f, tl.load(p_w + D * D, m_w, 0.0), b_q[t], input_precision=PRECISION, out_dtype=ACC),
            )
        b_p = b_pn
        b_q = b_qn
    for t in tl.static_range(TURNS):
        o_d = first + t * BD + tl.arange(0, BD)
        m_t = m_c[:, None] & below(o_d, D, TURNS * BD)[None, :]
        tl.store(p_out + o_c[:, None] * D + o_d[None, :], b_q[t].to(dtype), m_t)
    p_e = p_edges + n * (C * D) if SAVE else p_out
    o_j = ()
    if RANKS <= UNROLLED:
        for r in tl.static_range(RANKS):  # start loading all indices before the first is needed
            o_j = o_j + (tl.load(p_index + r * C, m_c, 0).to(tl.int32),)
    tl.debug_barrier()  # every row of Q is written before any is gathered
    for t in tl.static_range(TURNS):
        d = first + t * BD
        o_d = d + tl.arange(0, BD)
        m_d = below(o_d, D, TURNS * BD)
        m_t = m_c[:, None] & m_d[None, :]
        b_best = tl.full((CP, BD), float("-inf"), dtype)
        b_winner = tl.zeros((CP, BD), tl.int32)
        if RANKS <= UNROLLED:
            for r in tl.static_range(RANKS):
                b_best, b_winner = better(b_best, b_winner, p_out, o_j[r], o_d, m_t, r, D)
        else:
            for r in range(RANKS):
                o_jr = tl.load(p_index + r * C, m_c, 0).to(tl.int32)
                b_best, b_winner = better(b_best, b_winner, p_out, o_jr, o_d, m_t, r, D)
        tl.debug_barrier()  # every row of Q is gathered before anything takes its place
        b_e = b_p[t] + b_best.to(ACC) + tl.load(p_bias + o_d, m_d, 0.0).to(ACC)[None, :]
        m_live = m_t & ((b_e > 0) | (b_e != b_e))
        b_e = tl.where(m_live, b_e, 0.0).to(dtype)  # [CP, BD]
        if SAVE:
            b_winner = tl.where(m_live, b_winner, RANKS)
            p_w = p_winner + n * (C * ((D + 1) // 2 if PACKED else D))
            if PACKED:
                b_even, b_odd = tl.split(tl.reshape(b_winner, (CP, BD // 2, 2)))
                b_winner = b_even | (b_odd << 4)
            o_w, m_w = rank_offsets(o_c, m_c, d, D, BD, TURNS * BD, PACKED)
            tl.store(p_w + o_w, b_winner.to(p_winner.dtype.element_ty), m_w)
        tl.store(p_e + o_c[:, None] * D + o_d[None, :], b_e, m_t)
    tl.debug_barrier()  # all edges are written before they are read back
    b_y = (zero,)
    for _ in tl.static_range(1, TURNS):
        b_y = b_y + (zero,)
    for k in range(0, C, BK):
        o_k = k + tl.arange(0, BK)
        m_k = below(o_k, C, BK)
        b_m = tl.load(p_mix + o_c[:, None] * C + o_k[None, :], m_c[:, None] & m_k[None, :], 0.0)  # [CP, BK]
        b_yn = ()
        for t in tl.static_range(TURNS):
            o_d = first + t * BD + tl.arange(0, BD)
            m_e = m_k[:, None] & below(o_d, D, TURNS * BD)[None, :]
            b_ek = tl.load(p_e + o_k[:, None] * D + o_d[None, :], m_e, 0.0)  # [BK, BD]
            b_yn = b_yn + (tl.dot(b_m, b_ek, b_y[t], input_precision=PRECISION, out_dtype=ACC),)
        b_y = b_yn
    tl.debug_barrier()  # all edges are read before the output takes their place
    b_bias = tl.load(p_mix_bias + o_c, m_c, 0.0).to(ACC)[:, None]
    for t in tl.static_range(TURNS):
        o_d = first + t * BD + tl.arange(0, BD)
        m_t = m_c[:, None] & below(o_d, D, TURNS * BD)[None, :]
        o_p = pixels(o_d, width, s_h, s_w, FLAT, WIDE)
        b_x = tl.load(p_x + steps(o_c, s_c, WIDE)[:, None] + o_p[None, :], m_t, 0.0).to(ACC)
        tl.store(p_out + o_c[:, None] * D + o_d[None, :], (b_y[t] + b_bias + b_x).to(dtype), m_t)


class NeighboursTile(NamedTuple):
    """Rows of similarities per program, pixels per step of a product, warps, stages, programs."""

    BI: int
    BD: int
    num_warps: int
    num_stages: int
    programs: int


class EdgesTile(NamedTuple):
    """Pixels per turn, turns, depth of a product's step, warps, stages, programs."""

    BD: int
    TURNS: int
    BK: int
    num_warps: int
    num_stages: int
    programs: int


TILES = {"ccc_neighbours_kernel": NeighboursTile, "ccc_edges_kernel": EdgesTile}

T = TypeVar("T", bound=tuple)


class Sides(NamedTuple):
    """Base of the pinned tiles of all kernels: padded channels, pixels per program, depth of a product's step, warps,
    stages, and programs that share a multiprocessor."""

    CP: int
    BD: int
    BK: int
    num_warps: int
    num_stages: int
    programs: int


def sides(x: Tensor) -> Sides:
    """Return the base of the pinned tiles for maps like x. A tile has all channels: more channels, fewer pixels.

    float32 needs three products for one, and addresses of unaligned rows take registers: both get smaller tiles.
    """
    cp, aligned = common.block(x.shape[1]), x.shape[2] * x.shape[3] % 16 == 0
    warps = 4 if cp <= 32 else 8
    if aligned and x.element_size() == 2:
        depth, stages = (64, 3) if cp <= 128 else (32, 3 if cp <= 256 else 2)
        return Sides(cp, min(64, 8192 // cp), depth, warps, stages, 2 if 32 < cp <= 128 else 1)
    pixels = (4096 if aligned else 2048) // cp
    return Sides(cp, max(16, min(32, pixels)), 32 if cp <= 256 else 16, warps, 2, 1)


def choose(kernel: str, x: Tensor, pinned: T) -> T:
    """Choose the tiles of a kernel for maps like x, with at most as many rows of similarities as there are."""
    shape = tiles.shape_class(x.shape[1], x.shape[2] * x.shape[3])
    return tiles.choose(kernel, shape, x.dtype, pinned, x.device, {"BI": common.block(x.shape[1])})


def neighbours_tile(x: Tensor) -> NeighboursTile:
    own, aligned = sides(x), x.shape[2] * x.shape[3] % 16 == 0
    entries = 16384 if aligned and x.element_size() == 2 else 8192 if aligned else 4096
    rows, stages = min(own.CP, max(16, entries // own.CP)), 3 if own.CP > 256 else own.num_stages
    pinned = NeighboursTile(rows, min(own.BK, 8192 // own.CP), own.num_warps, stages, own.programs)
    return choose("ccc_neighbours_kernel", x, pinned)


def edges_tile(x: Tensor, save: bool) -> EdgesTile:
    own = sides(x)
    turns = own.programs
    pinned = EdgesTile(own.BD // turns, turns, own.BK, own.num_warps, own.num_stages if save else 2, own.programs)
    return choose("ccc_edges_kernel", x, pinned)


def planes(x: Tensor, suffix: str = "") -> tuple[dict[str, int], bool]:
    """Return the stride arguments for maps `x (N, C, H, W)`, and whether a plane has equal steps between pixels."""
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
    again: int,
) -> Launch:
    """Make a launch with the sides of `config`, `values` and the arithmetic of `dtype`. Its bytes count each tensor of
    `values` once."""
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
        config.programs,
        again,
    )


def sizes(x: Tensor, index: Tensor) -> dict[str, int]:
    _, c, h, w = x.shape
    return {"C": c, "D": h * w, "width": w, "RANKS": index.shape[1]}


def packed(k: int) -> bool:
    """Return True if two ranks, 0 to k, share a byte."""
    return k <= 15


def neighbours_launch(x: Tensor, index: Tensor, target: Target) -> Launch:
    """Make the launch that fills `index (N, k, C)`: the k channels most similar to each channel."""
    n, c, h, w = x.shape
    config = neighbours_tile(x)
    strides, flat = planes(x)
    exact = common.precision(x.dtype, target, exact=True)
    blocks = triton.cdiv(c, config.BI)  # each reads its whole map, and its own rows once more
    return launch(
        ccc_neighbours_kernel,
        "forward",
        x.dtype,
        target,
        (n, blocks),
        {"p_x": x, "p_index": index, **strides, **sizes(x, index)}
        | {"CP": common.block(c), "FLAT": flat, "PRECISION": exact},
        config,
        2 * n * c * c * h * w,
        blocks * common.size_of(x) if blocks > 1 else 0,
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
    """Make the launch that fills `out` and, if given, `saved`: edges `(N, C, D)` and ranks, for the backward."""
    n, c, h, w = x.shape
    config = edges_tile(x, saved is not None)
    tiles, maps = triton.cdiv(h * w, config.TURNS * config.BD), common.size_of(x)
    # Every program reads its map and mix, the programs of a map together read the weights, and at the end each reads x
    # again. Q is written and gathered in the place of the output; the edges are read back.
    again = tiles * maps + (n - 1) * common.size_of(weight) + (n * tiles - 1) * common.size_of(mix)
    again += 3 * maps if saved else 4 * maps
    strides, flat = planes(x)
    edges, winner = saved or (None, None)
    parameters = {"p_weight": weight, "p_bias": bias, "p_mix": mix, "p_mix_bias": mix_bias}
    pointers = {"p_x": x, "p_index": index, "p_out": out, "p_edges": edges, "p_winner": winner}
    return launch(
        ccc_edges_kernel,
        "forward",
        x.dtype,
        target,
        (n * tiles,),
        {**pointers, **parameters, **strides, **sizes(x, index)}
        | {"CP": common.block(c), "FLAT": flat}
        | {"SAVE": saved is not None, "PACKED": packed(index.shape[1])},
        config,
        2 * n * c * h * w * (2 * h * w + c),
        again,
    )
