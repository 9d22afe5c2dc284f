"""The 68 iBUG landmarks: indices of the eyes and of mirrored points."""

from typing import TYPE_CHECKING, Any, Final, TypeVar

import numpy.typing as npt

if TYPE_CHECKING:
    from torch import Tensor

Points = TypeVar("Points", npt.NDArray[Any], "Tensor")

LEFT_EYE: Final = slice(36, 42)  # on the left of the picture: the person's right eye
RIGHT_EYE: Final = slice(42, 48)

# Point k of the mirrored face is point MIRROR[k] of the original face.
MIRROR: Final = (
    *range(16, -1, -1),  # jaw
    *range(26, 16, -1),  # brows
    *range(27, 31),  # bridge of the nose
    *range(35, 30, -1),  # base of the nose
    *(45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40),  # eyes
    *range(54, 47, -1),  # outer lip, above
    *range(59, 54, -1),  # outer lip, below
    *range(64, 59, -1),  # inner lip, above
    *range(67, 64, -1),  # inner lip, below
)


def mirrored(landmarks: Points, width: int) -> Points:
    """Return the landmarks (..., 68, 2) of the mirror image of a picture that is `width` pixels wide.

    They keep their names: the left eye is again the eye on the left.
    """
    points = landmarks[..., list(MIRROR), :]  # a copy
    points[..., 0] = width - 1 - points[..., 0]
    return points
