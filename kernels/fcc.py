"""FCC, the fully-connected convolution with its residual, fused: forward and backward.

Map n belongs to statistics group g = n mod G. For each channel, A and B are the circulants of the vertical and the
horizontal kernel, A[i, m] = kv[(m - i) mod H], B likewise from kh. With row i and column j:

    u = (x + pos1 - mean[g]) / sqrt(var[g] + eps)
    y = x + weight A u B^T + bias S_v S_h + bias1 S_2 + bias2 + circ(pos2)

In the half vh, pos1 varies with the row and circ(pos2) with the column (pos1[i], (B pos2)[j]); in the half hv it is the
other way round (pos1[j], (A pos2)[i]). S_v and S_h are the sums of the kernels, S_2 the sum of the second kernel. The
products act on u, not on x, so no digits are lost if the mean is large compared with the deviation.

Backward. With d = dL/dy, R_i and C_j its sums over maps and columns or rows, and D its sum over everything:

    E_g = sum_{n in g} d (u B^T)^T          d kv[s] = weight fold(sum_g E_g)[s] + ...
    F   = sum_n (A^T d)^T u                 d kh[s] = weight fold(F)[s] + ...
    fold(E)[s] = sum_i E[i, (i + s) mod L]  d weight = sum_g e_g,  e_g = kv . fold(E_g)
    d bias = S_v S_h D                      d bias1 = S_2 D,  d bias2 = D

The dots stand for terms of bias, bias1 and circ(pos2); they follow from the sums and R or C. One pass over x and d
computes all reductions. Batch statistics need the sums of du = weight A^T d B and of u du; these are weight S_v S_h D_g
and weight e_g. So with M values per channel and group the second pass computes

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

from . import common, operators
from .common import Launch, Target
from .fcc_backward import TILES as BACKWARD_TILES
from .fcc_backward import backward_buffers, backward_launches, gradient_shapes
from .fcc_forward import TILES as FORWARD_TILES
from .fcc_forward import forward_launches, forward_partial
from .fcc_running import TILES as RUNNING_TILES
from .fcc_running import running_launch
from .fcc_shared import NAMES, dense
from .prepared import Built, Recipe, run

MAX_SIDE = 64

TILES = {**FORWARD_TILES, **BACKWARD_TILES, **RUNNING_TILES}


def made_like(x: Tensor, groups: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return empty y, and empty mean and variance `(groups, C)` in the accumulator's dtype."""
    mean = x.new_empty((groups, x.shape[1]), dtype=common.accumulator_dtype(x.dtype))
    return x.new_empty(x.shape), mean, torch.empty_like(mean)


PARAMETERS = tuple(f"{half}.{name}" for half in ("vh", "hv") for name in NAMES)
GIVEN = tuple(f"{half}.running_{name}" for half in ("vh", "hv") for name in ("mean", "var"))
"""Mean and variance `(G, C/2)` of each half."""


def build_training(x: Tensor, *rest: Any) -> Built:
    """Build the training forward: y, mean and var of the batch. `rest`: parameters, groups, eps, target."""
    *parameters, groups, eps, target = rest
    made = made_like(x, groups)
    partial = forward_partial(x, made[1])
    launches = forward_launches(x, parameters[:8], parameters[8:], None, made, partial, eps, target)
    return [*made], [partial], launches


def build_evaluation(x: Tensor, *rest: Any) -> Built:
    """Build the evaluation forward: y, and the given mean and var. `rest`: parameters, `GIVEN`, eps, target."""
    *tensors, eps, target = rest
    vh, hv, given = tensors[:8], tensors[8:16], tensors[16:]
    made = made_like(x, given[0].numel() // hv[-1].numel())
    return [*made], [], forward_launches(x, vh, hv, given, made, None, eps, target)


def build_backward(d: Tensor, x: Tensor, *rest: Any) -> Built:
    """Build the backward. `rest`: parameters, mean, var, eps, training (batch statistics), target."""
    *parameters, mean, var, eps, training, target = rest
    vh, hv = parameters[:8], parameters[8:]
    buffers = backward_buffers(x, vh[0].dtype, mean)
    launches = backward_launches(x, d, vh, hv, mean, var, buffers, eps, training, target)
    return buffers.gradients, [buffers.partial, buffers.moments], launches


TRAINING = Recipe(("x", *PARAMETERS), build_training, 1)
EVALUATION = Recipe(("x", *PARAMETERS, *GIVEN), build_evaluation, 1)
BACKWARD = Recipe(("the gradient", "x", *PARAMETERS, "mean", "var"), build_backward, 2)


def train(x: Tensor, vh: list[Tensor], hv: list[Tensor], groups: int, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    y, mean, var = run(TRAINING, (x, *vh, *hv), groups, eps, common.target())
    if x.shape[0] == 0:
        mean.zero_()
        var.fill_(1)
    return y, mean, var


def train_fake(x: Tensor, vh: list[Tensor], hv: list[Tensor], groups: int, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    return made_like(x, groups)


fcc_train = operators.define(
    "fcc_train(Tensor x, Tensor[] vh, Tensor[] hv, int groups, float eps) -> (Tensor, Tensor, Tensor)",
    train,
    train_fake,
)
"""Returns y, normalised by batch statistics, and mean and biased variance `(groups, C)`; 0 and 1 without maps."""


def evaluate(x: Tensor, vh: list[Tensor], hv: list[Tensor], mean: Tensor, var: Tensor, eps: float) -> Tensor:
    (vh_mean, hv_mean), (vh_var, hv_var) = ([half.contiguous() for half in value.chunk(2, 1)] for value in (mean, var))
    return run(EVALUATION, (x, *vh, *hv, vh_mean, vh_var, hv_mean, hv_var), eps, common.target())[0]


def evaluate_fake(x: Tensor, vh: list[Tensor], hv: list[Tensor], mean: Tensor, var: Tensor, eps: float) -> Tensor:
    return x.new_empty(x.shape)


fcc_eval = operators.define(
    "fcc_eval(Tensor x, Tensor[] vh, Tensor[] hv, Tensor mean, Tensor var, float eps) -> Tensor",
    evaluate,
    evaluate_fake,
)
"""Returns y, normalised by the constants `mean` and `var`, `(G, C)`."""


def differentiate(
    d: Tensor, x: Tensor, vh: list[Tensor], hv: list[Tensor], mean: Tensor, var: Tensor, eps: float, training: bool
) -> list[Tensor]:
    gradients = run(BACKWARD, (dense(d), x, *vh, *hv, mean, var), eps, training, common.target())
    return gradients if x.shape[0] else [gradient.zero_() for gradient in gradients]


def differentiate_fake(
    d: Tensor, x: Tensor, vh: list[Tensor], hv: list[Tensor], mean: Tensor, var: Tensor, eps: float, training: bool
) -> list[Tensor]:
    gradients = [vh[0].new_empty(shape) for shape in gradient_shapes(x)]
    return [x.new_empty(x.shape), *gradients]


fcc_backward = operators.define(
    "fcc_backward(Tensor d, Tensor x, Tensor[] vh, Tensor[] hv, Tensor mean, Tensor var, float eps, bool training)"
    " -> Tensor[]",
    differentiate,
    differentiate_fake,
)
"""Returns the gradients of x, kv `(2, C/2, H)`, kh `(2, C/2, W)`, vertical and horizontal positions, and `(8, C/2)`:
bias1, bias2, weight, bias, each of vh and hv."""


def build_running(mean: Tensor, var: Tensor, *rest: Any) -> Built:
    """Build the update of the running statistics. `rest`: running tensors, momentum, elements behind a statistic."""
    *running, momentum, elements = rest
    return [], [], [running_launch(mean, var, running, momentum, elements)]


RUNNING = Recipe(("mean", "var", *GIVEN, "vh.num_batches_tracked", "hv.num_batches_tracked"), build_running, 0)


def update(mean: Tensor, var: Tensor, running: list[Tensor], momentum: float, elements: int) -> None:
    run(RUNNING, (mean, var, *running), momentum, elements)
    changed(running)


def changed(running: Sequence[Tensor]) -> None:
    """Tell autograd that a kernel has changed these tensors."""
    if torch.is_inference_mode_enabled():
        running = [value for value in running if not value.is_inference()]  # inference tensors have no version
    torch.autograd.graph.increment_version(running)


fcc_running = operators.define(
    "fcc_running(Tensor mean, Tensor var, Tensor(a!)[] running, float momentum, int elements) -> ()",
    update,
    lambda *_: None,
)
"""Updates the running mean, running variance and batch count of vh and hv, group by group. All must be contiguous.
`mean` and `var` (biased) are `(G, C)`, over `elements` elements each."""


def per_branch(gradients: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    """Sort the gradients of `fcc_backward` by branch, vh and hv, in the order of `NAMES`."""
    (kv1, kv2), (kh2, kh1), (pv1, pv2), (ph2, ph1), (b1, c1, b2, c2, w, v, b, c) = map(Tensor.unbind, gradients)
    return [kv1, pv1, b1, kh2, ph2, b2, w, b], [kh1, ph1, c1, kv2, pv2, c2, v, c]


def gradients_of(ctx: Any, d: Tensor | None, training: bool) -> list[Tensor | None]:
    """Return the gradients of x and of the parameters."""
    x, *rest, mean, var = ctx.saved_tensors
    if d is None:
        return [None] * 17
    arguments = d, x, rest[:8], rest[8:], mean, var, ctx.eps, training
    dx, *others = operators.call(fcc_backward, *arguments)
    vh, hv = per_branch(others)
    return [dx, *vh, *hv]


class Training(torch.autograd.Function):
    """`fcc_train` with its derivative; the statistics have none."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, groups: int, eps: float, *parameters: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        with operators.below_autograd():
            y, mean, var = fcc_train(x, parameters[:8], parameters[8:], groups, eps)
        ctx.eps = eps
        ctx.save_for_backward(x, *parameters, mean, var)
        ctx.mark_non_differentiable(mean, var)
        ctx.set_materialize_grads(False)
        return y, mean, var

    @staticmethod
    def backward(ctx: Any, d: Tensor | None, *_: Tensor | None) -> tuple[Any, ...]:
        dx, *others = gradients_of(ctx, d, True)
        return dx, None, None, *others


class Evaluation(torch.autograd.Function):
    """`fcc_eval` with its derivative; the statistics are constants."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, mean: Tensor, var: Tensor, eps: float, *parameters: Tensor) -> Tensor:
        with operators.below_autograd():
            y = fcc_eval(x, parameters[:8], parameters[8:], mean, var, eps)
        ctx.eps = eps
        ctx.save_for_backward(x, *parameters, mean, var)
        ctx.set_materialize_grads(False)
        return y

    @staticmethod
    def backward(ctx: Any, d: Tensor | None) -> tuple[Any, ...]:
        dx, *others = gradients_of(ctx, d, False)
        return dx, None, None, None, *others


operators.differentiate(fcc_train, lambda x, vh, hv, groups, eps: Training.apply(x, groups, eps, *vh, *hv))
operators.differentiate(fcc_eval, lambda x, vh, hv, mean, var, eps: Evaluation.apply(x, mean, var, eps, *vh, *hv))
operators.end(fcc_backward)


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
    """Compute FCC with its residual in fused kernels.

    Args:
        x: maps `(N, C, H, W)`, C even, H and W from 1 to 64, any strides, on a GPU (or anywhere under
            TRITON_INTERPRET=1); float32, float16, bfloat16 (float64 under the interpreter).
        vh, hv: for each branch kernel1, pos1 `(C/2, L1)`, bias1 `(C/2,)`, kernel2, pos2 `(C/2, L2)`, bias2,
            weight, bias `(C/2,)`, in this order; L1 = H and L2 = W for vh, the other way round for hv. Dtypes other
            than x's and float32 are converted to float32.
        mean, var: constants `(1, C)` or `(groups, C)`. Default: statistics of the batch, per group.
        groups: number of groups, a divisor of N; map n belongs to group n mod groups.
        eps: added to the variance.

    Returns:
        y `(N, C, H, W)`, contiguous; mean and biased variance that were used, without gradient.

    Raises:
        ValueError: an argument has a wrong shape, dtype, device or value.
    """
    check(x, vh, hv, groups)
    if mean is not None and var is not None:
        check_statistics("mean", mean, x, groups)
        check_statistics("var", var, x, groups)
    return fused(x, vh, hv, mean, var, groups, eps)


def fused(
    x: Tensor,
    vh: Sequence[Tensor],
    hv: Sequence[Tensor],
    mean: Tensor | None,
    var: Tensor | None,
    groups: int,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Compute `fcc` for checked arguments.

    Raises:
        RuntimeError: given statistics require a gradient.
    """
    x, parameters = dense(x), uniform((*vh, *hv), x.dtype)
    vh, hv = parameters[:8], parameters[8:]
    if mean is None or var is None:
        return operators.call(fcc_train, x, vh, hv, groups, eps)
    refuse_gradients((mean, var))
    mean, var = (value.detach().to(common.accumulator_dtype(x.dtype)).contiguous() for value in (mean, var))
    return operators.call(fcc_eval, x, vh, hv, mean, var, eps), mean, var


def uniform(parameters: Sequence[Tensor], dtype: torch.dtype) -> Sequence[Tensor]:
    """Return the parameters contiguous, and all in `dtype`, which is that of the maps, or all in its accumulator's."""
    exact = common.accumulator_dtype(dtype)
    if common.dtypes_of(parameters) not in ({dtype}, {exact}):
        parameters = common.convert(parameters, exact)
    return common.contiguous(parameters)


def refuse_gradients(statistics: Sequence[Tensor]) -> None:
    """Raise RuntimeError if a gradient of given statistics is wanted."""
    if torch.is_grad_enabled() and any(value.requires_grad for value in statistics):
        raise RuntimeError('mean and var have no gradient in the Triton kernels; use backend="torch", or detach them')


def check_statistics(name: str, value: Tensor, x: Tensor, groups: int) -> None:
    """Raise ValueError unless `value` has one row of channels, or one per group."""
    if value.shape != (groups, x.shape[1]):
        common.check_parameter(name, value, (1, x.shape[1]), x)


def check(x: Tensor, vh: Sequence[Tensor], hv: Sequence[Tensor], groups: int) -> None:
    """Raise ValueError for arguments that the kernels do not support."""
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
    """Return all launches of a forward and a backward call on contiguous maps. No device is used."""
    _, c, h, w = shape

    def empty(*size: int) -> Tensor:
        return torch.empty(size, dtype=parameter_dtype, device="meta")

    vh, hv = (
        [empty(c // 2, length) if length else empty(c // 2) for length in (first, first, 0, second, second, 0, 0, 0)]
        for first, second in ((h, w), (w, h))
    )
    x = torch.empty(shape, dtype=dtype, device="meta")
    halves = [torch.empty(c // 2, dtype=common.accumulator_dtype(dtype), device="meta") for _ in range(4)]
    if training:
        (_, mean, var), _, forward = build_training(x, *vh, *hv, groups, 1e-5, target)
        counts = [torch.empty((), dtype=torch.int64, device="meta") for _ in range(2)]
        forward += build_running(mean, var, *halves, *counts, 0.1, x.numel() // (groups * c))[2]
    else:
        (_, mean, var), _, forward = build_evaluation(x, *vh, *hv, *halves, 1e-5, target)
    return forward + build_backward(x, x, *vh, *hv, mean, var, 1e-5, training, target)[2]


def shipped(dtype: torch.dtype, target: Target) -> Iterator[tuple[str, list[Launch]]]:
    """Yield all shipped configurations: small, medium and large maps, training and evaluation, parameter dtypes."""
    small, medium, large = (448, 128, 16, 16), (448, 128, 32, 32), (64, 128, 64, 64)
    yield "448x128x16x16-training", launches(small, dtype, target, groups=7)
    yield "448x128x16x16-evaluation", launches(small, dtype, target, training=False, parameter_dtype=dtype)
    yield "448x128x32x32-training", launches(medium, dtype, target, groups=7)
    yield "64x128x64x64-training", launches(large, dtype, target, parameter_dtype=dtype)
