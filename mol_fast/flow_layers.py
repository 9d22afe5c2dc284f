"""The layers of the flow head: convolutions down and transposed convolutions up."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from mol_fast import layout
from mol_fast.norm import FrameBatchNorm2d

SLOPE = 0.1


class Conv(nn.Module):
    """Convolution without bias, batch normalisation, LeakyReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, (kernel - 1) // 2, bias=False)
        self.norm: FrameBatchNorm2d | None = FrameBatchNorm2d(outputs)

    def forward(self, x: Tensor, calls: Sequence[int], weight: Tensor | None = None) -> Tensor:
        """`weight`: in place of the layer's own, for input channels that are left out because they are zero."""
        weight = self.conv.weight if weight is None else weight
        x = _convolve(x, weight, self.conv.bias, self.conv.stride[0], int(self.conv.padding[0]))
        return leaky_relu(x if self.norm is None else self.norm(x, calls))

    @torch.no_grad()
    def fold(self) -> None:
        """Put the batch normalisation of evaluation into the convolution, which gets a bias for it."""
        if self.norm is None:
            return
        mean, var = (value.double() for value in self.norm.running())
        scale = self.norm.weight.double() * torch.rsqrt(var + self.norm.eps)
        shift = self.norm.bias.double() - mean * scale
        weight = self.conv.weight
        weight.copy_(weight.double() * scale[:, None, None, None])
        self.conv.bias = nn.Parameter(shift.to(weight.dtype), requires_grad=weight.requires_grad)
        self.norm = None


class Deconv(nn.ConvTranspose2d):
    """Transposed convolution without bias that doubles the size of a map."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, 4, 2, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        height, width = x.shape[2:]
        if height * width > few_cells(x):
            return super().forward(x)
        rows = x.permute(0, 2, 3, 1).flatten(0, 2) @ self.weight.permute(0, 2, 3, 1).flatten(1)
        # Tap 2 a + r of the kernel goes from cell y to place 2 (y + a) + r, one more than its place in the result.
        taps = rearrange(rows, "(n y x) (a r b s c) -> a b n y r x s c", y=height, x=width, a=2, b=2, r=2, s=2)
        wide = torch.stack(
            [F.pad(taps[a, b], (0, 0, 0, 0, b, 1 - b, 0, 0, a, 1 - a)) for a in range(2) for b in range(2)]
        ).sum(dim=0)
        return rearrange(wide, "n y r x s c -> n c (y r) (x s)")[:, :, 1:-1, 1:-1]


class _LeakyReLU(torch.autograd.Function):
    """For the compiler, which otherwise keeps a mask of booleans for the backward pass.

    On a CPU it takes longer to write and read one than for all else between two convolutions.
    """

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return F.leaky_relu(x, SLOPE)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.save_for_backward(output)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (output,) = ctx.saved_tensors
        return grad * (SLOPE + (1 - SLOPE) * output.sign().clamp_min(0))


def leaky_relu(x: Tensor) -> Tensor:
    """LeakyReLU of the flow head; `x` may be overwritten."""
    if torch.compiler.is_compiling() and not layout.on_gpu(x):
        y: Tensor = _LeakyReLU.apply(x)
        return y
    return F.leaky_relu(x, SLOPE, inplace=True)


def few_cells(x: Tensor) -> int:
    """Cells of a map up to which a convolution of `x` is one matrix product.

    Most of the time goes there into reading weights. In half precision, products on a CPU are ahead for longer. A GPU
    makes a product of any convolution by itself, without the operators that lay it out.
    """
    if layout.on_gpu(x):
        return 0
    return 16 if x.dtype in (torch.bfloat16, torch.float16) else 4


def _convolve(x: Tensor, weight: Tensor, bias: Tensor | None, stride: int, padding: int) -> Tensor:
    """2-D convolution; to few cells as one matrix product."""
    side = weight.shape[2]
    height, width = ((size + 2 * padding - side) // stride + 1 for size in x.shape[2:])
    if height * width > few_cells(x):
        return F.conv2d(x, weight, bias, stride, padding)
    cells = F.pad(x, (padding,) * 4).permute(0, 2, 3, 1)
    rows = torch.cat(
        [
            cells[:, ky : ky + stride * height : stride, kx : kx + stride * width : stride]
            for ky in range(side)
            for kx in range(side)
        ],
        dim=3,
    )
    return F.linear(rows, weight.permute(0, 2, 3, 1).flatten(1), bias).permute(0, 3, 1, 2)
