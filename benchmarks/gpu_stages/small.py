"""Run an operator forward and backward on few maps, or the block at full size, under a tool that watches a process.

`python -m gpu_stages.small F5C|correlation|block`
"""

import sys

import torch

from gpu_stages.context import current, interpreter
from gpu_stages.layers import function, layer, randomise
from gpu_stages.problems import device
from mol_fast import F5C, functional
from mol_fast.checks.operators import SLOPE


def main(name: str) -> None:
    sizes = current().sizes
    dtype = getattr(torch, sizes.dtypes[0])
    if name == "block":
        asked = layer(sizes.layers[0], sizes.maps[0], True, sizes.dtypes[0])
        function(asked.module, "triton", asked.x, asked.gradient, dtype)[0]()
    else:
        n, c, h, w = sizes.small
        x = torch.randn(n, c, h, w, device=device(), dtype=dtype, requires_grad=True)
        if name == "F5C":
            module = F5C(c, (h, w), sizes.neighbors, backend="triton").to(device()).train()
            randomise(module)
            with torch.autocast(x.device.type, torch.bfloat16, enabled=dtype == torch.bfloat16):
                y = module(x)
            y.float().sum().backward()
        else:
            other = torch.randn_like(x).requires_grad_()
            functional.correlation(x, other, negative_slope=SLOPE, backend="triton").float().sum().backward()
        assert x.grad is not None
        assert torch.isfinite(x.grad).all(), "a gradient is not finite"
    if device().type == "cuda":
        torch.cuda.synchronize()
    print("done", name)


if __name__ == "__main__":
    with interpreter(current()):
        main(sys.argv[1])
