"""Meshes of things on a head, and tubes around lines."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mol_fast.data.heads.assets import Array
from mol_fast.data.heads.raster import Ints

_TUBE = 6  # corners of the section of a tube


class Mesh(NamedTuple):
    """Vertices float64 (V, 3) in decimetres, and triangles int64 (F, 3), counter-clockwise from outside."""

    vertices: Array
    triangles: Ints

    @classmethod
    def joined(cls, meshes: Sequence["Mesh"]) -> "Mesh":
        """Return several meshes as one."""
        first = np.cumsum([0, *(len(mesh.vertices) for mesh in meshes)])
        triangles = [mesh.triangles + offset for mesh, offset in zip(meshes, first, strict=False)]
        return cls(np.concatenate([mesh.vertices for mesh in meshes]), np.concatenate(triangles))


def tube(line: Array, radius: float, closed: bool) -> Mesh:
    """Lay a tube around a line (P, 3), whose ends may be joined."""
    ahead = np.roll(line, -1, 0) - np.roll(line, 1, 0) if closed else np.gradient(line, axis=0)
    ahead /= np.linalg.norm(ahead, axis=1, keepdims=True)
    aside = np.cross(ahead, np.where(np.abs(ahead[:, 2:]) > 0.9, [[0.0, 1.0, 0.0]], [[0.0, 0.0, 1.0]]))
    aside /= np.linalg.norm(aside, axis=1, keepdims=True)
    above = np.cross(aside, ahead)
    turn = np.arange(_TUBE) * (2 * np.pi / _TUBE)
    ring = np.cos(turn)[None, :, None] * aside[:, None] + np.sin(turn)[None, :, None] * above[:, None]
    rings = len(line) if closed else len(line) - 1
    this = np.arange(rings)[:, None] * _TUBE + np.arange(_TUBE)
    beside = np.arange(rings)[:, None] * _TUBE + (np.arange(_TUBE) + 1) % _TUBE
    step, all_of = _TUBE, len(line) * _TUBE
    quads = np.stack([this, beside, (beside + step) % all_of, (this + step) % all_of], -1).reshape(-1, 4)
    triangles = np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]])
    return Mesh((line[:, None] + radius * ring).reshape(-1, 3), triangles)
