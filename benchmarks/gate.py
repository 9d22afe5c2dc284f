"""Check a benchmark's result before timing it: a wrong result is not worth timing.

A result is compared with a float64 result. The budget is derived, not tuned: twice the error of a plain implementation
in the same dtype, plus one rounding. Outputs have one budget, gradients and statistics together another one.
"""

from typing import NamedTuple

import pytest
import torch
from harness.compare import errors, mean_square
from torch import Tensor

MOST = 0.9
"""Largest error that is ever allowed; a result of zeros has error 1."""


class Results(NamedTuple):
    """Results of a function, by name. `gradients` includes running statistics, and is empty after a forward."""

    outputs: dict[str, Tensor]
    gradients: dict[str, Tensor]


class Errors(NamedTuple):
    """Root mean squares of relative errors."""

    outputs: float
    gradients: float


def errors_of(actual: Results, exact: Results) -> Errors:
    """Return the errors of `actual`; raise AssertionError if names, shapes or integers differ."""
    outputs = mean_square(errors(actual.outputs, exact.outputs))
    return Errors(outputs, mean_square(errors(actual.gradients, exact.gradients)) if exact.gradients else 0.0)


def refuse_wrong(actual: Results, exact: Results, plain: Errors, dtype: torch.dtype) -> dict[str, float]:
    """Fail the test, before anything is timed, unless `actual` is right.

    Args:
        actual: results of the function to time.
        exact: results in float64.
        plain: errors of a plain implementation in `dtype`.
        dtype: dtype of the arithmetic.

    Returns:
        Error and budget of the outputs, to store with the time.
    """
    try:
        ours = errors_of(actual, exact)
    except AssertionError as difference:
        pytest.fail(f"wrong result, nothing is timed: {difference}")
    for part, error, theirs in zip(Errors._fields, ours, plain, strict=True):
        budget = budget_of(theirs, dtype)
        if not error <= budget:
            pytest.fail(f"wrong {part}, nothing is timed: relative error {error:.1e} where {budget:.1e} is allowed")
    return {"error": ours.outputs, "budget": budget_of(plain.outputs, dtype)}


def budget_of(plain: float, dtype: torch.dtype) -> float:
    """Return the allowed error if a plain implementation in `dtype` has the error `plain`."""
    return min(2 * plain + torch.finfo(dtype).eps, MOST)
