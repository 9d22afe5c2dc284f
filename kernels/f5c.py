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
from .prepared import Built, Recipe, run

FIRST = len(fcc.PARAMETERS)
"""Number of FCC's parameters, which come before those of CCC."""

SAVED = ("y", "mean", "var", "index", "edges", "ranks", "weight", "mix")
"""What the backward needs of the forward: output and statistics of FCC, then intermediate tensors of CCC."""


def build_forward(x: Tensor, *rest: Any) -> Built:
    """Build the forward: output and, with `save`, `SAVED`, of which evaluation was given the statistics.

    `rest`: parameters, then mean and var in evaluation or `running` in training; groups, eps, momentum, k, whether in
    training, save, target.
    """
    *tensors, groups, eps, momentum, k, training, save, target = rest
    first, second, others = tensors[:FIRST], tensors[FIRST : FIRST + 6], tensors[FIRST + 6 :]
    if training:
        made, scratch, launches = fcc.build_training(x, *first, groups, eps, target)
        if others:
            elements = x[:, 0].numel() // groups
            launches += fcc.build_running(*made[1:], *others, momentum, elements)[2]
    else:
        made, scratch, launches = fcc.build_evaluation(x, *first, *others, eps, target)
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
EVALUATION = Recipe(("x", *PARAMETERS, "mean", "var"), build_forward, 1)
BACKWARD = Recipe(("the gradient", "x", *fcc.PARAMETERS, *SAVED), build_backward, 2)


class Block(torch.autograd.Function):
    """`forward` with its derivative."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, others: Sequence[Tensor], options: tuple[Any, ...], *parameters: Tensor) -> Tensor:
        out, *saved = forward(x, parameters, others, options, True)
        ctx.eps, ctx.training, ctx.dtype = options[1], options[-1], parameters[-1].dtype
        y, *saved = saved if ctx.training else (saved[0], *others, *saved[1:])
        ctx.save_for_backward(x, *parameters[:FIRST], y, *saved)
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
    x: Tensor, parameters: Sequence[Tensor], others: Sequence[Tensor], options: tuple[Any, ...], save: bool
) -> list[Tensor]:
    """Return what `build_forward` does. `others`: its tensors after the parameters; `options`: groups to training."""
    training = options[-1]
    recipe = EVALUATION if not training else TRAINING if others else UNTRACKED
    results = run(recipe, (x, *parameters, *others), *options, save, common.target())
    if training:
        fcc.changed(others)
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
    given: tuple[Tensor, Tensor] | None,
    running: list[Tensor],
    groups: int,
    eps: float,
    momentum: float,
    k: int,
) -> Tensor:
    """Compute F5C for checked, `operators.ordinary` arguments and at least one map.

    Args:
        x: maps `(N, C, H, W)`.
        vh, hv, groups, eps: as in `fcc.fused`.
        linears, k: as in `ccc.fused`.
        given: mean and var of `fcc.fused`; None in training.
        running: as in `fcc_running`; if empty, nothing is updated.
        momentum: of the running statistics.

    Raises:
        RuntimeError: given statistics require a gradient.
    """
    x, vh, hv = fcc.uniform(x, vh, hv)
    parameters = *vh, *hv, *ccc.uniform(linears)
    others: Sequence[Tensor] = running if given is None else fcc.constants(*given, x)
    options = groups, eps, momentum, k, given is None
    if torch.is_grad_enabled() and (x.requires_grad or True in [value.requires_grad for value in parameters]):
        return Block.apply(x, others, options, *parameters)
    return forward(x, parameters, others, options, False)[0]
