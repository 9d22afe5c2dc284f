"""Flow from the maps of one level of the flow head's decoder: a 3x3 convolution to two channels.

Two outputs leave most lanes of a CPU's vectors idle, so this convolution and its gradients are computed in other ways
there.
"""

from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from mol_fast import layout

LARGE = 16
"""Rows and columns of a map from which four cells are predicted at once."""


class Predict(nn.Conv2d):
    """Flow `(N, 2, H, W)` from maps `(N, inputs, H, W)`, which may come in parts.

    A value that is not finite may reach one cell further than in a plain convolution. Derivatives in forward mode are
    refused where gradients are wanted.
    """

    def __init__(self, inputs: int) -> None:
        super().__init__(inputs, 2, 3, padding=1, bias=False)

    def forward(self, x: Tensor, beside: Tensor | None = None, before: int = 0) -> Tensor:
        """`beside`: maps of a few channels; the weight has `before` of them before those of x, and the others after.

        At full size it would take about as long to write and read all of them as one map.
        """
        if beside is None:
            return self._flow(x, self.weight)
        weights = self.weight.split([before, x.shape[1], beside.shape[1] - before], dim=1)
        few = torch.cat([weights[0], weights[2]], dim=1)
        return self._flow(x, weights[1]) + F.conv2d(beside, few, padding=1)

    def _flow(self, x: Tensor, weight: Tensor) -> Tensor:
        if layout.on_gpu(x):
            return F.conv2d(x, weight, padding=1)
        if not (torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad)):
            return _predict(x, weight)
        flow: Tensor = _Predict.apply(x, weight)
        return flow


def _predict(x: Tensor, weight: Tensor) -> Tensor:
    height, width = x.shape[2:]
    if min(height, width) < LARGE or height % 2 or width % 2:
        return F.conv2d(x, weight, padding=1)
    # Of four cells, 2 x 2, at once: a convolution of stride 2 whose kernel holds this one in four places.
    places = [F.pad(weight, (right, 1 - right, down, 1 - down)) for down in range(2) for right in range(2)]
    four = torch.stack(places, dim=1).flatten(0, 1).contiguous(memory_format=torch.channels_last)
    return rearrange(F.conv2d(x, four, stride=2, padding=1), "n (c a b) y x -> n c (y a) (x b)", a=2, b=2)


class _Predict(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, weight: Tensor) -> Tensor:
        return _predict(x, weight)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """As products with the 18 gradients, of two outputs at nine places, that every cell of x meets."""
        x, weight = (saved.to(grad.dtype) for saved in ctx.saved_tensors)  # under autocast they may have another
        n, inputs, height, width = x.shape
        wide = F.pad(grad.transpose(0, 1), (1, 1, 1, 1))
        places = [wide[:, :, i : i + height, j : j + width] for i in (2, 1, 0) for j in (2, 1, 0)]
        met = torch.stack(places, dim=1).flatten(2).flatten(0, 1)  # (18, N H W)
        d_x = d_weight = None
        if ctx.needs_input_grad[0]:
            taps = weight.permute(0, 2, 3, 1).flatten(0, 2)
            d_x = (met.t() @ taps).view(n, height, width, inputs).permute(0, 3, 1, 2)
        if ctx.needs_input_grad[1]:
            d_weight = (met @ x.permute(0, 2, 3, 1).flatten(0, 2)).view(2, 3, 3, inputs).permute(0, 3, 1, 2)
        return d_x, d_weight
