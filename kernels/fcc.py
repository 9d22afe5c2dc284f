"""FCC, the fully-connected convolution with its residual, fused: forward and backward.

For map n of statistics group g = n mod G and channel ch, with A and B the circulants of the vertical and the
horizontal kernel, A[i, m] = kv[(m - i) mod H], B likewise from kh, and i, j the row and the column:

    u = (x + pos1 - mean[g]) / sqrt(var[g] + eps)
    y = x + weight A u B^T + bias S_v S_h + bias1 S_2 + bias2 + circ(pos2)

pos1 and circ(pos2) vary with the row and with the column in the half vh (pos1[i], (B pos2)[j]), the other way
round in the half hv (pos1[j], (A pos2)[i]); S_v, S_h are the sums of the kernels and S_2 that of the second
one. The products act on u, not on x, so nothing is lost where the mean is large beside the deviation.

Backward. With d = dL/dy, R_i and C_j its sums over maps and columns or rows, and D its sum over everything:

    E_g = sum_{n in g} d (u B^T)^T          d kv[s] = weight fold(sum_g E_g)[s] + ...
    F   = sum_n (A^T d)^T u                 d kh[s] = weight fold(F)[s] + ...
    fold(E)[s] = sum_i E[i, (i + s) mod L]  d weight = sum_g e_g,  e_g = kv . fold(E_g)
    d bias = S_v S_h D                      d bias1 = S_2 D,  d bias2 = D

(the dots: bias, bias1 and circ(pos2) through the sums and R or C). One pass over x and d gives every
reduction. The sums of du = weight A^T d B and of u du, which batch statistics need, are weight S_v S_h D_g and
weight e_g, so with M values per channel and group the second pass gives

    dx = d + weight / sigma (A^T d B - S_v S_h D_g / M - u e_g / M)       (last two terms: batch statistics only)

and d pos1, the sum of dx - d along the other axis, follows from R or C, e_g and the sums of u.

Launches: forward one, and one before it for batch statistics; backward three, two over maps and one over
channels. Maps of at most 64 x 64.

Bytes, with X those of x: statistics X, forward 2 X, reductions 2 X, input gradient 3 X (2 X with given
statistics), and parameters and partial sums. FLOPs: forward P = 2 N C H W (H + W), reductions 2 P, input
gradient P.

Source: MOL paper, F5C block, fully-connected convolution.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from . import common
from .common import Launch, Target
from .fcc_backward import TILES as BACKWARD_TILES
from .fcc_backward import backward, backward_buffers, backward_launches
from .fcc_forward import TILES as FORWARD_TILES
from .fcc_forward import forward, forward_launches, forward_partial
from .fcc_shared import NAMES

MAX_SIDE = 64

TILES = {**FORWARD_TILES, **BACKWARD_TILES}


def statistics_like(x: Tensor, groups: int) -> tuple[Tensor, Tensor]:
    """Empty mean and variance `(groups, C)`, in the dtype that x is accumulated in."""
    mean = x.new_empty((groups, x.shape[1]), dtype=common.accumulator_dtype(x.dtype))
    return mean, torch.empty_like(mean)


@torch.library.custom_op("mol_fast::fcc_train", mutates_args=())
def fcc_train(x: Tensor, vh: list[Tensor], hv: list[Tensor], groups: int, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """y, mean and biased variance `(groups, C)`, normalised by the statistics of the batch; 0 and 1 without maps."""
    mean, var = statistics_like(x, groups)
    if x.shape[0] == 0:
        mean.zero_()
        var.fill_(1)
    return forward(x, vh, hv, mean, var, eps, True), mean, var


@fcc_train.register_fake
def _(x: Tensor, vh: list[Tensor], hv: list[Tensor], groups: int, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    return x.new_empty(x.shape), *statistics_like(x, groups)


@torch.library.custom_op("mol_fast::fcc_eval", mutates_args=())
def fcc_eval(x: Tensor, vh: list[Tensor], hv: list[Tensor], mean: Tensor, var: Tensor, eps: float) -> Tensor:
    """y normalised by the constants `mean` and `var (G, C)`."""
    return forward(x, vh, hv, mean, var, eps, False)


@fcc_eval.register_fake
def _(x: Tensor, vh: list[Tensor], hv: list[Tensor], mean: Tensor, var: Tensor, eps: float) -> Tensor:
    return x.new_empty(x.shape)


@torch.library.custom_op("mol_fast::fcc_backward", mutates_args=())
def fcc_backward(
    d: Tensor, x: Tensor, vh: list[Tensor], hv: list[Tensor], mean: Tensor, var: Tensor, eps: float, training: bool
) -> list[Tensor]:
    """Gradients of x, kv `(C, H)`, kh `(C, W)`, vertical and horizontal positions, and `(4, C)`: bias1, bias2, weight,
    bias."""
    return backward(d, x, vh, hv, mean, var, eps, training)


@fcc_backward.register_fake
def _(
    d: Tensor, x: Tensor, vh: list[Tensor], hv: list[Tensor], mean: Tensor, var: Tensor, eps: float, training: bool
) -> list[Tensor]:
    _, c, h, w = x.shape
    gradients = [vh[0].new_empty(shape) for shape in ((c, h), (c, w), (c, h), (c, w), (4, c))]
    return [x.new_empty(x.shape), *gradients]


def per_branch(gradients: list[Tensor], half: int) -> tuple[list[Tensor], list[Tensor]]:
    """The gradients of `fcc_backward` sorted into those of vh and of hv, in the order of `NAMES`."""
    (kv1, kv2), (kh2, kh1), (pv1, pv2), (ph2, ph1) = (g.split(half) for g in gradients[:4])
    (b1, c1), (b2, c2), (w, v), (b, c) = (row.split(half) for row in gradients[4].unbind())
    return [kv1, pv1, b1, kh2, ph2, b2, w, b], [kh1, ph1, c1, kv2, pv2, c2, v, c]


def setup_train(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    x, vh, hv, _, ctx.eps = inputs
    ctx.save_for_backward(x, *vh, *hv, *output[1:])


def setup_eval(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, vh, hv, mean, var, ctx.eps = inputs
    ctx.save_for_backward(x, *vh, *hv, mean, var)


def gradients_of(ctx: Any, d: Tensor, training: bool) -> tuple[Any, ...]:
    x, *rest, mean, var = ctx.saved_tensors
    dx, *others = fcc_backward(d, x, rest[:8], rest[8:], mean, var, ctx.eps, training)
    return dx, *per_branch(others, x.shape[1] // 2)


def backward_train(ctx: Any, d: Tensor, d_mean: Tensor, d_var: Tensor) -> tuple[Any, ...]:
    return *gradients_of(ctx, d, True), None, None


def backward_eval(ctx: Any, d: Tensor) -> tuple[Any, ...]:
    return *gradients_of(ctx, d, False), None, None, None


fcc_train.register_autograd(backward_train, setup_context=setup_train)
fcc_eval.register_autograd(backward_eval, setup_context=setup_eval)


def fcc(
    x: Tensor,
    vh: Sequence[Tensor],
    hv: Sequence[Tensor],
    *,
    mean: Tensor | None = None,
    var: Tensor | None = None,
    groups: int = 1,
    eps: float = 1e-5,
) -> tuple[Tensor, Tensor, Tensor]:
    """FCC with its residual in fused kernels.

    Args:
        x: maps `(N, C, H, W)`, C even, H and W from 1 to 64, any strides, on a GPU (or anywhere under
            TRITON_INTERPRET=1); float32, float16, bfloat16 (float64 under the interpreter).
        vh, hv: for each branch kernel1, pos1 `(C/2, L1)`, bias1 `(C/2,)`, kernel2, pos2 `(C/2, L2)`, bias2,
            weight, bias `(C/2,)` in this order; L1 = H, L2 = W for vh, the other way round for hv. Read in x's
            dtype or float32 as they are, in any other converted to float32.
        mean, var: constants `(1, C)` or `(groups, C)`; both None: statistics of the batch, per group.
        groups: map n belongs to group n mod groups; divides N.
        eps: added to the variance.

    Returns:
        y `(N, C, H, W)`, contiguous; mean and biased variance that were used, without gradient.

    Raises:
        ValueError: naming the argument that has a wrong shape, dtype, device or value.
    """
    check(x, vh, hv, groups)
    exact = common.accumulator_dtype(x.dtype)
    dtypes = {value.dtype for value in (*vh, *hv)}
    if len(dtypes) > 1 or not dtypes <= {x.dtype, exact}:
        vh, hv = ([value.to(exact) for value in branch] for branch in (vh, hv))
    vh, hv = ([value.contiguous() for value in branch] for branch in (vh, hv))
    if mean is None or var is None:
        y, mean, var = fcc_train(x, vh, hv, groups, eps)
        return y, mean.detach(), var.detach()
    mean, var = (check_statistics(name, value, x, groups) for name, value in (("mean", mean), ("var", var)))
    return fcc_eval(x, vh, hv, mean, var, eps), mean, var


def check_statistics(name: str, value: Tensor, x: Tensor, groups: int) -> Tensor:
    """`value` as a constant in the dtype that x is accumulated in."""
    if value.shape != (groups, x.shape[1]):
        common.check_parameter(name, value, (1, x.shape[1]), x)
    return value.detach().to(common.accumulator_dtype(x.dtype)).contiguous()


def check(x: Tensor, vh: Sequence[Tensor], hv: Sequence[Tensor], groups: int) -> None:
    """Raise ValueError for what the kernels do not take."""
    common.check_input("x", x)
    n, c, h, w = x.shape
    if c % 2 or not 1 <= h <= MAX_SIDE or not 1 <= w <= MAX_SIDE:
        raise ValueError(f"x must have an even number of channels and sides from 1 to {MAX_SIDE}, got {tuple(x.shape)}")
    if groups < 1 or n % groups:
        raise ValueError(f"groups must divide the number of maps, got groups={groups} for x of {tuple(x.shape)}")
    for half, values, first, second in (("vh", vh, h, w), ("hv", hv, w, h)):
        lengths = (first, first, 0, second, second, 0, 0, 0)
        for name, value, length in zip(NAMES, values, lengths, strict=True):
            common.check_parameter(f"{half}.{name}", value, (c // 2, length) if length else (c // 2,), x)


def launches(
    shape: tuple[int, int, int, int],
    dtype: torch.dtype,
    target: Target,
    *,
    groups: int = 1,
    training: bool = True,
    parameter_dtype: torch.dtype = torch.float32,
) -> list[Launch]:
    """Every launch of a forward and a backward call on contiguous maps, for any shape; no device is touched."""
    _, c, h, w = shape

    def empty(*size: int) -> Tensor:
        return torch.empty(size, dtype=parameter_dtype, device="meta")

    vh, hv = (
        [empty(c // 2, length) if length else empty(c // 2) for length in (first, first, 0, second, second, 0, 0, 0)]
        for first, second in ((h, w), (w, h))
    )
    x = torch.empty(shape, dtype=dtype, device="meta")
    mean, var = statistics_like(x, groups)
    partial = forward_partial(x, mean) if training else None
    steps = forward_launches(x, vh, hv, mean, var, x, partial, 1e-5, target)
    buffers = backward_buffers(x, parameter_dtype, mean)
    return steps + backward_launches(x, x, vh, hv, mean, var, buffers, 1e-5, training, target)


def shipped(dtype: torch.dtype, target: Target) -> Iterator[tuple[str, list[Launch]]]:
    """Every configuration that ships: small, medium and large maps, given or batch statistics, either parameters."""
    small, medium, large = (448, 128, 16, 16), (448, 128, 32, 32), (64, 128, 64, 64)
    yield "448x128x16x16-training", launches(small, dtype, target, groups=7)
    yield "448x128x16x16-evaluation", launches(small, dtype, target, training=False, parameter_dtype=dtype)
    yield "448x128x32x32-training", launches(medium, dtype, target, groups=7)
    yield "64x128x64x64-training", launches(large, dtype, target, parameter_dtype=dtype)
