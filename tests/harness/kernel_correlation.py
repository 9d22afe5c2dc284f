"""The correlation on Triton as its tests take it: maps, the fused operator, and the reference."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from harness.compare import Params, seeded
from harness.kernel_checks import Make, Problem
from torch import Tensor

pytest.importorskip("triton")

from mol_fast.kernels import correlation as kernels

from mol_fast import reference as ref


def fused(*window: Any) -> Callable[[Params, Tensor], Tensor]:
    return lambda params, x: kernels.correlation(x, params["b"], *window)


def literal(reach: int, stride: int, slope: float) -> Callable[[Params, Tensor], Tensor]:
    return lambda params, x: F.leaky_relu(ref.correlation(x, params["b"], reach, stride), slope)


def maps(case: tuple[Any, ...], dtype: torch.dtype, device: str) -> tuple[Tensor, Tensor, Tensor]:
    """a, b and a gradient of the output, of a case `N, C, H, W, max_displacement, stride, slope`."""
    n, c, h, w, reach, stride, _ = case
    a, b = (seeded(n, c, h, w, seed=seed, dtype=dtype).to(device) for seed in (0, 1))
    return a, b, seeded(n, (2 * (reach // stride) + 1) ** 2, h, w, seed=99, dtype=dtype).to(device)


def leaves(b: Tensor, dtype: torch.dtype | None = None) -> Params:
    return {"b": b.detach().to(dtype or b.dtype, copy=True).requires_grad_()}


def problem(*case: Any) -> Make:
    def make(dtype: torch.dtype, device: str) -> Problem:
        a, b, g = maps(case, dtype, device)
        return Problem(fused(*case[4:]), lambda: leaves(b), a, g, maps=("b",))

    return make
