"""Where tensors lie, and what follows from it for the order of their elements."""

import torch
from torch import Tensor, nn

CHANNELS = 8
"""A GPU's fast convolutions in half precision take channels in multiples of this."""


def on_gpu(x: Tensor) -> bool:
    """Whether `x` is where convolutions are fast whatever their channels, and operators cost a launch each."""
    return x.device.type != "cpu"


def padded(channels: int) -> int:
    """The next multiple of `CHANNELS`."""
    return channels + -channels % CHANNELS


def channels_last(module: nn.Module) -> None:
    """Put the weights of the convolutions of `module` in that order, which their results then have, too.

    That of a convolution of single cells is in both orders. One with a single input channel is, too, and is copied all
    the same, so that its strides say which order is meant.
    """
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    for parameter in module.parameters():
        if parameter.dim() in formats and max(parameter.shape[2:]) > 1:
            parameter.data = parameter.data.clone(memory_format=formats[parameter.dim()])
