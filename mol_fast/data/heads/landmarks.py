"""The 68 iBUG landmarks on MakeHuman's mesh: vertices, and for brows points of triangles.

They were chosen once: the vertices nearest to the points that dlib's predictor finds on a frontal rendering, made
symmetric, then moved by eye to the rims of lids and lips. Those of jaw and nose are nearest to its points in the mean
of 910 renderings. Brows are not part of the mesh: their landmarks lie where the brows of a person are drawn.
"""

from functools import cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from mol_fast.data.heads.assets import Array, load_head

NUMBERS = (
    *(267, 5201, 5204, 5242, 5240, 5298, 5295, 918, 5296, 7620, 11901, 11903, 11849, 11851, 11815, 11812, 7036),  # jaw
    *(261, 225, 204, 180, 209),  # brow on the left
    *(6984, 6956, 6979, 6999, 7030),  # brow on the right
    *(132, 131, 201, 294),  # bridge of the nose
    *(286, 313, 343, 7076, 7055),  # base of the nose
    *(18, 0, 6763, 6767, 47, 41),  # eye on the left
    *(13363, 13359, 6784, 6802, 6825, 6831),  # eye on the right
    *(3734, 5351, 450, 466, 7210, 11953, 10402),  # outer lip, above
    *(7239, 7241, 492, 486, 484),  # outer lip, below
    *(419, 522, 520, 7268, 7179),  # inner lip, above
    *(7279, 523, 534),  # inner lip, below
)
"""Numbers of the vertices in iBUG order: point 0 is on the left of the picture."""


class Spots(NamedTuple):
    """P points of the surface of a head: the vertices of their triangles, int64 (3, P), and their weights, sum 1."""

    corners: npt.NDArray[np.int64]
    weights: Array

    def of(self, values: Array) -> Array:
        """Interpolate values (..., V, C) of vertices at the points: (..., P, C)."""
        return np.einsum("kp,...kpc->...pc", self.weights, values[..., self.corners, :])


def landmark_spots(brows: Spots) -> Spots:
    """Return the 68 landmarks of a person: the vertices, and the brows of this person (10 points)."""
    vertices = landmark_vertices()
    corners = np.stack([vertices] * 3)
    weights = np.zeros(corners.shape)
    weights[0] = 1
    corners[:, 17:27], weights[:, 17:27] = brows
    return Spots(corners, weights)


@cache
def landmark_vertices() -> npt.NDArray[np.int64]:
    """Return the 68 vertices of `load_head`.

    Raises:
        UserError: see `load_head`.
    """
    return np.searchsorted(load_head().numbers, NUMBERS)
