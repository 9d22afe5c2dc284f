"""Where tensors lie, and what follows from it for the order of their elements."""

from torch import Tensor


def on_gpu(x: Tensor) -> bool:
    """Whether `x` is where convolutions are fast whatever their channels, and operators cost a launch each."""
    return x.device.type != "cpu"
