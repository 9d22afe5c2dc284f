"""Batch normalisation of one call. The official network makes one call per frame."""

import torch
from torch import Tensor

from .params import Params

EPS = 1e-5
MOMENTUM = 0.1


def batch_norm(params: Params, x: Tensor, training: bool) -> Tensor:
    """Normalise each channel of `x (N, C, H, W)`, in training with statistics of `x`.

    Training also updates the running statistics in `params` in place: the mean, and the unbiased variance.
    """
    if training:
        mean = x.mean(dim=(0, 2, 3))
        var = ((x - mean[:, None, None]) ** 2).mean(dim=(0, 2, 3))
        count = x.numel() // x.shape[1]
        with torch.no_grad():
            params["running_mean"].mul_(1 - MOMENTUM).add_(MOMENTUM * mean)
            params["running_var"].mul_(1 - MOMENTUM).add_(MOMENTUM * var * count / (count - 1))
            params["num_batches_tracked"].add_(1)
    else:
        mean, var = params["running_mean"], params["running_var"]
    normal = (x - mean[:, None, None]) / torch.sqrt(var[:, None, None] + EPS)
    return params["weight"][:, None, None] * normal + params["bias"][:, None, None]
