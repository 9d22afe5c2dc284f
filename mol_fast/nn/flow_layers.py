"""Layers of the flow head: convolutions, transposed convolutions, and the flow predictor of a level."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from mol_fast.nn import layout
from mol_fast.nn.norm import FrameBatchNorm2d, HoldsNorm, normalise
from mol_fast.nn.plain import is_plain

SLOPE = 0.1


class Conv(HoldsNorm):
    """Convolution without bias, then batch normalisation and LeakyReLU. Both are called if they are not plain."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, (kernel - 1) // 2, bias=False)
        self.norm: FrameBatchNorm2d | None = FrameBatchNorm2d(outputs)
        self._geometry = _geometry(self.conv)

    def plain(self) -> bool:
        """Return True if the convolution is as it was made, so that its weights may be read instead of calling it."""
        return is_plain(self.conv, nn.Conv2d) and _geometry(self.conv) == self._geometry

    def forward(self, x: Tensor, calls: Sequence[int], weight: Tensor | None = None) -> Tensor:
        """Apply the layer.

        Args:
            x: the input.
            calls: see `FrameBatchNorm2d.forward`.
            weight: replaces the weight of a plain convolution, when input channels are omitted because they are zero.
        """
        conv, norm = self.conv, self.norm
        plain = self.plain()
        if plain:
            weight = conv.weight if weight is None else weight
            x = _convolve(x, weight, conv.bias, conv.stride[0], int(conv.padding[0]))
        else:
            x = conv(x)
        if norm is None:
            return leaky_relu(x, overwrite=plain)
        return leaky_relu(normalise(norm, x, calls), overwrite=is_plain(norm, FrameBatchNorm2d))

    @torch.no_grad()
    def fold(self) -> None:
        """Fold the batch normalisation of evaluation into the convolution, which gets a bias.

        Does nothing if one of both is not as it was made, or has no weight or statistics of its own.
        """
        conv, norm = self.conv, self.norm
        if norm is None or not (self.plain() and is_plain(norm, FrameBatchNorm2d)) or conv.bias is not None:
            return
        if conv._parameters.get("weight") is None or norm.running_mean is None or norm.bias is None:
            return
        mean, var = (value.double() for value in norm.running())
        scale = norm.weight.double() * torch.rsqrt(var + norm.eps)
        shift = norm.bias.double() - mean * scale
        weight = conv.weight
        weight.copy_(weight.double() * scale[:, None, None, None])
        conv.bias = nn.Parameter(shift.to(weight.dtype), requires_grad=weight.requires_grad)
        self.norm = None


def _geometry(conv: nn.Conv2d) -> tuple[object, ...]:
    return conv.kernel_size, conv.stride, conv.padding, conv.dilation, conv.groups, conv.padding_mode


class Deconv(nn.ConvTranspose2d):
    """Transposed convolution without bias, which doubles the size of a map."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, 4, 2, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        height, width = x.shape[2:]
        if height * width > few_cells(x):
            return super().forward(x)
        rows = x.permute(0, 2, 3, 1).flatten(0, 2) @ self.weight.permute(0, 2, 3, 1).flatten(1)
        # Tap 2 a + r of the kernel maps cell y to row 2 (y + a) + r; the result starts at row 1.
        taps = rearrange(rows, "(n y x) (a r b s c) -> a b n y r x s c", y=height, x=width, a=2, b=2, r=2, s=2)
        wide = torch.stack(
            [F.pad(taps[a, b], (0, 0, 0, 0, b, 1 - b, 0, 0, a, 1 - a)) for a in range(2) for b in range(2)]
        ).sum(dim=0)
        return rearrange(wide, "n y r x s c -> n c (y r) (x s)")[:, :, 1:-1, 1:-1]


class _LeakyReLU(torch.autograd.Function):
    """LeakyReLU for the compiler, which would otherwise keep a mask of booleans for the backward pass.

    On a CPU, writing and reading that mask takes longer than everything else between two convolutions.
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


def leaky_relu(x: Tensor, overwrite: bool) -> Tensor:
    """Apply the LeakyReLU of the flow head. It may overwrite `x` if that is allowed: hooks may hold `x`."""
    if torch.compiler.is_compiling() and not layout.on_gpu(x):
        y: Tensor = _LeakyReLU.apply(x)
        return y
    return F.leaky_relu(x, SLOPE, inplace=overwrite)


def few_cells(x: Tensor) -> int:
    """Return the largest map, in cells, for which a convolution of `x` runs as one matrix product.

    For such small maps, most of the time is spent reading weights. On a CPU, products win up to larger maps in half
    precision. A GPU gets 0: its convolutions are products already.
    """
    if layout.on_gpu(x):
        return 0
    return 16 if x.dtype in (torch.bfloat16, torch.float16) else 4


def _convolve(x: Tensor, weight: Tensor, bias: Tensor | None, stride: int, padding: int) -> Tensor:
    """Convolve in 2-D; small maps as one matrix product."""
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


LARGE = 16
"""Fewest rows and columns of a map for predicting four cells at once."""


class Predict(nn.Conv2d):
    """Predictor of flow `(N, 2, H, W)` from maps `(N, inputs, H, W)`, which may come in parts: a 3x3 convolution.

    Two output channels leave most SIMD lanes of a CPU idle, so a CPU computes this convolution and its gradients in
    other ways. There, a non-finite value may reach one cell further than in a plain convolution, and forward-mode
    derivatives raise an error if gradients are required, too.
    """

    def __init__(self, inputs: int) -> None:
        super().__init__(inputs, 2, 3, padding=1, bias=False)

    def forward(self, x: Tensor, beside: Tensor | None = None, before: int = 0) -> Tensor:
        """Predict flow.

        Args:
            x: the maps.
            beside: further maps with few channels. Concatenating them with `x` at full size would take about as long
                as the prediction.
            before: number of channels of `beside` whose weights come before those of `x`; the others come after.
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
    # Predict 2 x 2 cells at once, by a convolution of stride 2 whose kernel holds this one at four places.
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
        """Compute gradients as products with the 18 output gradients (2 channels, 9 places) of every cell of x."""
        x, weight = (saved.to(grad.dtype) for saved in ctx.saved_tensors)  # under autocast dtypes may differ
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
