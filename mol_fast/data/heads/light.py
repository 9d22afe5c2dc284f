"""Light by spherical harmonics, with soft shadows.

Irradiance follows Ramamoorthi and Hanrahan, "An efficient representation for irradiance environment maps", 2001: nine
numbers describe the light. What the head hides from itself follows Sloan, Kautz and Snyder, "Precomputed radiance
transfer", 2002: nine numbers per vertex tell how much of each light reaches it; they are computed once, for the
average head.
"""

from functools import cache

import numpy as np
import torch

from mol_fast.data.heads.assets import PARTS, Array, load_head
from mol_fast.data.heads.identity import AVERAGE, phenotype_vertices
from mol_fast.data.heads.raster import Ints, draw

_DIRECTIONS = 160
_SIDE = 160  # samples of a picture of the head from one direction
_LIT_TEETH = 0.7  # share of the light that reaches teeth between open lips; by eye
_LOBES = np.array([np.pi, *[2 * np.pi / 3] * 3, *[np.pi / 4] * 5]) / np.pi  # a cosine, per band


def harmonics(directions: Array) -> Array:
    """Return the real spherical harmonics (..., 9) of bands 0 to 2 at unit vectors (..., 3)."""
    x, y, z = np.moveaxis(directions, -1, 0)
    bands = [
        *(np.full_like(x, 0.282095), 0.488603 * y, 0.488603 * z, 0.488603 * x),
        *(1.092548 * x * y, 1.092548 * y * z, 0.315392 * (3 * z * z - 1), 1.092548 * x * z),
        0.546274 * (x * x - y * y),
    ]
    return np.stack(bands, axis=-1)


def normals(points: Array, triangles: Ints) -> Array:
    """Return unit normals (n, V, 3) of the vertices of meshes (n, V, 3)."""
    from scipy.sparse import csr_array

    a, b, c = (points[:, triangles[:, k]] for k in range(3))
    faces = np.cross(b - a, c - a)
    rows, columns = triangles.T.reshape(-1), np.tile(np.arange(len(triangles)), 3)
    around = csr_array((np.ones(len(rows)), (rows, columns)), shape=(points.shape[1], len(triangles)))
    sums = around @ faces.transpose(1, 0, 2).reshape(len(triangles), -1)
    result = sums.reshape(points.shape[1], len(points), 3).transpose(1, 0, 2)
    return result / np.maximum(np.linalg.norm(result, axis=-1, keepdims=True), 1e-12)


def draw_light(rng: np.random.Generator) -> Array:
    """Draw the light of a room: one to three lamps or windows, and what walls scatter; nine numbers."""
    light = np.zeros(9)
    for strength in (1.0, *rng.uniform(0, 0.6, rng.integers(0, 3))):
        toward = np.array([rng.normal(0, 0.7), rng.normal(0.5, 0.4), rng.uniform(0.3, 1.2)])
        light += strength * harmonics(toward / np.linalg.norm(toward))
    light *= np.pi / 2
    around = np.array([rng.normal(0, 0.2), rng.normal(0.15, 0.2), rng.normal(0.1, 0.2)])
    light[0] += 3.545 * rng.uniform(0.2, 0.65) ** 2
    light[1:4] += around
    return light


def shades(facing: Array, light: Array) -> Array:
    """Return how bright white vertices are (n, V) under a light of nine numbers.

    Vertices after those of the head hide nothing and are not hidden.

    Args:
        facing: their unit normals (n, V, 3).
        light: see `draw_light`.
    """
    open_air, hidden = _transfer()
    reaches = (hidden @ light + 0.05) / np.maximum(open_air @ light + 0.05, 0.05)
    bright = np.maximum(harmonics(facing) @ (_LOBES * light), 0.02)
    bright[:, : len(reaches)] *= np.clip(reaches, 0.08, 1.05)
    return bright


@cache
def _transfer() -> tuple[Array, Array]:
    """Return how much of each harmonic reaches the vertices of the average head, alone and behind its own parts."""
    points = phenotype_vertices(AVERAGE)[None]
    facing = normals(points, load_head().triangles)[0]
    number = np.arange(_DIRECTIONS) + 0.5
    height, turn = 1 - 2 * number / _DIRECTIONS, np.pi * (1 + 5**0.5) * number
    flat = np.sqrt(1 - height**2)
    directions = np.stack([flat * np.cos(turn), height, flat * np.sin(turn)], axis=-1)
    seen = np.stack([_visible(points[0], toward) for toward in directions], axis=1)
    cosines = np.maximum(facing @ directions.T, 0) * (4 / _DIRECTIONS)
    basis = harmonics(directions)
    teeth = load_head().parts == PARTS.index("teeth")
    seen[teeth] = _LIT_TEETH  # when they are seen at all, the mouth is open, and that of the average head is closed
    return cosines @ basis, (cosines * seen) @ basis


def _visible(points: Array, toward: Array) -> Array:
    """Return which vertices (V,) are seen from far away in one direction; 0, 1, or between at rims."""
    across = np.cross([0.0, 1.0, 0.0], toward)
    across /= max(np.linalg.norm(across), 1e-9)
    up = np.cross(toward, across)
    depth = points @ toward
    plane = np.stack([points @ across, -(points @ up)], axis=-1)
    low, span = plane.min(0), np.ptp(plane, axis=0).max()
    plane = (plane - low) / span * (_SIDE - 1)
    near = 1 + (depth - depth.min()) / np.ptp(depth)
    surface = draw(plane[None].astype(np.float32), near[None].astype(np.float32), load_head().triangles, _SIDE)
    nearest = np.full(_SIDE * _SIDE, 0, np.float32)
    nearest[surface.samples] = surface.of(near)
    picture = torch.from_numpy(nearest.reshape(1, 1, _SIDE, _SIDE))
    grid = torch.from_numpy((plane / (_SIDE - 1) * 2 - 1).astype(np.float32))[None, None]
    over = torch.nn.functional.grid_sample(picture, grid, align_corners=True)[0, 0, 0].numpy()
    margin = 0.03 / np.ptp(depth)
    return np.clip((near - over + margin) / margin, 0, 1).astype(np.float64)
