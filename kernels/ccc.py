"""CCC (variant `paper`), the channel correspondence convolution with its residual, fused: forward and backward.

A map is F (C, D): its C channels are the nodes, its D = H W pixels their features. S_ij is the cosine of F_i and F_j,
with lengths of at least 1e-12. N(i) = (j_1, ..., j_k) are the k channels of largest S_ij, in descending order.

    out = F + mix E + mix_bias,    E_i = max over j in N(i) of ReLU( node(F_i) + edge(F_j - F_i) )

ReLU and both linear layers commute with the max, so with W = W_n - W_e and elementwise max

    E_i = ReLU( P_i + max over j in N(i) of Q_j ),    P = F W^T + b_n + b_e,    Q = F W_e^T

Forward, three launches:

    stack        W | W_e, b_n + b_e and mix in the dtype of the maps (`ccc_parameters.py`).
    neighbours   one program per map and block of rows of S, which stays on the chip; k times the maximum of a row.
    edges        one program per map and tile of pixels, with all channels: P and Q of the tile, gather, max, ReLU,
                 mix, residual. It writes Q to its own tile of the output, gathers rows of Q from there, and then
                 overwrites it by the output. So Q needs no memory of its own and stays in the cache.

Backward, with d = dL/d out. r_i is the rank (per element) of the neighbour that won in E_i. Where E_i = 0
the gradient is zero, and k is stored instead of a rank. No gradient passes through the choice of neighbours:

    dE = mix^T d                         dP = dE where the winner is a rank, else 0
    dQ = sum_r R_r^T (dP where it is r)  R_r[i, j] = (j_r of i is j), a 0/1 matrix: no atomics, one order of summation
    dF = d + dP W + dQ W_e
    d mix = sum_n d E^T, d mix_bias = sum d;   d W = sum_n dP^T F, d W_e = sum_n dQ^T F, d b = sum dP

Backward, four or five launches:

    1, 2   dP|dQ, then dF. For many small maps this is one launch, in which a program reads back its own results.
    3      d W and d b, summed over maps in a few parts.
    4      d mix and d mix_bias, likewise.
    5      adds the parts, and writes every parameter's gradient in its dtype (`ccc_parameters.py`).

The forward saves E, the neighbours, and the ranks: half a byte per element up to k = 15, else two bytes.

Neighbours are selected in float32 accuracy: products of 16-bit numbers are exact in float32; float32 products are three
TF32 products, whatever `torch.set_float32_matmul_precision` says. Of equal similarities, the lowest index comes first.
NaN counts as the largest similarity, as in `torch.topk` (which does not define the order of equal values). Of equal
candidates in the max, the first rank wins and gets the whole gradient. A NaN candidate makes the maximum NaN. In the
backward, a non-finite gradient spreads to dQ of all channels of its map (0/1 matrices multiply it by 0), not only to
the winner.

Cost. X is the size of x in bytes, K that of the ranks: X / 4 for 16-bit maps and k up to 15.

    launch          bytes, plus parameters and partial sums        FLOPs
    neighbours      X                                              2 N C^2 D
    edges           2 X, with gradients 3 X + K                    2 N C D (2 D + C)
    map gradient    4 X + K, as two launches 7 X + K               2 N C D (2 D + C)
    d W             3 X                                            4 N C D^2
    d mix           2 X                                            2 N C^2 D

Data that several programs of one map read count once, because these programs run at the same time and share the cache.
So does output that a program reads back. Products with R_r (2 k N C^2 D) only move data and do not count.

Source: MOL paper, channel correspondence convolution.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from . import common, operators
from .ccc_backward import TILES as BACKWARD_TILES
from .ccc_backward import map_launches, parameter_launch, parts
from .ccc_forward import TILES as FORWARD_TILES
from .ccc_forward import edges_launch, neighbours_launch, packed
from .ccc_parameters import NAMES, gradients_like, parameter_shapes, stack_launch, stacked_like, sum_launch
from .ccc_parameters import TILES as PARAMETER_TILES
from .common import Launch, Target
from .prepared import Built, Recipe, run

MAX_CHANNELS = 512
"""Most channels: a program holds a tile of all channels."""
MAX_PIXELS = 2**15 - 1
"""Most pixels: the stacked weights have 2 D^2 elements, which must be less than 2^31."""

TILES = {**FORWARD_TILES, **BACKWARD_TILES, **PARAMETER_TILES}


def forward_buffers(x: Tensor, k: int, save: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Allocate output, neighbours `(N, k, C)`, edges and ranks `(N, C, ...)`; the last two are empty without `save`."""
    n, c, h, w = x.shape
    edges = (n, c, h * w) if save else (0,)
    ranks, dtype = ((n, c, (h * w + 1) // 2), torch.uint8) if packed(k) else ((n, c, h * w), torch.int16)
    shapes = ((x.shape, x.dtype), ((n, k, c), torch.int16), (edges, x.dtype), (ranks if save else (0,), dtype))
    out, index, saved, ranked = (torch.empty(size, dtype=kind, device=x.device) for size, kind in shapes)
    return out, index, saved, ranked


def backward_buffers(x: Tensor) -> list[Tensor]:
    """Return empty dx, dP|dQ `(N, C, 2 D)`, and partial sums of the stacked weight, its bias, mix and its bias."""
    n, c, h, w = x.shape
    d, dtype = h * w, common.accumulator_dtype(x.dtype)
    s, t = parts(x, 2 * d, d), parts(x, c, c)
    shapes = ((s, 2 * d, d), (s, 2 * d), (t, c, c), (t, c))
    partial = [torch.empty(shape, dtype=dtype, device=x.device) for shape in shapes]
    dx = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    return [dx, torch.empty((n, c, 2 * d), dtype=x.dtype, device=x.device), *partial]


def forward_launches(
    x: Tensor,
    parameters: Sequence[Tensor],
    stacked: Sequence[Tensor],
    buffers: tuple[Tensor, ...],
    save: bool,
    target: Target,
) -> list[Launch]:
    """Make the launches of the forward.

    `parameters` have the order of `NAMES`; `stacked` and `buffers` come from `stacked_like` and `forward_buffers`.
    """
    out, index, edges, ranks = buffers
    saved = (edges, ranks) if save else None
    weight, bias, mix, mix_bias = stacked
    return [
        stack_launch(x, parameters, stacked),
        neighbours_launch(x, index, target),
        edges_launch(x, weight, bias, mix, mix_bias, index, out, saved, target),
    ]


def backward_launches(
    dy: Tensor,
    x: Tensor,
    weight: Tensor,
    mix: Tensor,
    index: Tensor,
    edges: Tensor,
    ranks: Tensor,
    buffers: list[Tensor],
    gradients: list[Tensor],
    target: Target,
) -> list[Launch]:
    """Make the launches of the backward, on the tensors of `backward_buffers` and `gradients_like`."""
    dx, dpq, *partial = buffers
    d_weight, d_bias, d_mix, d_mix_bias = partial
    return [
        *map_launches(dy, ranks, index, mix, weight, dpq, dx, target),
        parameter_launch(dpq[:, :, None], x, d_weight, d_bias, True, target),
        parameter_launch(dy, edges.view(x.shape), d_mix, d_mix_bias, False, target),
        sum_launch(x, partial, gradients),
    ]


def build_forward(x: Tensor, *rest: Any) -> Built:
    """Build the forward: output, neighbours, edges, ranks, stacked weight, mix. `rest`: parameters, k, save, target."""
    *parameters, k, save, target = rest
    buffers, stacked = forward_buffers(x, k, save), stacked_like(x)
    weight, bias, mix, mix_bias = stacked
    launches = forward_launches(x, parameters, stacked, buffers, save, target)
    return [*buffers, weight, mix], [bias, mix_bias], launches


def build_backward(dy: Tensor, x: Tensor, *rest: Any) -> Built:
    """Build the backward: gradients of x and of the parameters.

    `rest`: weight, mix, index, edges, ranks, dtype of the parameters, target.
    """
    weight, mix, index, edges, ranks, dtype, target = rest
    buffers, gradients = backward_buffers(x), gradients_like(x, dtype)
    launches = backward_launches(dy, x, weight, mix, index, edges, ranks, buffers, gradients, target)
    return [buffers[0], *gradients], buffers[1:], launches


FORWARD = Recipe(("x", *NAMES), build_forward, 1)
BACKWARD = Recipe(("the gradient", "x", "weight", "mix", "index", "edges", "ranks"), build_backward, 2)

Six = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]


def correspond(x: Tensor, parameters: list[Tensor], k: int, save: bool) -> Six:
    out, index, edges, ranks, weight, mix = run(FORWARD, (x, *parameters), k, save, common.target())
    return out, index, edges, ranks, weight, mix


def correspond_fake(x: Tensor, parameters: list[Tensor], k: int, save: bool) -> Six:
    weight, _, mix, _ = stacked_like(x)
    return *forward_buffers(x, k, save), weight, mix


ccc_op = operators.define(
    "ccc(Tensor x, Tensor[] parameters, int k, bool save) -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)",
    correspond,
    correspond_fake,
)
"""Returns the output and, for the backward: neighbours, edges and ranks (with `save`), the stacked weight, mix."""


def differentiate(
    dy: Tensor,
    x: Tensor,
    weight: Tensor,
    mix: Tensor,
    index: Tensor,
    edges: Tensor,
    ranks: Tensor,
    dtype: torch.dtype,
) -> list[Tensor]:
    return run(BACKWARD, (dy, x, weight, mix, index, edges, ranks), dtype, common.target())


def differentiate_fake(dy: Tensor, x: Tensor, *rest: Any) -> list[Tensor]:
    return [torch.empty(x.shape, dtype=x.dtype, device=x.device), *gradients_like(x, rest[-1])]


ccc_backward = operators.define(
    "ccc_backward(Tensor dy, Tensor x, Tensor weight, Tensor mix, Tensor index, Tensor edges, Tensor ranks,"
    " ScalarType dtype) -> Tensor[]",
    differentiate,
    differentiate_fake,
)
"""Returns the gradients of x and, in `dtype`, of the parameters."""


class Correspondence(torch.autograd.Function):
    """`ccc_op` with the derivative of its first output."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, k: int, save: bool, *parameters: Tensor) -> Six:
        with operators.below_autograd():
            results = ccc_op(x, parameters, k, save)
        _, index, edges, ranks, weight, mix = results
        ctx.dtype = parameters[0].dtype
        ctx.save_for_backward(x, weight, mix, index, edges, ranks)
        ctx.mark_non_differentiable(index, edges, ranks, weight, mix)
        ctx.set_materialize_grads(False)
        return results

    @staticmethod
    def backward(ctx: Any, dy: Tensor | None, *_: Tensor | None) -> tuple[Any, ...]:
        arguments = (dy, *ctx.saved_tensors, ctx.dtype)
        gradients = [None] * 7 if dy is None else operators.call(ccc_backward, *arguments)
        return gradients[0], None, None, *gradients[1:]


operators.differentiate(ccc_op, lambda x, parameters, k, save: Correspondence.apply(x, k, save, *parameters))
operators.end(ccc_backward)


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
    """Compute CCC of the paper with its residual in fused kernels.

    Parameters may have another floating dtype than x: they are combined in float32 or their own dtype, then rounded to
    x's.

    Args:
        x: maps `(N, C, H, W)`, C from 1 to 512, D = H W up to 32767, any strides, on a GPU (or anywhere under
            TRITON_INTERPRET=1); float32, float16, bfloat16 (float64 under the interpreter).
        node_weight, edge_weight: `(D, D)`; node_bias, edge_bias: `(D,)`.
        mix_weight, mix_bias: `(C, C)` and `(C,)`.
        k: number of neighbours including the channel itself; 1 to C.

    Returns:
        The maps `(N, C, H, W)`, contiguous.

    Raises:
        ValueError: an argument has a wrong shape, dtype, device or value.
    """
    parameters = (node_weight, node_bias, edge_weight, edge_bias, mix_weight, mix_bias)
    check(x, parameters, k)
    return fused(x, parameters, k)


def fused(x: Tensor, parameters: Sequence[Tensor], k: int) -> Tensor:
    """Compute `ccc` for checked arguments, with parameters in the order of `NAMES`."""
    parameters = uniform(parameters)
    save = torch.is_grad_enabled() and True in [value.requires_grad for value in (x, *parameters)]
    out: Tensor = operators.call(ccc_op, x, parameters, k, save)[0]
    return out


def uniform(parameters: Sequence[Tensor]) -> Sequence[Tensor]:
    """Return the parameters contiguous and in one dtype."""
    dtypes = common.dtypes_of(parameters)
    if len(dtypes) > 1:
        parameters = common.convert(parameters, torch.float64 if torch.float64 in dtypes else torch.float32)
    return common.contiguous(parameters)


def check(x: Tensor, parameters: Sequence[Tensor], k: int) -> None:
    """Raise ValueError for arguments that the kernels do not support."""
    common.check_input("x", x)
    _, c, h, w = x.shape
    if c > MAX_CHANNELS or h * w > MAX_PIXELS:
        limits = f"{MAX_CHANNELS} channels and {MAX_PIXELS} pixels"
        raise ValueError(f"x must have at most {limits} for the Triton kernels, got {tuple(x.shape)}")
    for name, value, shape in zip(NAMES, parameters, parameter_shapes(c, h * w), strict=True):
        common.check_parameter(name, value, shape, x)
    if not 1 <= k <= c:
        raise ValueError(f"k must be from 1 to the number of channels, {c}, got {k}")


def launches(
    shape: tuple[int, int, int, int],
    k: int,
    dtype: torch.dtype,
    target: Target,
    save: bool = True,
    parameter_dtype: torch.dtype = torch.float32,
    channels_last: bool = False,
) -> list[Launch]:
    """Return all launches of a forward and, with `save`, a backward call on contiguous maps. No device is used.

    With `channels_last`, the gradient is channels last, like that of the model's heads.
    """
    x = torch.empty(shape, dtype=dtype, device="meta")
    results, _, steps = build_forward(x, *gradients_like(x, parameter_dtype), k, save, target)
    if save:
        _, index, edges, ranks, weight, mix = results
        dy = torch.empty_like(x, memory_format=torch.channels_last) if channels_last else x
        steps += build_backward(dy, x, weight, mix, index, edges, ranks, parameter_dtype, target)[2]
    return steps


def shipped(dtype: torch.dtype, target: Target) -> Iterator[tuple[str, list[Launch]]]:
    """Yield name and launches of every configuration that ships.

    These are the standard shape; the same with channels-last gradients, as the model's heads give them; a small shape
    with unaligned rows and the smallest tiles; and the largest maps, with ranks of two bytes.
    """
    yield "448x128x16x16", launches((448, 128, 16, 16), 4, dtype, target)
    yield "448x128x16x16-inference", launches((448, 128, 16, 16), 4, dtype, target, save=False)[2:]
    for maps in (448, 14):
        steps = launches((maps, 128, 16, 16), 4, dtype, target, channels_last=True)[3:]
        yield f"{maps}x128x16x16-channels-last", [step for step in steps if step.flops]
    yield "14x128x16x16", launches((14, 128, 16, 16), 4, dtype, target)[3:5]
    yield "3x6x5x12", launches((3, 6, 5, 12), 2, dtype, target)
    yield "14x512x64x64", launches((14, 512, 64, 64), 16, dtype, target)
