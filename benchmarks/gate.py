"""What stands between a benchmark and its time: a result that is wrong is not worth timing.

A result is compared with a float64 one; the budget is derived, not tuned: twice the error of the operation written
with PyTorch's plain layers in the same dtype, plus one rounding. Outputs, and gradients and statistics together,
each have a budget (root mean square of the relative errors).
"""

from typing import NamedTuple

import pytest
import torch
from compare import errors, mean_square
from torch import Tensor

Values = dict[str, Tensor]


class Results(NamedTuple):
    """What an operation gave, by name; `gradients` holds running statistics too and is empty after a forward."""

    outputs: Values
    gradients: Values


class Passed(NamedTuple):
    """Error and budget of the outputs of a result that is right."""

    error: float
    budget: float


def refuse_wrong(actual: Results, plain: Results, exact: Results, dtype: torch.dtype) -> Passed:
    """End the test as failed, before anything is timed, unless `actual` is right.

    Args:
        actual: what will be timed.
        plain: of PyTorch's plain layers in the same dtype; the reference in the same dtype where there are none.
        exact: of the reference in float64.
        dtype: of the arithmetic.
    """
    verdicts = {}
    for part, ours, theirs, true in zip(Results._fields, actual, plain, exact, strict=True):
        if not true:
            continue
        try:
            error, budget = mean_square(errors(ours, true)), 2 * mean_square(errors(theirs, true))
        except AssertionError as difference:
            pytest.fail(f"wrong {part}, nothing is timed: {difference}")
        budget += torch.finfo(dtype).eps
        if not error <= budget:
            pytest.fail(f"wrong {part}, nothing is timed: relative error {error:.1e} where {budget:.1e} is allowed")
        verdicts[part] = Passed(error, budget)
    return verdicts["outputs"]
