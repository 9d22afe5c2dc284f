"""Optical flow between grey images by TV-L1, batched, on CPU and GPU.

The duality-based method of Zach, Pock and Bischof ("A Duality Based Approach for Realtime TV-L1 Optical Flow", DAGM
2007), coarse to fine, with the discrete operators of Sanchez Perez, Meinhardt-Llopis and Facciolo ("TV-L1 Optical Flow
Estimation", Image Processing On Line 3, 2013). Let u0 be the flow of a warp, g the gradient of the warped image, and
rho(u) = next(x + u0) + g . (u - u0) - previous. The method minimises the sum over pixels of

    |grad u_x| + |grad u_y| + lambda |rho(v)| + |u - v|^2 / (2 theta)

alternately over v (in closed form, by thresholding rho) and over u (by steps on its dual p, stored as q = theta p).

Images are not smoothed before downsampling, and the flow is not median filtered. No pair sees another one and the
number of iterations is fixed, so the flow of a pair is bit-identical alone and in any batch. On a CPU, numba compiles
the work where it is installed; without it, PyTorch's operators give the same flow up to rounding.
"""

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from mol_fast.tvl1 import tensors
from mol_fast.tvl1.scheme import Scheme

_SMALLEST = 16  # pixels; shortest side of an image and of a level of the pyramid


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

    Returns:
        float32 (B, 2, H, W) in pixels, channel 0 along x, 1 along y.

    Raises:
        ValueError: an argument has a wrong shape, type, device or range, or non-finite values.
    """
    scheme = Scheme(levels, factor, warps, iterations, tau, lambda_, theta)
    _check_images(previous, next)
    pyramid = [(previous.detach()[:, None].float(), next.detach()[:, None].float())]
    if not len(previous):
        return torch.cat(pyramid[0], dim=1)
    for size in _sizes(previous.shape[1:], scheme):
        pyramid.append((_resize(pyramid[-1][0], size), _resize(pyramid[-1][1], size)))
    refine = _refinement(previous.device)
    u = torch.zeros_like(torch.cat(pyramid[-1], dim=1))
    for before, after in reversed(pyramid):
        stack = torch.cat([after, *_central_gradient(after)], dim=1)
        u = refine(_enlarge(u, after.shape[-2:]), before, stack, scheme)
    return u


def _refinement(device: torch.device) -> Callable[[Tensor, Tensor, Tensor, Scheme], Tensor]:
    """Return what runs the warps of a level: code that numba compiles on a CPU, if it is installed, else PyTorch."""
    if device.type != "cpu":
        return tensors.refine
    try:
        from mol_fast.tvl1 import compiled
    except ImportError:  # of numba: not installed, or older than this NumPy
        return tensors.refine
    return compiled.refine


def _sizes(size: torch.Size, scheme: Scheme) -> Iterator[torch.Size]:
    """Yield height and width of the levels of the pyramid, without the finest."""
    for _ in range(scheme.levels - 1):
        size = torch.Size(round(side * scheme.factor) for side in size)
        if min(size) < _SMALLEST:
            return
        yield size


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
