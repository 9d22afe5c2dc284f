"""Blocks of F5C with parameters that no symmetry hides, and the reference of a block."""

from collections.abc import Callable

import torch
from harness.compare import neighbour_gap, randomise, seeded, state
from torch import Tensor

from mol_fast import F5C
from mol_fast import reference as ref

VARIANTS = ("paper", "official")

ALL = -1  # every node is a neighbour


def block(channels: int, size: tuple[int, int], k: int, variant: str, training: bool = True) -> F5C:
    nodes = channels if variant == "paper" else size[0] * size[1]
    module = F5C(channels, size, nodes if k == ALL else k, variant)
    randomise(module)
    return module.train(training)


def clear_input(module: F5C, n: int, training: bool, dtype: torch.dtype = torch.float32) -> Tensor:
    """Maps whose neighbours no rounding of float32 can change."""
    height, width = module.fcc.size
    for seed in range(100):
        x = seeded(n, module.fcc.channels, height, width, seed=seed, dtype=dtype)
        features = ref.fcc(ref.sub(state(module, torch.float64), "fcc"), x.double(), training)
        if neighbour_gap(features, module.ccc.neighbors, module.ccc.variant) > 1e-5:
            return x
    raise AssertionError("no input with clear neighbours")


def reference_block(module: F5C) -> Callable[[dict[str, Tensor], Tensor], Tensor]:
    k, variant = module.ccc.neighbors, module.ccc.variant
    return lambda params, x: ref.f5c(params, x, k, variant, module.training)


HALF = (torch.bfloat16, torch.float16)
