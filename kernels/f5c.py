"""F5C in one step: FCC, the update of its running statistics, and CCC. `fcc.py` and `ccc.py` have the mathematics.

The launches are those of FCC and CCC. In eager mode the host limits them: each of the five operators of a training pass
goes through PyTorch's dispatcher and autograd, and looks up its plan. Here a pass looks up two plans, and has one
autograd function. This is no operator, so that PyTorch always sees the same ones: F5C comes here only if nothing
watches or transforms operators (`operators.ordinary`).
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from . import ccc, common, fcc, operators
from .fcc_shared import dense
from .prepared import Built, Recipe, run

FIRST = len(fcc.PARAMETERS)
"""Number of FCC's parameters, which come before those of CCC."""

SAVED = ("y", "mean", "var", "index", "edges", "ranks", "weight", "mix")
"""What the backward needs of the forward: output and statistics of FCC, then intermediate tensors of CCC."""


def build_forward(x: Tensor, *rest: Any) -> Built:
    """Build the forward: output and, with `save`, `SAVED`. A layout without a plan is checked here.

    `rest`: parameters, statistics, groups, eps, momentum, k, whether in training, save, target.

    Raises:
        ValueError: an argument has a wrong shape, dtype or value.
    """
    *tensors, groups, eps, momentum, k, training, save, target = rest
    first, second, statistics = tensors[:FIRST], tensors[FIRST : FIRST + 6], tensors[FIRST + 6 :]
    fcc.check(x, first[: FIRST // 2], first[FIRST // 2 :], groups)
    ccc.check(x, second, k)
    for name, value in zip(fcc.GIVEN, statistics, strict=False):
        common.check_parameter(name, value, (x.shape[1] // 2,), x)
    if training:
        made, scratch, launches = fcc.build_training(x, *first, groups, eps, target)
        if statistics:
            elements = x[:, 0].numel() // groups
            launches += fcc.build_running(*made[1:], *statistics, momentum, elements)[2]
    else:
        made, scratch, launches = fcc.build_evaluation(x, *first, *statistics, eps, target)
    (out, *more), unused, steps = ccc.build_forward(made[0], *second, k, save, target)
    saved, scratch, launches = [*made, *more], [*scratch, *unused], [*launches, *steps]
    return ([out, *saved], scratch, launches) if save else ([out], [*saved, *scratch], launches)


def build_backward(dy: Tensor, x: Tensor, *rest: Any) -> Built:
    """Build the backward: six gradients of FCC, six of CCC.

    `rest`: parameters of FCC, `SAVED`, eps, whether in training, dtype of CCC's parameters, target.
    """
    *tensors, eps, training, dtype, target = rest
    y, mean, var, index, edges, ranks, weight, mix = tensors[FIRST:]
    saved = weight, mix, index, edges, ranks
    (d, *second), scratch, launches = ccc.build_backward(dy, y, *saved, dtype, target)
    first, more, steps = fcc.build_backward(d, x, *tensors[:FIRST], mean, var, eps, training, target)
    return [*first, *second], [d, *scratch, *more], [*launches, *steps]


PARAMETERS = (*fcc.PARAMETERS, *ccc.NAMES)
TRAINING = Recipe(("x", *PARAMETERS, *fcc.RUNNING.inputs[2:]), build_forward, 1)
UNTRACKED = Recipe(("x", *PARAMETERS), build_forward, 1)
EVALUATION = Recipe(("x", *PARAMETERS, *fcc.GIVEN), build_forward, 1)
BACKWARD = Recipe(("the gradient", "x", *fcc.PARAMETERS, *SAVED), build_backward, 2)


class Block(torch.autograd.Function):
    """`forward` with its derivative."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, statistics: Sequence[Tensor], options: tuple[Any, ...], *parameters: Tensor
    ) -> Tensor:
        out, *saved = forward(x, parameters, statistics, options, True)
        ctx.eps, ctx.training, ctx.dtype = options[1], options[-1], parameters[-1].dtype
        ctx.save_for_backward(x, *parameters[:FIRST], *saved)
        ctx.set_materialize_grads(False)
        return out

    @staticmethod
    def backward(ctx: Any, dy: Tensor | None) -> tuple[Any, ...]:
        if dy is None:
            return (None,) * (3 + len(PARAMETERS))
        x, *tensors = ctx.saved_tensors
        if torch.is_grad_enabled() or not operators.ordinary((dy,)):
            dx, first, second = apart(dy, x, tensors, ctx.eps, ctx.training, ctx.dtype)
        else:
            gradients = run(BACKWARD, (dy, x, *tensors), ctx.eps, ctx.training, ctx.dtype, common.target())
            dx, first, second = gradients[0], gradients[1:6], gradients[6:]
        vh, hv = fcc.per_branch(first)
        return dx, None, None, *vh, *hv, *second


def forward(
    x: Tensor, parameters: Sequence[Tensor], statistics: Sequence[Tensor], options: tuple[Any, ...], save: bool
) -> list[Tensor]:
    """Return what `build_forward` does. `options`: groups to training."""
    training = options[-1]
    recipe = EVALUATION if not training else TRAINING if statistics else UNTRACKED
    results = run(recipe, (x, *parameters, *statistics), *options, save, common.target())
    if training:
        fcc.changed(statistics)
    return results


def apart(
    dy: Tensor, x: Tensor, tensors: list[Tensor], eps: float, training: bool, dtype: torch.dtype
) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """Compute the backward by the operators of both layers: PyTorch sees them, and that they have no derivative."""
    y, mean, var, index, edges, ranks, weight, mix = tensors[FIRST:]
    d, *second = operators.call(ccc.ccc_backward, dy, y, weight, mix, index, edges, ranks, dtype)
    vh, hv = tensors[: FIRST // 2], tensors[FIRST // 2 : FIRST]
    dx, *first = operators.call(fcc.fcc_backward, d, x, vh, hv, mean, var, eps, training)
    return dx, first, second


def fused(
    x: Tensor,
    vh: Sequence[Tensor],
    hv: Sequence[Tensor],
    linears: Sequence[Tensor],
    statistics: Sequence[Tensor],
    groups: int,
    eps: float,
    momentum: float,
    k: int,
    training: bool,
) -> Tensor:
    """Compute F5C for `operators.ordinary` arguments and at least one map.

    Args:
        x: maps `(N, C, H, W)`.
        vh, hv, groups, eps: as in `fcc.fused`.
        linears, k: as in `ccc.fused`.
        statistics: in training, as `running` in `fcc_running`, or empty; in evaluation, `fcc.GIVEN` of one group.
        momentum: of the running statistics.
        training: whether to normalise by the batch.

    Raises:
        ValueError: an argument has a wrong shape, dtype, device or value.
        RuntimeError: statistics require a gradient in evaluation.
    """
    parameters = *fcc.uniform((*vh, *hv), x.dtype), *ccc.uniform(linears)
    x, options = dense(x), (groups, eps, momentum, k, training)
    if not training:
        fcc.refuse_gradients(statistics)
        statistics = ccc.uniform(statistics)
    if torch.is_grad_enabled() and (x.requires_grad or True in [value.requires_grad for value in parameters]):
        return Block.apply(x, statistics, options, *parameters)
    return forward(x, parameters, statistics, options, False)[0]
