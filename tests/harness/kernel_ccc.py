"""CCC on Triton as its tests take it: parameters, the fused layer, and maps whose neighbours no rounding changes."""

from collections.abc import Callable

import pytest
import torch
from harness.compare import Params, neighbour_gap, seeded
from harness.kernel_checks import Make, Problem
from torch import Tensor

pytest.importorskip("triton")

from mol_fast.kernels import ccc as kernels


def parameters(c: int, d: int, dtype: torch.dtype, device: str = "cpu") -> Params:
    """Leaves by name, the same numbers whatever the dtype."""
    shapes = {"node.weight": (d, d), "node.bias": (d,), "edge.weight": (d, d), "edge.bias": (d,)}
    shapes |= {"mix.weight": (c, c, 1, 1), "mix.bias": (c,)}
    values = (
        seeded(*shape, seed=10 + i, dtype=torch.float64) * shape[0] ** -0.5 for i, shape in enumerate(shapes.values())
    )
    return {name: value.to(device, dtype).requires_grad_() for name, value in zip(shapes, values, strict=True)}


def values(params: Params) -> list[Tensor]:
    """The parameters as the operator takes them."""
    return [value[:, :, 0, 0] if name == "mix.weight" else value for name, value in params.items()]


def fused(k: int) -> Callable[[Params, Tensor], Tensor]:
    return lambda params, x: kernels.ccc(x, *values(params), k)


def problem(n: int, c: int, h: int, w: int, k: int) -> Make:
    def make(dtype: torch.dtype, device: str) -> Problem:
        x, d = (seeded(n, c, h, w, seed=seed, dtype=dtype).to(device) for seed in (0, 99))
        return Problem(fused(k), lambda: parameters(c, h * w, dtype, device), x, d)

    return make


def maps(case: tuple[int, ...], dtype: torch.dtype, device: str) -> Tensor:
    """Maps `(N, C, H, W)` of a case `N, C, H, W, k` whose neighbours no rounding changes."""
    *shape, k = case
    candidates = (seeded(*shape, seed=seed, dtype=dtype) for seed in range(1000))
    return next(x for x in candidates if neighbour_gap(x, k, "paper") > 1e-5).to(device)
