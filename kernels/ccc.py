"""CCC (variant `paper`), the channel correspondence convolution with its residual, fused: forward and backward.

A map is F (C, D): the nodes are its C channels, their features its D = H W pixels. S_ij is the cosine of F_i and
F_j with lengths floored at 1e-12, N(i) = (j_1, ..., j_k) the k channels of largest S_ij in descending order.

    out = F + mix E + mix_bias,    E_i = max over j in N(i) of ReLU( node(F_i) + edge(F_j - F_i) )

ReLU and both linears commute with the max, so with W = W_n - W_e and elementwise max

    E_i = ReLU( P_i + max over j in N(i) of Q_j ),    P = F W^T + b_n + b_e,    Q = F W_e^T

Forward, two launches:

    neighbours   one program per map and block of rows of S, which stays on the chip; k times the largest of a row.
    edges        one program per map and tile of pixels, with all channels: P and Q of the tile, gather, max, ReLU,
                 mix, residual. It writes Q to its own tile of the output, gathers rows of Q from there, and only
                 then writes the output over it, so that Q costs no memory and stays in the cache.

Backward, with d = dL/d out, r_i the rank (per element) of the neighbour that won in E_i, and no gradient where
E_i = 0 (the winner is then stored as k); the selection itself carries no gradient:

    dE = mix^T d                         dP = dE where the winner is a rank, else 0
    dQ = sum_r R_r^T (dP where it is r)  R_r[i, j] = (j_r of i is j), a 0/1 matrix: no atomics, one order of summation
    dF = d + dP W + dQ W_e
    d mix = sum_n d E^T, d mix_bias = sum d;   d W = sum_n dP^T F, d W_e = sum_n dQ^T F, d b = sum dP

Backward, three or four launches: dP|dQ and dF (in one launch for many small maps: a program then reads back what
it has just written), d W with d b, d mix with d mix_bias. The last two are sums over maps in a few parts, which
PyTorch adds up. The forward saves E, the neighbours, and the ranks: half a byte per element up to k = 15, else two.

Neighbours are selected at float32 accuracy: products of 16-bit numbers are exact in float32, float32 products are
three TF32 products whatever `torch.set_float32_matmul_precision` says. Of equal similarities the lowest index
comes first. NaN counts as the largest similarity, as in `torch.topk`; where several are NaN, or equal, `torch.topk`
leaves the order open. Of equal candidates in the max the first rank wins, and the whole gradient goes to it. A NaN
candidate makes the maximum NaN. In the backward a gradient that is not finite reaches dQ of all channels of its map
(0/1 matrices multiply it by 0), not just of the winner.

Bytes, with X those of x, and ranks X / 4 for 16-bit maps and k up to 15: neighbours X, edges 2 X (+ X + ranks when
gradients are wanted); map gradient 4 X + ranks (two launches: 7 X + ranks); d W 3 X, d mix 2 X; and parameters and
partial sums. What several programs of one map read is counted once, as they run side by side and share the cache,
and so is what a program reads back of its own output. FLOPs: neighbours 2 N C^2 D, edges 2 N C D (2 D + C); map
gradient the same, d W 4 N C D^2, d mix 2 N C^2 D; the products with R_r (2 k N C^2 D) only move data and are not
counted.

Source: MOL paper, channel correspondence convolution.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from . import common, tiles
from .ccc_backward import TILES as BACKWARD_TILES
from .ccc_backward import map_launches, parameter_launch, parts
from .ccc_forward import TILES as FORWARD_TILES
from .ccc_forward import edges_launch, neighbours_launch, packed
from .common import Launch, Target

MAX_CHANNELS = 512
"""A program holds a tile of all channels."""
MAX_PIXELS = 2**15 - 1
"""The stacked weights have 2 D^2 elements, less than 2^31."""

TILES = {**FORWARD_TILES, **BACKWARD_TILES}


def forward_buffers(x: Tensor, k: int, save: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Output, neighbours `(N, k, C)`, edges and ranks `(N, C, ...)`; the last two empty unless saved."""
    n, c, h, w = x.shape
    edges = (n, c, h * w) if save else (0,)
    ranks, dtype = ((n, c, (h * w + 1) // 2), torch.uint8) if packed(k) else ((n, c, h * w), torch.int16)
    shapes = ((x.shape, x.dtype), ((n, k, c), torch.int16), (edges, x.dtype), (ranks if save else (0,), dtype))
    out, index, saved, ranked = (torch.empty(size, dtype=kind, device=x.device) for size, kind in shapes)
    return out, index, saved, ranked


def backward_buffers(x: Tensor) -> list[Tensor]:
    """dx, dP|dQ `(N, C, 2 D)`, and the partial sums of the stacked weight, its bias, mix and its bias."""
    n, c, h, w = x.shape
    d, dtype = h * w, common.accumulator_dtype(x.dtype)
    s, t = parts(x, 2 * d, d), parts(x, c, c)
    shapes = ((s, 2 * d, d), (s, 2 * d), (t, c, c), (t, c))
    partial = [torch.empty(shape, dtype=dtype, device=x.device) for shape in shapes]
    dx = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    return [dx, torch.empty((n, c, 2 * d), dtype=x.dtype, device=x.device), *partial]


def forward_launches(
    x: Tensor, parameters: tuple[Tensor, ...], buffers: tuple[Tensor, ...], save: bool, target: Target
) -> list[Launch]:
    """`parameters`: stacked weight `(2 D, D)`, bias, mix, its bias; `buffers`: those of `forward_buffers`."""
    weight, bias, mix, mix_bias = parameters
    out, index, edges, ranks = buffers
    saved = (edges, ranks) if save else None
    last = edges_launch(x, weight, bias, mix, mix_bias, index, out, saved, target)
    return [neighbours_launch(x, index, target), last]


def backward_launches(
    dy: Tensor,
    x: Tensor,
    weight: Tensor,
    mix: Tensor,
    index: Tensor,
    edges: Tensor,
    ranks: Tensor,
    buffers: list[Tensor],
    target: Target,
) -> list[Launch]:
    """`buffers`: those of `backward_buffers`."""
    dx, dpq, d_weight, d_bias, d_mix, d_mix_bias = buffers
    return [
        *map_launches(dy, ranks, index, mix, weight, dpq, dx, target),
        parameter_launch(dpq[:, :, None], x, d_weight, d_bias, True, target),
        parameter_launch(dy, edges.view(x.shape), d_mix, d_mix_bias, False, target),
    ]


@torch.library.custom_op("mol_fast::ccc", mutates_args=())
def ccc_op(
    x: Tensor, weight: Tensor, bias: Tensor, mix: Tensor, mix_bias: Tensor, k: int, save: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The output, and for the backward neighbours, and with `save` edges and ranks."""
    buffers = forward_buffers(x, k, save)

    def attempt() -> tuple[Tensor, Tensor, Tensor, Tensor]:
        for step in forward_launches(x, (weight, bias, mix, mix_bias), buffers, save, common.target()):
            step.run(x.device)
        return buffers

    return tiles.fitting(attempt)


@ccc_op.register_fake
def _(
    x: Tensor, weight: Tensor, bias: Tensor, mix: Tensor, mix_bias: Tensor, k: int, save: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return forward_buffers(x, k, save)


@torch.library.custom_op("mol_fast::ccc_backward", mutates_args=())
def ccc_backward(
    dy: Tensor, x: Tensor, weight: Tensor, mix: Tensor, index: Tensor, edges: Tensor, ranks: Tensor
) -> list[Tensor]:
    """Gradients of x, the stacked weight, its bias, mix and its bias."""

    def attempt() -> list[Tensor]:
        buffers = backward_buffers(x)
        for step in backward_launches(dy, x, weight, mix, index, edges, ranks, buffers, common.target()):
            step.run(x.device)
        return buffers

    dx, _, *partial = tiles.fitting(attempt)
    d_weight, d_bias, d_mix, d_mix_bias = (part.sum(dim=0).to(x.dtype) for part in partial)
    return [dx, d_weight, d_bias[: d_bias.shape[0] // 2].clone(), d_mix, d_mix_bias]


@ccc_backward.register_fake
def _(dy: Tensor, x: Tensor, weight: Tensor, mix: Tensor, index: Tensor, edges: Tensor, ranks: Tensor) -> list[Tensor]:
    c, d = mix.shape[0], weight.shape[1]
    shapes = (x.shape, (2 * d, d), (d,), (c, c), (c,))
    return [torch.empty(shape, dtype=x.dtype, device=x.device) for shape in shapes]


def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    x, weight, _, mix, _, _, _ = inputs
    _, index, edges, ranks = output
    ctx.mark_non_differentiable(index, edges, ranks)
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(x, weight, mix, index, edges, ranks)


def backward(ctx: Any, dy: Tensor | None, *_: Tensor | None) -> tuple[Any, ...]:
    gradients = [None] * 5 if dy is None else ccc_backward(dy, *ctx.saved_tensors)
    return *gradients, None, None


ccc_op.register_autograd(backward, setup_context=setup_context)


def ccc(
    x: Tensor,
    node_weight: Tensor,
    node_bias: Tensor,
    edge_weight: Tensor,
    edge_bias: Tensor,
    mix_weight: Tensor,
    mix_bias: Tensor,
    k: int,
) -> Tensor:
    """CCC of the paper with its residual in fused kernels.

    Args:
        x: maps `(N, C, H, W)`, C from 1 to 512, D = H W up to 32767, any strides, on a GPU (or anywhere under
            TRITON_INTERPRET=1); float32, float16, bfloat16 (float64 under the interpreter).
        node_weight, edge_weight: `(D, D)`; node_bias, edge_bias: `(D,)`.
        mix_weight, mix_bias: `(C, C)` and `(C,)`.
        k: number of neighbours, the channel itself among them; 1 to C.

    Parameters may have another floating dtype than x: they are combined in float32 or theirs, then rounded to x's.

    Returns:
        The maps `(N, C, H, W)`, contiguous.

    Raises:
        ValueError: naming the argument that has a wrong shape, dtype, device or value.
    """
    check(x, (node_weight, node_bias, edge_weight, edge_bias, mix_weight, mix_bias), k)
    exact = torch.promote_types(node_weight.dtype, torch.float32)
    node, edge = node_weight.to(exact), edge_weight.to(exact)
    weight = torch.cat([node - edge, edge]).to(x.dtype)
    bias = (node_bias.to(exact) + edge_bias.to(exact)).to(x.dtype)
    parameters = (weight, bias, mix_weight.to(x.dtype).contiguous(), mix_bias.to(x.dtype).contiguous())
    save = torch.is_grad_enabled() and any(t.requires_grad for t in (x, *parameters))
    return ccc_op(x, *parameters, k, save)[0]


def check(x: Tensor, parameters: tuple[Tensor, ...], k: int) -> None:
    """Raise ValueError for what the kernels do not take."""
    common.check_input("x", x)
    _, c, h, w = x.shape
    if c > MAX_CHANNELS or h * w > MAX_PIXELS:
        limits = f"{MAX_CHANNELS} channels and {MAX_PIXELS} pixels"
        raise ValueError(f"x must have at most {limits} for the Triton kernels, got {tuple(x.shape)}")
    d = h * w
    names = ("node_weight", "node_bias", "edge_weight", "edge_bias", "mix_weight", "mix_bias")
    for name, value, shape in zip(names, parameters, ((d, d), (d,), (d, d), (d,), (c, c), (c,)), strict=True):
        common.check_parameter(name, value, shape, x)
    if not 1 <= k <= c:
        raise ValueError(f"k must be from 1 to the number of channels, {c}, got {k}")


def launches(
    shape: tuple[int, int, int, int], k: int, dtype: torch.dtype, target: Target, save: bool = True
) -> list[Launch]:
    """Every launch of a forward and, with `save`, a backward call on contiguous maps; no device is touched."""
    _, c, h, w = shape
    d = h * w
    x = torch.empty(shape, dtype=dtype, device="meta")
    weight, bias, mix, mix_bias = (x.new_empty(size) for size in ((2 * d, d), (d,), (c, c), (c,)))
    buffers = forward_buffers(x, k, save)
    steps = forward_launches(x, (weight, bias, mix, mix_bias), buffers, save, target)
    if save:
        steps += backward_launches(x, x, weight, mix, *buffers[1:], backward_buffers(x), target)
    return steps


def shipped(dtype: torch.dtype, target: Target) -> Iterator[tuple[str, list[Launch]]]:
    """Every kernel that ships, at the standard shape, at the smallest tiles with rows that are not aligned, and at
    the largest maps with ranks of two bytes."""
    yield "448x128x16x16", launches((448, 128, 16, 16), 4, dtype, target)
    yield "448x128x16x16-inference", launches((448, 128, 16, 16), 4, dtype, target, save=False)[1:]
    yield "14x128x16x16", launches((14, 128, 16, 16), 4, dtype, target)[2:4]
    yield "3x6x5x12", launches((3, 6, 5, 12), 2, dtype, target)
    yield "14x512x64x64", launches((14, 512, 64, 64), 16, dtype, target)
