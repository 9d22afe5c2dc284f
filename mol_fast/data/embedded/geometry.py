"""Plane geometry of the embedded set: similarities, sampling, smooth warps.

Points are (x, y) in pixels. The centre of pixel (0, 0) is the point (0, 0).
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from mol_fast.vision.align import alignment


class Similarity(NamedTuple):
    """A map that rotates, scales and shifts points; batched over the leading dimensions.

    Attributes:
        matrix: (..., 2, 2).
        shift: (..., 2), in pixels.
    """

    matrix: Tensor
    shift: Tensor

    def __call__(self, points: Tensor) -> Tensor:
        """Map points (..., P, 2)."""
        return points @ self.matrix.mT + self.shift.unsqueeze(-2)

    def inverse(self) -> "Similarity":
        """Return the inverse map."""
        inverse = torch.linalg.inv(self.matrix)
        return Similarity(inverse, -(inverse @ self.shift.unsqueeze(-1)).squeeze(-1))


def similarity(scale: Tensor, angle: Tensor, center: Tensor, target: Tensor) -> Similarity:
    """Return the similarity that rotates by `angle` (radians), scales by `scale`, and maps `center` to `target`.

    Args:
        scale, angle: (...).
        center, target: (..., 2), in pixels.
    """
    cos, sin = scale * angle.cos(), scale * angle.sin()
    matrix = torch.stack([torch.stack([cos, -sin], -1), torch.stack([sin, cos], -1)], -2)
    return Similarity(matrix, target - (matrix @ center.unsqueeze(-1)).squeeze(-1))


def face_alignment(landmarks: Tensor) -> Similarity:
    """Return the similarity that maps a face with `landmarks` (68, 2) to its aligned frame of 144 pixels."""
    matrix = torch.from_numpy(alignment(landmarks.numpy()))
    return Similarity(matrix[:, :2], matrix[:, 2])


def pixel_grid(height: int, width: int) -> Tensor:
    """Return the points of all pixels, float64 (height * width, 2), row by row."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack([x, y], -1).reshape(-1, 2).double()


def sample(pictures: Tensor, points: Tensor, mode: str = "bilinear") -> Tensor:
    """Interpolate pictures (N, C, H, W) at points (N, P, 2). Returns (N, C, P).

    Points outside the picture get the nearest border pixel. `mode` is "bilinear" or "bicubic".
    """
    height, width = pictures.shape[-2:]
    grid = (points * points.new_tensor([2 / (width - 1), 2 / (height - 1)])).sub_(1).unsqueeze(1)
    return grid_sample(pictures, grid, mode=mode, padding_mode="border", align_corners=True).squeeze(2)


class SmoothWarp:
    """A thin-plate spline: the smoothest map of the plane that moves `sources` near `targets`.

    Source: Bookstein, "Principal warps: thin-plate splines and the decomposition of deformations", PAMI 1989.

    Args:
        sources, targets: (P, 2).
        stiffness: 0 hits the targets exactly; larger values bend less. In pixels squared.
    """

    def __init__(self, sources: Tensor, targets: Tensor, stiffness: float) -> None:
        count = len(sources)
        affine = torch.cat([torch.ones_like(sources[:, :1]), sources], 1)
        system = sources.new_zeros(count + 3, count + 3)
        system[:count, :count] = self._kernel(sources, sources) + stiffness * torch.eye(count)
        system[:count, count:] = affine
        system[count:, :count] = affine.T
        values = torch.cat([targets - sources, sources.new_zeros(3, 2)])
        self._sources = sources
        self._weights = torch.linalg.solve(system, values)

    def __call__(self, points: Tensor) -> Tensor:
        """Map points (P, 2)."""
        affine = torch.cat([torch.ones_like(points[:, :1]), points], 1)
        basis = torch.cat([self._kernel(points, self._sources), affine], 1)
        return points + basis @ self._weights

    def inverse(self, points: Tensor) -> Tensor:
        """Return the points (P, 2) that map to `points`, by fixed-point iteration. The warp must bend little."""
        result = points
        for _ in range(50):
            result = result - (self(result) - points)
        return result

    @staticmethod
    def _kernel(points: Tensor, centres: Tensor) -> Tensor:
        squared = torch.cdist(points, centres, compute_mode="use_mm_for_euclid_dist").square()
        return 0.5 * torch.xlogy(squared, squared)
