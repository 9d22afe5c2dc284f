"""Lay a map of heat over a picture: bright yellow where there is most of it, nothing where there is none."""

import numpy as np
import numpy.typing as npt

from mol_fast.vision.align import Matrix, chained
from mol_fast.vision.sizes import CROP
from mol_fast.vision.video import rgb

SCALE = "violet is little, orange is more, yellow is most, and no colour is nothing"
"""The colours in words."""
_OPACITY = 0.7  # where there is most


def heat_of(shares: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
    """Return heat from shares that are at least 0: 1 where the share is largest."""
    return np.asarray(shares / max(float(shares.max()), 1e-12), dtype=np.float32)


def warp_cells(
    cells: npt.NDArray[np.floating], to_picture: npt.NDArray[np.floating], size: tuple[int, int]
) -> npt.NDArray[np.float32]:
    """Return the heat (height, width) of each pixel of a picture; 0 outside of the crop.

    Args:
        cells: (n, n), heat over the crop, from 0 to 1.
        to_picture: (2, 3) from pixels of the crop to those of the picture.
        size: (width, height) of the picture.
    """
    import cv2

    side = CROP / len(cells)
    of_cells: Matrix = np.array([[side, 0, (side - 1) / 2], [0, side, (side - 1) / 2]])
    return np.asarray(cv2.warpAffine(cells.astype(np.float32), chained(of_cells, to_picture), size), dtype=np.float32)


def lay_heat(picture: npt.NDArray[np.uint8], heat: npt.NDArray[np.floating]) -> npt.NDArray[np.uint8]:
    """Return a picture with heat laid over it, uint8 RGB (H, W, 3).

    Args:
        picture: uint8, grey (H, W) or RGB (H, W, 3).
        heat: (H, W), from 0 to 1.
    """
    import cv2

    color, alpha = heat_colors(heat)
    return np.asarray(cv2.blendLinear(color, rgb(picture), alpha, 1 - alpha), dtype=np.uint8)


def heat_colors(heat: npt.NDArray[np.floating]) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32]]:
    """Return the colours of heat (H, W), uint8 RGB (H, W, 3), and how opaque they are (H, W), from 0 to 1."""
    import cv2

    color = cv2.applyColorMap(np.rint(255 * heat).astype(np.uint8), cv2.COLORMAP_INFERNO)[..., ::-1]
    return np.ascontiguousarray(color, dtype=np.uint8), (_OPACITY * heat).astype(np.float32)


def heat_legend(size: int) -> npt.NDArray[np.uint8]:
    """Return the colours of heat over grey, RGB (size, size, 3): 1 at the top, 0 at the bottom."""
    heat = np.repeat(np.linspace(1, 0, size, dtype=np.float32)[:, None], size, axis=1)
    return lay_heat(np.full((size, size), 128, dtype=np.uint8), heat)
