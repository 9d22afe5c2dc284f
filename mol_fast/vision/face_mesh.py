"""468 points of a face, by MediaPipe's landmark network, and the 68 iBUG landmarks among them.

The network reads 192 x 192 pixels around a face, turned so that the eyes are level. It also says how sure it is that
it sees a face.
"""

from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from mol_fast.vision.align import Matrix, inverse, scale_of, transform, warp
from mol_fast.vision.boxes import Box
from mol_fast.vision.face_detector import Picture, Points, as_input, read_network

_SIDE = 192  # pixels of the network's input
_AROUND = 1.5  # side of the square that the network reads / longer side of the face's box
_BLUR = 2.0  # pixels of the input, standard deviation: noise moves the points half as much, and their errors stay
_LOOSE = 0.03  # share of the region's side by which its corners may be off
_CORNERS = [33, 263]  # outer corners of the eyes: on the left of the picture, on the right

IBUG: tuple[tuple[int, ...], ...] = (
    *((127,), (234, 93), (132, 147), (58, 215), (172,), (136, 150), (149,), (148, 176), (152,)),  # jaw
    *((377, 400), (378,), (365, 379), (397,), (288, 435), (361, 376), (454, 323), (356,)),
    *((46, 156), (53, 63), (65, 105), (65, 107), (55,)),  # brow on the left
    *((285,), (295, 336), (295, 334), (283, 293), (276, 383)),  # brow on the right
    *((168, 6), (197,), (5,), (1, 4), (60, 98), (97,), (2, 164), (326,), (290, 327)),  # nose
    *((33,), (160,), (158,), (133,), (153,), (144,), (362,), (385,), (387,), (263,), (373,), (380,)),  # eyes
    *((61,), (39,), (37,), (0,), (267,), (269,), (291,), (405,), (314,), (17,), (84,), (181,)),  # outer lip
    *((78,), (82,), (13,), (312,), (308,), (317,), (14,), (87,)),  # inner lip
)
"""The points of the mesh whose mean is landmark k of iBUG's 68.

The mesh has points of its own for eyes and lips. Those of jaw, brows and nose were chosen once: nearest to the points
that dlib's predictor finds, in 466 rendered heads and the two photographs of the embedded set.
"""
POINTS = 2  # version of the landmarks; videos that were prepared with others are prepared again


class Mesh(NamedTuple):
    """The points of a face."""

    points: npt.NDArray[np.float32]  # (468, 3): x, y in pixels of the picture, depth in the same unit, less is nearer
    score: float  # how sure the network is of a face, 0 to 1
    region: Matrix  # (2, 3), from the picture to the square that the network read

    @property
    def box(self) -> Box:
        """The box of the points."""
        (left, top), (right, bottom) = self.points[:, :2].min(0).tolist(), self.points[:, :2].max(0).tolist()
        return left, top, right, bottom


class FaceMesh:
    """The landmark network.

    Args:
        model: the file `face_landmark.tflite`.

    Raises:
        UserError: OpenCV cannot read the model.
    """

    def __init__(self, model: Path) -> None:
        self._network = read_network(model)
        # One output has a single value, the score; the other has three for each point.
        self._outputs = self._network.getUnconnectedOutLayersNames()

    def in_box(self, picture: Picture, box: Box, eyes: Points) -> Mesh:
        """Return the mesh of the face in a detected box: a first pass there, a second one around its points.

        Args:
            picture: uint8 (H, W).
            box: the box.
            eyes: (2, 2), the eyes on the left and on the right of the picture.
        """
        rotation = _levelling(eyes)
        left, top, right, bottom = box
        centre = rotation @ np.array([(left + right) / 2, (top + bottom) / 2])
        first = self.in_region(picture, _region(centre, max(right - left, bottom - top), rotation))
        return self.in_region(picture, _region_around(first.points))

    def follow(self, picture: Picture, last: Mesh) -> Mesh:
        """Return the mesh of the face whose mesh was `last` in a frame shortly before.

        The region stays as long as the face is in its middle: the points depend on the region a little, so noise in it
        would make them tremble. If the face has left the middle, a second pass follows it.
        """
        mesh = self.in_region(picture, last.region)
        region = _region_around(mesh.points)
        return self.in_region(picture, region) if _differ(region, last.region) else mesh

    def in_region(self, picture: Picture, region: Matrix) -> Mesh:
        """Return the mesh of the face in a region, in one pass."""
        import cv2

        square = cv2.GaussianBlur(warp(picture, region, _SIDE), (0, 0), _BLUR)
        self._network.setInput(as_input(square.astype(np.float32) / np.float32(255)))
        score, places = sorted((part.ravel() for part in self._network.forward(self._outputs)), key=len)
        mesh = places.reshape(-1, 3).astype(np.float64)
        back = inverse(region)
        points = np.column_stack([transform(mesh[:, :2], back), mesh[:, 2] / scale_of(region)])
        return Mesh(points.astype(np.float32), float(1 / (1 + np.exp(-np.clip(score[0], -50, 50)))), region)


def ibug_landmarks(points: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
    """Return the 68 landmarks (68, 2) of a mesh (468, 2 or 3)."""
    return np.asarray(_means() @ points[:, :2], dtype=np.float32)


@cache
def _means() -> npt.NDArray[np.float32]:
    """Return the matrix (68, 468) that takes the means of `IBUG`."""
    means = np.zeros((len(IBUG), 468), dtype=np.float32)
    for row, group in enumerate(IBUG):
        means[row, list(group)] = 1 / len(group)
    return means


def _region_around(points: npt.NDArray[np.floating]) -> Matrix:
    """Return the region of the face with these points (468, 3)."""
    flat = points[:, :2].astype(np.float64)
    rotation = _levelling(flat[_CORNERS])
    level = flat @ rotation.T  # so that the box of a tilted face is as tight as that of a level one
    low, high = level.min(0), level.max(0)
    return _region((low + high) / 2, float((high - low).max()), rotation)


def _region(centre: Points, side: float, rotation: Points) -> Matrix:
    """Return the matrix (2, 3) from the picture to the square that the network reads.

    Args:
        centre: centre of the face, (2,), in the levelled picture.
        side: longer side of its box, in pixels.
        rotation: (2, 2), levels the picture.
    """
    scale = _SIDE / (_AROUND * max(side, 1.0))
    return np.column_stack([scale * rotation, (_SIDE - 1) / 2 - scale * centre])


def _levelling(eyes: Points) -> Points:
    """Return the rotation (2, 2) that levels a pair of points (2, 2)."""
    across = eyes[1] - eyes[0]
    cos, sin = across / max(float(np.hypot(*across)), 1e-9)
    return np.array([[cos, sin], [-sin, cos]])


def _differ(region: Matrix, other: Matrix) -> bool:
    """Return whether two regions of a face differ by more than `_LOOSE` of their side, at any corner."""
    corners = np.array([(0, 0), (_SIDE, 0), (0, _SIDE), (_SIDE, _SIDE)])
    return bool(np.abs(transform(transform(corners, inverse(region)), other) - corners).max() > _LOOSE * _SIDE)
