"""The 68 iBUG landmarks as vertices of MakeHuman's mesh.

They were chosen once: the vertices nearest to the points that dlib's predictor finds on a frontal rendering, made
symmetric, then moved by eye to the rims of lids and lips. Those of the jaw are nearest to its points in the median of
387 renderings.
"""

from functools import cache

import numpy as np
import numpy.typing as npt

from mol_fast.data.heads.assets import load_head

NUMBERS = (
    *(267, 5186, 5204, 5242, 5240, 5298, 5295, 918, 5296, 7620, 11901, 11903, 11849, 11851, 11815, 11798, 7036),  # jaw
    *(261, 225, 204, 180, 209),  # brow on the left
    *(6984, 6956, 6979, 6999, 7030),  # brow on the right
    *(132, 131, 201, 294),  # bridge of the nose
    *(324, 331, 317, 7093, 7086),  # base of the nose
    *(18, 0, 6763, 6767, 47, 41),  # eye on the left
    *(13363, 13359, 6784, 6802, 6825, 6831),  # eye on the right
    *(3734, 5351, 450, 466, 7210, 11953, 10402),  # outer lip, above
    *(7239, 7241, 492, 486, 484),  # outer lip, below
    *(419, 522, 520, 7268, 7179),  # inner lip, above
    *(7279, 523, 534),  # inner lip, below
)
"""Numbers of the vertices in iBUG order: point 0 is on the left of the picture."""


@cache
def landmark_vertices() -> npt.NDArray[np.int64]:
    """Return the 68 vertices of `load_head`.

    Raises:
        UserError: see `load_head`.
    """
    return np.searchsorted(load_head().numbers, NUMBERS)
