"""FCC on Triton as its tests take it: parameters, the fused layer, and the reference by groups."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from harness.compare import Params, seeded
from harness.kernel_checks import Make, Problem
from torch import Tensor

pytest.importorskip("triton")

from mol_fast.kernels import fcc as kernels

NAMES = ("kernel1", "pos1", "bias1", "kernel2", "pos2", "bias2", "norm.weight", "norm.bias")


def parameters(c: int, h: int, w: int, dtype: torch.dtype, device: str = "cpu") -> Params:
    """Leaves by name, the same numbers whatever the dtype; kernels small enough to keep values of order 1."""
    params = {}
    for half, (first, second) in (("vh", (h, w)), ("hv", (w, h))):
        lengths = (first, first, 0, second, second, 0, 0, 0)
        for seed, (name, length) in enumerate(zip(NAMES, lengths, strict=True)):
            shape = (c // 2, length) if length else (c // 2,)
            value = seeded(*shape, seed=seed + 10 * (half == "hv"), dtype=torch.float64)
            value = value * length**-0.5 if "kernel" in name else value
            params[f"{half}.{name}"] = value.to(device, dtype).requires_grad_()
    return params


def branch(params: Params, half: str) -> list[Tensor]:
    return [params[f"{half}.{name}"] for name in NAMES]


def statistics(c: int, groups: int, dtype: torch.dtype, device: str = "cpu") -> dict[str, Tensor]:
    mean, var = seeded(groups, c, seed=77), seeded(groups, c, seed=78).square() + 0.3
    return {"mean": mean.to(device, dtype), "var": var.to(device, dtype)}


def fused(groups: int, **given: Tensor) -> Callable[[Params, Tensor], Tensor]:
    return lambda params, x: kernels.fcc(x, branch(params, "vh"), branch(params, "hv"), groups=groups, **given)[0]


def problem(n: int, c: int, h: int, w: int, groups: int = 1, training: bool = True) -> Make:
    """In training, or with given statistics."""

    def make(dtype: torch.dtype, device: str) -> Problem:
        given = {} if training else statistics(c, groups, dtype, device)
        x, d = (seeded(n, c, h, w, seed=seed, dtype=dtype).to(device) for seed in (0, 99))
        return Problem(fused(groups, **given), lambda: parameters(c, h, w, dtype, device), x, d)

    return make


def by_group(function: Any, groups: int, **given: Tensor) -> Callable[[Params, Tensor], Tensor]:
    """`function(params, x, training)` of each group's maps by themselves."""

    def layer(params: Params, x: Tensor) -> Tensor:
        y = torch.empty_like(x)
        half = x.shape[1] // 2
        for g in range(groups):
            buffers = {}
            for name, part in (("vh", slice(half)), ("hv", slice(half, None))):
                zeros = torch.zeros(half, dtype=x.dtype, device=x.device)
                buffers[f"{name}.norm.running_mean"] = given["mean"][g, part].to(x.dtype) if given else zeros
                buffers[f"{name}.norm.running_var"] = given["var"][g, part].to(x.dtype) if given else zeros + 1
                buffers[f"{name}.norm.num_batches_tracked"] = torch.zeros((), dtype=torch.long)
            y[g::groups] = function({**params, **buffers}, x[g::groups], not given)
        return y

    return layer
