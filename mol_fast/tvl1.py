"""Optical flow between grey images by TV-L1, batched, on CPU and GPU.

The duality-based method of Zach, Pock and Bischof ("A Duality Based Approach for Realtime TV-L1 Optical Flow", DAGM
2007), coarse to fine, with the discrete operators of Sanchez Perez, Meinhardt-Llopis and Facciolo ("TV-L1 Optical Flow
Estimation", Image Processing On Line 3, 2013). Let u0 be the flow of a warp, g the gradient of the warped image, and
rho(u) = next(x + u0) + g . (u - u0) - previous. The method minimises the sum over pixels of

    |grad u_x| + |grad u_y| + lambda |rho(v)| + |u - v|^2 / (2 theta)

alternately over v (in closed form, by thresholding rho) and over u (by steps on its dual p, stored as q = theta p).

Images are not smoothed before downsampling, and the flow is not median filtered. Every operation is elementwise over
the batch and the number of iterations is fixed, so the flow of a pair is bit-identical alone and in any batch.
"""

import functools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

_SMALLEST = 16  # pixels; shortest side of an image and of a level of the pyramid
_CHUNK = {"cpu": 1 << 17, "cuda": 1 << 24}  # pixels processed at once: they fit a CPU's cache, and keep a GPU busy


@torch.no_grad()
def flow(
    previous: Tensor,
    next: Tensor,
    *,
    levels: int = 5,
    factor: float = 0.8,
    warps: int = 5,
    iterations: int = 20,
    tau: float = 0.25,
    lambda_: float = 0.15,
    theta: float = 0.3,
    compile: bool = False,
) -> Tensor:
    """Estimate the flow from `previous` to `next`: previous(x) appears at x + flow(x) in next.

    Args:
        previous, next: grey images (B, H, W), 0..255, of any real dtype, on one device.
        levels: number of levels of the pyramid; levels with a side under 16 pixels are omitted.
        factor: size of a level / size of the next finer level.
        warps: number of warps of `next` per level.
        iterations: number of iterations per warp. It is fixed; other programs stop if the flow changes little.
        tau: step size of the dual variable; above 0.25 the method may diverge.
        lambda_: weight of the difference in grey levels against the flow's total variation; less is smoother.
        theta: coupling of the two halves of the alternation; larger values let them differ more.
        compile: run the iterations through `torch.compile`. This takes seconds once per process, needs a C++ compiler
            on a CPU (Triton on a GPU), and gives the same flow up to rounding.

    Returns:
        float32 (B, 2, H, W) in pixels, channel 0 along x, 1 along y.

    Raises:
        ValueError: an argument has a wrong shape, type, device or range, or non-finite values.
    """
    scheme = _Scheme(levels, factor, warps, iterations, tau, lambda_, theta)
    _check_images(previous, next)
    pyramid = [(previous[:, None].float(), next[:, None].float())]
    if not len(previous):
        return torch.cat(pyramid[0], dim=1)
    for size in _sizes(previous.shape[1:], scheme):
        pyramid.append((_resize(pyramid[-1][0], size), _resize(pyramid[-1][1], size)))
    u = torch.zeros_like(torch.cat(pyramid[-1], dim=1))
    for images in reversed(pyramid):
        u = _refine(u, *images, scheme, compile)
    return u


@dataclass(frozen=True)
class _Scheme:
    levels: int
    factor: float
    warps: int
    iterations: int
    tau: float
    lambda_: float
    theta: float

    def __post_init__(self) -> None:
        for name in ("levels", "warps", "iterations"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        for name in ("tau", "lambda_", "theta"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be positive and finite, not {getattr(self, name)}")
        if not 0 < self.factor < 1:
            raise ValueError(f"factor must be between 0 and 1, not {self.factor}")


class _State(NamedTuple):
    """The flow u and the dual q = theta p, each (B, 2, H, W); q_x for derivatives along x, q_y for those along y."""

    u: Tensor
    q_x: Tensor
    q_y: Tensor


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


_Step = Callable[[_State, _Data, float, float], _State]
"""The compiled form of an iteration; `_Iterations` is the eager one."""


class _Iterations:
    """The iterations of `_step`, bit for bit, in place: buffers are made once for all warps of a level.

    The dual has a border of zeros before the first and behind the last pixel, so that its divergence needs no copies.

    Attributes:
        u: the flow (B, 2, H, W), which changes in place.
    """

    def __init__(self, u: Tensor) -> None:
        b, _, height, width = u.shape
        self.u = u
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


def _sizes(size: torch.Size, scheme: _Scheme) -> Iterator[torch.Size]:
    """Yield height and width of the levels of the pyramid, without the finest."""
    for _ in range(scheme.levels - 1):
        size = torch.Size(round(side * scheme.factor) for side in size)
        if min(size) < _SMALLEST:
            return
        yield size


def _refine(u: Tensor, previous: Tensor, next: Tensor, scheme: _Scheme, compile: bool) -> Tensor:
    """Return the flow (B, 2, H, W) of one level from the flow of the next coarser one, chunk by chunk."""
    pairs = max(1, _CHUNK.get(next.device.type, _CHUNK["cuda"]) // (next.shape[-2] * next.shape[-1]))
    chunks = zip(u.split(pairs), previous.split(pairs), next.split(pairs), strict=True)
    return torch.cat([_refine_chunk(*chunk, scheme, compile) for chunk in chunks])


def _refine_chunk(u: Tensor, previous: Tensor, next: Tensor, scheme: _Scheme, compile: bool) -> Tensor:
    """Run all warps of a level. The dual variable is kept between warps."""
    u = _enlarge(u, next.shape[-2:])
    stack = torch.cat([next, *_central_gradient(next)], dim=1)
    damping = scheme.tau / scheme.theta
    if compile:
        step, state = _compiled_step(), _State(u, torch.zeros_like(u), torch.zeros_like(u))
        for _ in range(scheme.warps):
            data = _linearise(state.u, previous, _warp(stack, state.u), scheme.lambda_ * scheme.theta)
            for _ in range(scheme.iterations):
                state = step(state, data, scheme.tau, damping)
        return state.u
    iterate = _Iterations(u)
    for _ in range(scheme.warps):
        data = _linearise(u, previous, _warp(stack, u), scheme.lambda_ * scheme.theta)
        for _ in range(scheme.iterations):
            iterate(data, scheme.tau, damping)
    return u


def _linearise(u: Tensor, previous: Tensor, warped: Tensor, reach: float) -> _Data:
    """Linearise the difference in grey levels around u.

    `warped` (B, 3, H, W) is the warped image and its gradient. v moves by at most `reach` |g|, reach = lambda theta.
    """
    image, gradient = warped[:, :1], warped[:, 1:]
    constant = image - gradient[:, :1] * u[:, :1] - gradient[:, 1:] * u[:, 1:] - previous
    # If g is 0, `pull` is 0 and v = u whatever the quotient is.
    scale = (reach * (gradient[:, :1].square() + gradient[:, 1:].square())).clamp(min=1e-9).reciprocal().neg()
    return _Data(gradient * reach, constant * scale, gradient * scale)


def _step(state: _State, data: _Data, tau: float, damping: float) -> _State:
    """Iterate once: v, then u = v + div q, then q = (q + tau grad u) / (1 + damping |grad u|), damping = tau / theta.

    The divergence uses backward differences, zero beyond the border. The gradient uses forward differences, zero on it.
    """
    u, q_x, q_y = state
    threshold = torch.addcmul(data.offset, data.slope[:, :1], u[:, :1]).addcmul_(data.slope[:, 1:], u[:, 1:])
    u = torch.addcmul(u, data.pull, threshold.clamp_(-1, 1)).add_(q_x).add_(q_y)
    u = u.sub_(F.pad(q_x[..., :-1], (1, 0))).sub_(F.pad(q_y[..., :-1, :], (0, 0, 1, 0)))
    d_x, d_y = torch.diff(u, dim=-1, append=u[..., -1:]), torch.diff(u, dim=-2, append=u[..., -1:, :])
    divisor = (d_x * d_x).addcmul_(d_y, d_y).sqrt_().mul_(damping).add_(1)
    return _State(u, d_x.mul_(tau).add_(q_x).div_(divisor), d_y.mul_(tau).add_(q_y).div_(divisor))


@functools.cache
def _compiled_step() -> _Step:
    return torch.compile(_step, dynamic=True)


def _warp(images: Tensor, u: Tensor) -> Tensor:
    """Sample images (B, C, H, W) at x + u, bicubic; outside, border pixels are repeated."""
    height, width = images.shape[-2:]
    x = torch.arange(width, device=u.device) + u[:, 0]
    y = torch.arange(height, device=u.device)[:, None] + u[:, 1]
    grid = torch.stack([(2 * x + 1) / width - 1, (2 * y + 1) / height - 1], dim=-1)
    return F.grid_sample(images, grid, mode="bicubic", padding_mode="border", align_corners=False)


def _central_gradient(image: Tensor) -> tuple[Tensor, Tensor]:
    """Return the gradient of an image (B, 1, H, W) along x and y."""
    padded = F.pad(image, (1, 1, 1, 1), mode="replicate")
    across, down = padded[..., 1:-1, :], padded[..., 1:-1]
    return (across[..., 2:] - across[..., :-2]) / 2, (down[..., 2:, :] - down[..., :-2, :]) / 2


def _resize(images: Tensor, size: torch.Size) -> Tensor:
    return F.interpolate(images, size, mode="bilinear", align_corners=False)


def _enlarge(u: Tensor, size: torch.Size) -> Tensor:
    """Resize the flow of the next coarser level to `size`, in pixels of the new level."""
    growth = u.new_tensor([size[1] / u.shape[-1], size[0] / u.shape[-2]])
    return _resize(u, size) * growth.view(2, 1, 1)


def _check_images(previous: Tensor, next: Tensor) -> None:
    for name, images in (("previous", previous), ("next", next)):
        if images.dim() != 3:
            raise ValueError(f"{name} must be (B, H, W), not {tuple(images.shape)}")
        if images.dtype == torch.bool or images.is_complex():
            raise ValueError(f"{name} must hold grey levels of 0..255, not {images.dtype}")
        if min(images.shape[1:]) < _SMALLEST:
            raise ValueError(f"{name} must have sides of at least {_SMALLEST} pixels, not {tuple(images.shape[1:])}")
    if next.shape != previous.shape:
        raise ValueError(f"next must have the shape of previous, {tuple(previous.shape)}, not {tuple(next.shape)}")
    if next.device != previous.device:
        raise ValueError(f"next must be on the device of previous, {previous.device}, not {next.device}")
    for name, images in (("previous", previous), ("next", next)):
        if not images.isfinite().all():
            raise ValueError(f"{name} has values that are not finite")
