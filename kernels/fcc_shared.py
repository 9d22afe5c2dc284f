# mypy: allow-untyped-defs
"""Shared parts of the forward and backward of FCC. `fcc.py` has the mathematics.

Every kernel over maps has one program per channel, statistics group and chunk of the group's maps. A program reads
tiles of BN maps, as [h, (n, w)] if a circulant multiplies from the left, and as [(h, n), w] if one multiplies from the
right. So the result of one product, reshaped, is the operand of the next, without a transposition.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, NamedTuple, TypeVar

import torch
import triton
import triton.language as tl
from torch import Tensor

from . import common, tiles
from .common import Launch, Phase, Target

NAMES = ("kernel1", "pos1", "bias1", "kernel2", "pos2", "bias2", "weight", "bias")
"""Parameters of a branch, in the order of the operators' arguments."""

PROGRAMS = 4096
"""Number of programs that fills the largest card; chunks of maps are as long as this allows."""

MAX_SPLITS = 64


@triton.jit
def row_of(p_vh, p_hv, ch, half, L: tl.constexpr):
    """Return where channel `ch` starts in the parameters `(half, L)` of its branch."""
    return tl.where(ch < half, p_vh + ch * L, p_hv + (ch - half) * L)


@triton.jit
def vector(p, length, BL: tl.constexpr, ACC: tl.constexpr):
    """Load `length` values as a block of BL, zero beyond."""
    o = tl.arange(0, BL)
    return tl.load(p + o, mask=o < length, other=0.0).to(ACC)


@triton.jit
def pos1_lengths(ch, half, H: tl.constexpr, W: tl.constexpr):
    """Return how many rows and columns pos1 of channel `ch` covers: (H, 0) in the half vh, (0, W) in hv.

    pos2 covers the rest of (H, W). Lengths in masks replace a scalar condition.
    """
    return tl.where(ch < half, H, 0), tl.where(ch < half, 0, W)


@triton.jit
def circulant(p_kernel, row, col, L: tl.constexpr, BR: tl.constexpr, BC: tl.constexpr, TRANSPOSED: tl.constexpr):
    """Return block [BR, BC] at (row, col) of the circulant of a kernel of length L, or of its transpose; 0 beyond L."""
    o_r = row + tl.arange(0, BR)[:, None]
    o_c = col + tl.arange(0, BC)[None, :]
    o_s = o_r - o_c if TRANSPOSED else o_c - o_r
    o_s = tl.where(o_s < 0, o_s + L, o_s)
    return tl.load(p_kernel + o_s, mask=(o_r < L) & (o_c < L), other=0.0)


@triton.jit
def offsets(o_n, ch, o_h, o_w, s_n, s_c, s_h, s_w, WIDE: tl.constexpr):
    if WIDE:
        o_n, ch, o_h, o_w = o_n.to(tl.int64), ch.to(tl.int64), o_h.to(tl.int64), o_w.to(tl.int64)
    return o_n * s_n + ch * s_c + o_h * s_h + o_w * s_w


class Tile(NamedTuple):
    """Maps and rows that a program multiplies at once, warps, stages."""

    BN: int
    BR: int
    num_warps: int
    num_stages: int


T = TypeVar("T", bound=tuple)


@dataclass(frozen=True)
class Problem:
    """The sizes of one call. Derived values are computed once per size."""

    maps: int
    channels: int
    height: int
    width: int
    groups: int
    dtype: torch.dtype
    device: torch.device
    most: int
    """Largest number of programs; the maps of a channel and group are split up to this."""

    @cached_property
    def sides(self) -> tuple[int, int]:
        """Padded rows and columns of a map in a program."""
        return common.block(self.height), common.block(self.width)

    @cached_property
    def narrow(self) -> bool:
        """True if the dtype has two bytes."""
        return self.dtype in (torch.float16, torch.bfloat16)

    @cached_property
    def per_group(self) -> int:
        return self.maps // self.groups

    @cached_property
    def chunk(self) -> int:
        """Number of maps of a group per program."""
        height, width = self.sides
        tiles = triton.cdiv(self.per_group, max(1, 1024 // (height * width)))
        splits = max(1, min(tiles, self.most // (self.channels * self.groups), MAX_SPLITS))
        return triton.cdiv(self.per_group, splits)

    @cached_property
    def splits(self) -> int:
        """Number of chunks of a group."""
        return triton.cdiv(self.per_group, self.chunk) if self.maps else 0

    @cached_property
    def programs(self) -> int:
        return self.channels * self.groups * self.splits

    @cached_property
    def flops(self) -> int:
        """FLOPs of both circulant products on every plane."""
        return 2 * self.maps * self.channels * self.height * self.width * (self.height + self.width)

    @cached_property
    def values(self) -> dict[str, Any]:
        """Parameters of the kernels that follow from the sizes."""
        height, width = self.sides
        return {
            "per_group": self.per_group,
            "chunk": self.chunk,
            "splits": self.splits,
            "channels": self.channels,
            "groups": self.groups,
            "H": self.height,
            "W": self.width,
            "BH": height,
            "BW": width,
            "BS": triton.next_power_of_2(self.splits),
            "ACC": common.accumulator(self.dtype),
        }


@lru_cache(maxsize=256)
def sized(shape: torch.Size, groups: int, dtype: torch.dtype, device: torch.device, most: int) -> Problem:
    n, c, h, w = shape
    return Problem(n, c, h, w, groups, dtype, device, most)


def problem(x: Tensor, groups: int) -> Problem:
    """Return the problem of maps like `x`; the same object for the same sizes."""
    return sized(x.shape, groups, x.dtype, x.device, PROGRAMS)


def choose(kernel: str, p: Problem, pinned: T) -> T:
    """Choose the tiles of a kernel. Blocks of rows and columns are at most as long as a map's padded sides."""
    height, width = p.sides
    shape = tiles.shape_class(p.channels, p.height * p.width)
    return tiles.choose(kernel, shape, p.dtype, pinned, p.device, {"BR": height, "BC": width})


def launch(
    kernel: Any,
    phase: Phase,
    p: Problem,
    target: Target,
    config: Any,
    programs: int,
    flops: int,
    values: dict[str, Any],
    again: int = 0,
) -> Launch:
    """Make a launch of `kernel`. Its parameters are taken by name from the problem, the configuration and `values`."""
    maps = [value for value in values.values() if isinstance(value, Tensor) and value.dim() == 4]
    chosen = {"WIDE": common.wide(*maps), "PRECISION": common.precision(p.dtype, target)}
    known = {**p.values, **config._asdict(), **chosen, **values}
    taken = {name: known[name] for name in kernel.arg_names}
    return Launch(
        kernel=kernel,
        phase=phase,
        grid=(programs,),
        arguments={name: value for name, value in taken.items() if not name.isupper()},
        constants={name: value for name, value in taken.items() if name.isupper()},
        num_warps=config.num_warps,
        num_stages=config.num_stages,
        bytes=common.size_of(*(value for value in taken.values() if isinstance(value, Tensor))),
        flops=flops,
        again=again,
    )


def dense(x: Tensor) -> Tensor:
    """Return `x`, or a contiguous copy if neighbouring elements of a map are not adjacent, as in channels last.

    A program reads one channel, so of every sector of such a map it would use one element only. The kernels would read
    x sixteen times from the cache, twice each way; a copy reads and writes it once.
    """
    return x if min(x.stride()[2:]) <= 1 else x.contiguous()


def strides(x: Tensor, prefix: str = "s_") -> dict[str, int]:
    return {f"{prefix}{axis}": stride for axis, stride in zip("nchw", x.stride(), strict=True)}


def parameters(vh: Sequence[Tensor], hv: Sequence[Tensor]) -> dict[str, Tensor]:
    """Return the pointer arguments of both branches."""
    pairs = {f"p_vh_{name}": value for name, value in zip(NAMES, vh, strict=True)}
    return pairs | {f"p_hv_{name}": value for name, value in zip(NAMES, hv, strict=True)}
