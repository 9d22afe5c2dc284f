"""Where motion is measured in an aligned face: regions that express, eyelids, and points that move with the skull."""

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from mol_fast.vision.align import eye_centres

Array = npt.NDArray[np.float64]


class Place(NamedTuple):
    """A point of the face: the mean of landmarks plus a shift (x, y) in distances of the eyes."""

    at: tuple[int, ...]
    shift: tuple[float, float] = (0.0, 0.0)


# left and right are those of the picture
_REGIONS: dict[str, tuple[Place, ...]] = {
    "left outer brow": (Place((17, 18), (0, -0.04)), Place((19,), (0, -0.04))),
    "left inner brow": (Place((20, 21), (0, -0.04)), Place((21,), (0.04, 0.0))),
    "right inner brow": (Place((22, 23), (0, -0.04)), Place((22,), (-0.04, 0.0))),
    "right outer brow": (Place((25, 26), (0, -0.04)), Place((24,), (0, -0.04))),
    "left eyelids": (Place((37, 38)), Place((40, 41))),
    "right eyelids": (Place((43, 44)), Place((46, 47))),
    "left nose": (Place((31,), (-0.05, -0.05)),),
    "right nose": (Place((35,), (0.05, -0.05)),),
    "left cheek": (Place((36, 48), (-0.05, 0)), Place((31, 48), (-0.15, -0.05))),
    "right cheek": (Place((45, 54), (0.05, 0)), Place((35, 54), (0.15, -0.05))),
    "left mouth corner": (Place((48,)),),
    "right mouth corner": (Place((54,)),),
    "upper lip": (Place((49, 50)), Place((52, 53))),
    "lower lip": (Place((58, 59)), Place((55, 56)), Place((57,))),
    "chin": (Place((8, 57)), Place((7, 58)), Place((9, 56))),
}
REGIONS: Final = tuple(_REGIONS)
"""Names of the regions, in the order of all arrays; left and right are those of the picture."""
EYELIDS: Final = tuple(REGIONS.index(name) for name in ("left eyelids", "right eyelids"))
EXPRESS: Final = np.array([place for place in range(len(REGIONS)) if place not in EYELIDS])
"""Regions that show expressions: all but the eyelids, which blink."""
MOUTH: Final = tuple(
    REGIONS.index(name) for name in ("left mouth corner", "right mouth corner", "upper lip", "lower lip", "chin")
)

_SKULL = (
    *(Place((point,)) for point in (27, 28, 29)),
    Place((39,), (0.08, 0.02)),
    Place((42,), (-0.08, 0.02)),
    Place((36,), (-0.12, 0)),
    Place((45,), (0.12, 0)),
    *(Place((point,), (0, -up)) for point in (19, 24) for up in (0.35, 0.5)),
    *(Place((21, 22), (0, -up)) for up in (0.3, 0.45, 0.6)),
)
_PLACES = (*(place for places in _REGIONS.values() for place in places), *_SKULL)
_OWNER = np.repeat(np.arange(len(REGIONS)), [len(places) for places in _REGIONS.values()])
_REACH = 0.25  # largest distance of a pixel from a place of its region, in distances of the eyes
_MEAN = (np.arange(len(REGIONS))[:, None] == _OWNER) / np.bincount(_OWNER)[:, None]
OF_SKULL: Final = np.arange(len(_PLACES)) >= len(_OWNER)
"""Which of the places move with the skull."""


class Layout(NamedTuple):
    """Where motion is measured in one face.

    Attributes:
        points: (P, 2) in pixels of the aligned frame.
        distance: of the eyes, in pixels.
        pose: (P, 2, 6) motion of the points by unit changes of the head: shift in x and y, scale, roll, yaw, pitch,
            each times the distance of the eyes.
    """

    points: Array
    distance: float
    pose: Array


def layout(landmarks: npt.NDArray[np.floating]) -> Layout:
    """Place the regions on a face.

    Args:
        landmarks: (68, 2) in pixels of the aligned frame.
    """
    left, right = eye_centres(landmarks)
    distance = float(np.hypot(*(right - left)))
    points = np.array([landmarks[list(place.at)].mean(0) + distance * np.array(place.shift) for place in _PLACES])
    return Layout(points, distance, head_pose(points, landmarks))


def head_pose(points: Array, landmarks: npt.NDArray[np.floating]) -> Array:
    """Return how points of a face move with the head, see `Layout.pose`.

    Args:
        points: (..., 2) in pixels of the aligned frame.
        landmarks: (68, 2) in its pixels.

    Returns:
        (..., 2, 6).
    """
    left, right = eye_centres(landmarks)
    across = (points - (left + right) / 2) / float(np.hypot(*(right - left)))
    u, v = across[..., 0], across[..., 1]
    depth = _depth(u, v)
    zero, one = np.zeros_like(u), np.ones_like(u)
    return np.stack([np.stack([one, zero, u, -v, depth, zero], -1), np.stack([zero, one, v, u, zero, depth], -1)], -2)


def region_of_pixels(landmarks: npt.NDArray[np.floating], size: int) -> npt.NDArray[np.int64]:
    """Return the region of each pixel of a face.

    A pixel belongs to the region that has the nearest place, unless none is near, or a place of the skull is nearer.

    Args:
        landmarks: (68, 2) in pixels of the picture.
        size: width and height of the picture.

    Returns:
        (size, size), index into `REGIONS`; -1 for pixels of no region.
    """
    places = layout(landmarks)
    down, across = np.indices((size, size))
    away = np.hypot(across[..., None] - places.points[:, 0], down[..., None] - places.points[:, 1])
    owner = np.where(OF_SKULL, -1, np.resize(_OWNER, len(_PLACES)))
    return np.where(away.min(-1) <= _REACH * places.distance, owner[away.argmin(-1)], -1)


def region_means(motion: Array) -> Array:
    """Average the motion (P, 2) of places over each region; returns (regions, 2)."""
    return np.asarray(_MEAN @ motion[~OF_SKULL])


def _depth(u: Array, v: Array) -> Array:
    """Return the depth of a usual face at points (u, v) from the middle of the eyes, all in distances of the eyes."""
    nose = 0.38 * np.exp(-0.5 * ((u / 0.16) ** 2 + ((v - 0.55) / 0.22) ** 2))
    return np.asarray(nose - 0.6 * np.minimum(np.abs(u), 1) ** 2 - 0.08 * v**2)
