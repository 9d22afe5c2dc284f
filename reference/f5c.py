"""F5C, the block of the paper: FCC, then CCC, each with its residual."""

from torch import Tensor

from .ccc import ccc_official, ccc_paper
from .fcc import fcc
from .params import Params, sub


def f5c(params: Params, x: Tensor, k: int, variant: str, training: bool) -> Tensor:
    """Compute F5C(x) = CCC(FCC(x)), `(N, C, H, W) -> (N, C, H, W)`. `variant` is "paper" or "official"."""
    ccc = {"paper": ccc_paper, "official": ccc_official}[variant]
    return ccc(sub(params, "ccc"), fcc(sub(params, "fcc"), x, training), k)
