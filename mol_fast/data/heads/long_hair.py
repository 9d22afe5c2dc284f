"""Long hair: two curtains that hang beside the face and meet behind the neck."""

import numpy as np

from mol_fast.data.heads.assets import Array
from mol_fast.data.heads.chart import PATCH, SKIN, STRANDS
from mol_fast.data.heads.tubes import Mesh

_ACROSS, _DOWN = 30, 14  # vertices of one curtain


def make_long_hair(rng: np.random.Generator, scalp: Array, ears: Array) -> tuple[Mesh, Array]:
    """Let hair hang from the head.

    Args:
        rng: source of all random numbers.
        scalp: (P, 3), the points of the head that hair may cover, without the ears.
        ears: (2, 3), the middles of the ears.

    Returns:
        The mesh, both sides of the hair, and the places (V, 2) of its vertices, in texels of the texture.
    """
    middle = ears.mean(0)
    own = np.arctan2(scalp[:, 0] - middle[0], scalp[:, 2] - middle[2])
    radius = np.hypot(scalp[:, 0] - middle[0], scalp[:, 2] - middle[2])
    top, low = middle[1] + rng.uniform(0.3, 0.7), middle[1] - rng.uniform(0.9, 2.6)
    edge, slant = np.radians(rng.uniform(62, 92)), np.radians(rng.normal(0, 8))
    away, flare, wave = rng.uniform(0.05, 0.25), rng.uniform(0.0, 0.25), rng.uniform(0, 0.05)
    meshes, places = [], []
    for side in (-1, 1):
        fall = np.linspace(0, 1, _DOWN)[:, None]
        angle = edge + slant * fall + (np.pi - edge) * np.linspace(0, 1, _ACROSS) ** 1.3
        height = np.broadcast_to(top + (low - top) * fall, angle.shape)
        near = np.argmin(
            (side * own - angle[..., None]) ** 2 + (scalp[:, 1] - np.maximum(height, middle[1])[..., None]) ** 2,
            axis=-1,
        )
        reach = np.maximum.accumulate(_smoothed(radius[near]), axis=0) + away * np.minimum(1, 3 * fall)
        reach = reach * (1 + flare * fall**2) + wave * np.sin(fall * rng.uniform(8, 20) + angle * rng.uniform(0, 8))
        reach += wave * _smoothed(rng.standard_normal(reach.shape))
        x, z = middle[0] + side * reach * np.sin(angle), middle[2] + reach * np.cos(angle)
        points = np.stack([x, height, z], axis=-1).reshape(-1, 3)
        mesh = _sheet(points, outward=side > 0)
        meshes.append(mesh)
        u = SKIN + 3 + (PATCH - 7) * np.broadcast_to(np.linspace(0, 1, _ACROSS), angle.shape)
        v = STRANDS.first + 3 + (STRANDS.last - STRANDS.first - 7) * np.broadcast_to(fall, angle.shape)
        places.append(np.tile(np.stack([u, v], axis=-1).reshape(-1, 2), (2, 1)))
    return Mesh.joined(meshes), np.concatenate(places)


def _sheet(points: Array, outward: bool) -> Mesh:
    """Return a grid of vertices as a sheet with two sides, each with vertices of its own."""
    corner = (np.arange(_DOWN - 1)[:, None] * _ACROSS + np.arange(_ACROSS - 1)).reshape(-1)
    a, b, c, d = corner, corner + 1, corner + _ACROSS + 1, corner + _ACROSS
    front = np.concatenate([np.stack([a, c, b], 1), np.stack([a, d, c], 1)])
    if not outward:
        front = front[:, ::-1]
    return Mesh(np.concatenate([points, points]), np.concatenate([front, front[:, ::-1] + len(points)]))


def _smoothed(values: Array) -> Array:
    for _ in range(3):
        inner = (values[:, :-2] + values[:, 1:-1] + values[:, 2:]) / 3
        values = np.concatenate([values[:, :1], inner, values[:, -1:]], axis=1)
    return values
