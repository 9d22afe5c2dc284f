"""FCC: the fully-connected convolution, a depthwise circular convolution as long as the map (transformer-style)."""

import torch
from torch import Tensor

from .norm import batch_norm
from .params import Params, sub


def circular_vertical(u: Tensor, kernel: Tensor) -> Tensor:
    """Compute y[n, ch, i, j] = sum_s kernel[ch, s] u[n, ch, (i + s) mod H, j], `u (N, c, H, W)`, `kernel (c, H)`."""
    height = u.shape[2]
    y = torch.zeros_like(u)
    for s in range(height):
        rows = [(i + s) % height for i in range(height)]
        y = y + kernel[:, s, None, None] * u[:, :, rows, :]
    return y


def circular_horizontal(u: Tensor, kernel: Tensor) -> Tensor:
    """Compute y[n, ch, i, j] = sum_s kernel[ch, s] u[n, ch, i, (j + s) mod W], `u (N, c, H, W)`, `kernel (c, W)`."""
    return circular_vertical(u.transpose(2, 3), kernel).transpose(2, 3)


def branch_vh(params: Params, x: Tensor, training: bool) -> Tensor:
    """Convolve vertically, then horizontally: position, norm, convolution, bias, position, convolution, bias."""
    u = batch_norm(sub(params, "norm"), x + params["pos1"][:, :, None], training)
    y = circular_vertical(u, params["kernel1"]) + params["bias1"][:, None, None] + params["pos2"][:, None, :]
    return circular_horizontal(y, params["kernel2"]) + params["bias2"][:, None, None]


def branch_hv(params: Params, x: Tensor, training: bool) -> Tensor:
    """Convolve horizontally, then vertically: like `branch_vh` with rows and columns exchanged."""
    u = batch_norm(sub(params, "norm"), x + params["pos1"][:, None, :], training)
    y = circular_horizontal(u, params["kernel1"]) + params["bias1"][:, None, None] + params["pos2"][:, :, None]
    return circular_vertical(y, params["kernel2"]) + params["bias2"][:, None, None]


def fcc(params: Params, x: Tensor, training: bool) -> Tensor:
    """Compute FCC(x) = x + [vh(first half of the channels), hv(second half)], `(N, C, H, W) -> (N, C, H, W)`."""
    half = x.shape[1] // 2
    vh = branch_vh(sub(params, "vh"), x[:, :half], training)
    hv = branch_hv(sub(params, "hv"), x[:, half:], training)
    return x + torch.cat([vh, hv], dim=1)
