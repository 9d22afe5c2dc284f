"""Memory layout of tensors on CPU and GPU."""

import torch
from torch import Tensor, nn

CHANNELS = 8
"""Fast half-precision convolutions on a GPU need a multiple of this many channels."""


def on_gpu(x: Tensor) -> bool:
    """Return True if `x` is not on a CPU: then convolutions are fast for any channels, and operators cost a launch."""
    return x.device.type != "cpu"


def padded(channels: int) -> int:
    """Round `channels` up to a multiple of `CHANNELS`."""
    return channels + -channels % CHANNELS


def channels_last(module: nn.Module) -> None:
    """Store the weights of the convolutions in `module` channels last, so that their results are channels last, too.

    The weight of a 1x1 convolution has both layouts and is kept. A weight with one input channel has both, too, but is
    copied, so that its strides show the layout.
    """
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    for parameter in module.parameters():
        if parameter.dim() in formats and max(parameter.shape[2:]) > 1:
            parameter.data = parameter.data.clone(memory_format=formats[parameter.dim()])
