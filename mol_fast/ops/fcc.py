"""FCC in batched PyTorch.

Shapes: N maps, C channels of H x W, D = H W, G statistics groups (map n belongs to group n mod G).
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor


class FCCBranch(NamedTuple):
    """Parameters of a branch of FCC with c channels. L1 and L2 are the lengths of its two convolutions.

    Branch `vh` has L1 = H and L2 = W; branch `hv` has L1 = W and L2 = H.
    """

    kernel1: Tensor  # (c, L1)
    pos1: Tensor  # (c, L1)
    bias1: Tensor  # (c,)
    kernel2: Tensor  # (c, L2)
    pos2: Tensor  # (c, L2)
    bias2: Tensor  # (c,)
    weight: Tensor  # (c,), batch normalisation
    bias: Tensor  # (c,), batch normalisation


def circulant(kernel: Tensor) -> Tensor:
    """Return matrices `A (C, L, L)` of circular convolutions by `kernel (C, L)`: (A u)_i = sum_s kernel_s u_(i+s)."""
    channels, length = kernel.shape
    # A[i, m] = kernel[(m - i) mod L]. Without the last column, the rows of A in sequence repeat the kernel.
    first = kernel.repeat(1, length - 1).view(channels, length, length - 1)
    return torch.cat([first, kernel.flip(1)[:, :, None]], dim=2)


def batch_statistics(x: Tensor, vh_pos: Tensor, hv_pos: Tensor, groups: int) -> tuple[Tensor, Tensor]:
    """Return mean and biased variance `(G, C)` of x plus the positions of the two halves."""
    frames, positions = x.unflatten(0, (-1, groups)), _halves(vh_pos, hv_pos, *x.shape[2:])
    mean = _mean(frames, positions)
    return mean, _over_maps(_centred(frames, positions, mean).square())


def _halves(rows: Tensor, columns: Tensor, height: int, width: int) -> Tensor:
    """Return maps `(C, H, W)`: `rows (C/2, H)` repeated along W, then `columns (C/2, W)` repeated along H."""
    return torch.cat([rows[:, :, None].expand(-1, -1, width), columns[:, None, :].expand(-1, height, -1)])


def _over_maps(frames: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """Return the mean `(G, C)` of `frames (N / G, G, C, H, W)`, map by map: one long sum would lose two digits."""
    return frames.mean(dim=(3, 4), dtype=dtype).mean(dim=0)


def _mean(frames: Tensor, positions: Tensor) -> Tensor:
    return _over_maps(frames, positions.dtype) + positions.mean(dim=(1, 2))


def _centred(frames: Tensor, positions: Tensor, mean: Tensor) -> Tensor:
    """Return frames plus positions minus mean, in the precision of the positions (float32 or better)."""
    return frames + (positions - mean[:, :, None, None])


class _Normalise(torch.autograd.Function):
    """Batch-normalise frames plus positions `(C, H, W)`; also return mean and biased variance `(G, C)`.

    Autograd of these steps would need several times the memory traffic. `bias` gets no gradient.
    """

    @staticmethod
    def forward(
        frames: Tensor, positions: Tensor, weight: Tensor, bias: Tensor, eps: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        mean = _mean(frames, positions)
        centred = _centred(frames, positions, mean)
        var = _over_maps(centred.square())
        scale = weight * torch.rsqrt(var + eps)
        return centred * scale[:, :, None, None] + bias[:, None, None], mean, var

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
        frames, positions, weight, _, ctx.eps = inputs
        ctx.save_for_backward(frames, positions, weight, *output[1:])

    @staticmethod
    def backward(ctx: Any, grad: Tensor, d_mean: Tensor, d_var: Tensor) -> tuple[Tensor | None, ...]:
        frames, positions, weight, mean, var = ctx.saved_tensors
        count = frames[:, 0, 0].numel()
        centred = _centred(frames, positions, mean)
        deviation = torch.rsqrt(var + ctx.eps)
        scale = weight * deviation
        along, total = _over_maps(grad * centred), _over_maps(grad)
        d_mean = d_mean / count - total * scale
        d_var = 2 * d_var / count - along * scale * deviation.square()
        d_frames = centred * d_var[:, :, None, None] + d_mean[:, :, None, None] + grad * scale[:, :, None, None]
        return d_frames, d_frames.sum(dim=(0, 1)), count * (along * deviation).sum(dim=0), None, None


def _normalise(
    frames: Tensor, vh: FCCBranch, hv: FCCBranch, mean: Tensor | None, var: Tensor | None, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Batch-normalise frames plus first positions; also return the mean and variance `(G, C)` that were used.

    The biases get their gradient in `_constant`, not here.
    """
    positions = _halves(vh.pos1, hv.pos1, *frames.shape[3:])
    weight, bias = torch.cat([vh.weight, hv.weight]), torch.cat([vh.bias, hv.bias]).detach()
    if mean is None or var is None:
        if frames.numel():
            return _Normalise.apply(frames, positions, weight, bias, eps)
        mean, var = (positions.new_full(frames.shape[1:3], value) for value in (0.0, 1.0))
    mean, var = mean.to(positions.dtype), var.to(positions.dtype)
    scale = weight * torch.rsqrt(var + eps)
    return _centred(frames, positions, mean) * scale[:, :, None, None] + bias[:, None, None], mean, var


def _constant(branch: FCCBranch) -> Tensor:
    """Return the constant `(C/2,)` that the biases of a branch add to every cell of a plane.

    The planes already include the bias of the normalisation. Only its gradient is computed here, because rounding of
    single cells in half precision would disturb it there.
    """
    bias = branch.bias - branch.bias.detach()
    return (bias * branch.kernel1.sum(dim=1) + branch.bias1) * branch.kernel2.sum(dim=1) + branch.bias2


def fcc(
    x: Tensor, vh: FCCBranch, hv: FCCBranch, mean: Tensor | None, var: Tensor | None, groups: int, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Compute FCC as x + A Z B^T + Y; see `mol_fast.functional.fcc`.

    Z is x plus the first positions, normalised. Y does not depend on x: it is the second positions through the second
    kernel, plus bias1 sum(kernel2) + bias2.
    """
    exact = torch.promote_types(x.dtype, torch.float32)
    vh, hv = (FCCBranch(*(p.to(exact) for p in branch)) for branch in (vh, hv))
    z, mean, var = _normalise(x.unflatten(0, (x.shape[0] // groups, groups)), vh, hv, mean, var, eps)
    return _convolve(x, z.flatten(0, 1), vh, hv), mean, var


def fcc_normalised(x: Tensor, z: Tensor, vh: tuple[Tensor, ...], hv: tuple[Tensor, ...]) -> Tensor:
    """Compute FCC from maps `z (N, C, H, W)` that layers have normalised, and the first six tensors of each branch."""
    exact = torch.promote_types(x.dtype, torch.float32)
    none = x.new_zeros(x.shape[1] // 2, dtype=exact)
    first, second = (FCCBranch(*[p.to(exact) for p in branch] + [none, none]) for branch in (vh, hv))
    return _convolve(x, z, first, second)


def _convolve(x: Tensor, z: Tensor, vh: FCCBranch, hv: FCCBranch) -> Tensor:
    """Return x + A Z B^T + Y from maps z `(N, C, H, W)`."""
    half, (n, c, h, w) = vh.kernel1.shape[0], x.shape
    a = circulant(torch.cat([vh.kernel1, hv.kernel2]))
    b = circulant(torch.cat([vh.kernel2, hv.kernel1])).transpose(1, 2)
    planes = z.permute(1, 2, 0, 3).to(x.dtype, memory_format=torch.contiguous_format)  # (C, H, N, W)
    y = torch.bmm(a.to(x.dtype), planes.reshape(c, h, n * w)).view(c, h * n, w)
    y = torch.bmm(y, b.to(x.dtype)).view(c, h, n, w)
    columns = torch.bmm(vh.pos2[:, None], b[:half]) + _constant(vh)[:, None, None]
    rows = torch.bmm(a[half:], hv.pos2[:, :, None]) + _constant(hv)[:, None, None]
    second = torch.cat([columns.expand(-1, h, -1), rows.expand(-1, -1, w)]).to(x.dtype)
    return (x + y.permute(2, 0, 1, 3)).add_(second)
