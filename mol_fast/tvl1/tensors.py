"""The warps and iterations of TV-L1 with PyTorch's operators, on any device, for many pairs at once."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from mol_fast.tvl1.scheme import Scheme

_CHUNK = {"cpu": 1 << 17, "cuda": 1 << 24}  # pixels processed at once: they fit a CPU's cache, and keep a GPU busy


def refine(u: Tensor, previous: Tensor, stack: Tensor, scheme: Scheme) -> Tensor:
    """Run all warps of a level, chunk by chunk. Every operation is elementwise over the pairs.

    Args:
        u: the flow (B, 2, H, W) from the next coarser level.
        previous: image (B, 1, H, W).
        stack: the next image and its gradient along x and y, (B, 3, H, W).
        scheme: the parameters.

    Returns:
        The flow of this level (B, 2, H, W).
    """
    pairs = max(1, _CHUNK.get(u.device.type, _CHUNK["cuda"]) // (u.shape[-2] * u.shape[-1]))
    chunks = zip(u.split(pairs), previous.split(pairs), stack.split(pairs), strict=True)
    return torch.cat([_refine_chunk(*chunk, scheme) for chunk in chunks])


def _refine_chunk(u: Tensor, previous: Tensor, stack: Tensor, scheme: Scheme) -> Tensor:
    """Run all warps of a level. The dual variable is kept between warps."""
    iterate = _Iterations(u.clone())
    for _ in range(scheme.warps):
        data = _linearise(iterate.u, previous, _warp(stack, iterate.u), scheme.reach)
        for _ in range(scheme.iterations):
            iterate(data, scheme.tau, scheme.damping)
    return iterate.u


class _Data(NamedTuple):
    """The linearised difference in grey levels. Thresholding gives v = u + pull * clamp(offset + slope . u).

    Attributes:
        pull: (B, 2, H, W), lambda theta g.
        offset: (B, 1, H, W); offset + slope . u is -rho(u) / (lambda theta |g|^2).
        slope: (B, 2, H, W).
    """

    pull: Tensor
    offset: Tensor
    slope: Tensor


class _Iterations:
    """The iterations, in place: v, then u = v + div q, then q = (q + tau grad u) / (1 + damping |grad u|).

    The divergence uses backward differences, zero beyond the border. The gradient uses forward differences, zero on it.
    Buffers are made once for all warps of a level. The dual has a border of zeros before the first and behind the last
    pixel, so that its divergence needs no copies.

    Attributes:
        u: the flow (B, 2, H, W), which changes in place.
    """

    def __init__(self, u: Tensor) -> None:
        b, _, height, width = u.shape
        self.u = u
        # q_x for derivatives along x, q_y for those along y
        self._q_x, self._q_y = u.new_zeros(b, 2, height, width + 1), u.new_zeros(b, 2, height + 1, width)
        self._d_x, self._d_y, self._divisor = torch.zeros_like(u), torch.zeros_like(u), torch.empty_like(u)
        self._threshold = u.new_empty(b, 1, height, width)

    def __call__(self, data: _Data, tau: float, damping: float) -> None:
        u, d_x, d_y = self.u, self._d_x, self._d_y
        q_x, q_y = self._q_x[..., 1:], self._q_y[..., 1:, :]
        threshold = torch.addcmul(data.offset, data.slope[:, :1], u[:, :1], out=self._threshold)
        u.addcmul_(data.pull, threshold.addcmul_(data.slope[:, 1:], u[:, 1:]).clamp_(-1, 1)).add_(q_x).add_(q_y)
        u.sub_(self._q_x[..., :-1]).sub_(self._q_y[..., :-1, :])
        torch.sub(u[..., 1:], u[..., :-1], out=d_x[..., :-1])  # the last column of d_x and row of d_y stay 0
        torch.sub(u[..., 1:, :], u[..., :-1, :], out=d_y[..., :-1, :])
        divisor = torch.mul(d_x, d_x, out=self._divisor).addcmul_(d_y, d_y).sqrt_().mul_(damping).add_(1)
        torch.div(d_x.mul_(tau).add_(q_x), divisor, out=q_x)
        torch.div(d_y.mul_(tau).add_(q_y), divisor, out=q_y)


def _linearise(u: Tensor, previous: Tensor, warped: Tensor, reach: float) -> _Data:
    """Linearise the difference in grey levels around u. `warped` (B, 3, H, W) is the warped image and its gradient."""
    image, gradient = warped[:, :1], warped[:, 1:]
    constant = image - gradient[:, :1] * u[:, :1] - gradient[:, 1:] * u[:, 1:] - previous
    # If g is 0, `pull` is 0 and v = u whatever the quotient is.
    scale = (reach * (gradient[:, :1].square() + gradient[:, 1:].square())).clamp(min=1e-9).reciprocal().neg()
    return _Data(gradient * reach, constant * scale, gradient * scale)


def _warp(images: Tensor, u: Tensor) -> Tensor:
    """Sample images (B, C, H, W) at x + u, bicubic; outside, border pixels are repeated."""
    height, width = images.shape[-2:]
    x = torch.arange(width, device=u.device) + u[:, 0]
    y = torch.arange(height, device=u.device)[:, None] + u[:, 1]
    grid = torch.stack([(2 * x + 1) / width - 1, (2 * y + 1) / height - 1], dim=-1)
    return F.grid_sample(images, grid, mode="bicubic", padding_mode="border", align_corners=False)
