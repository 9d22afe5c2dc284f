"""The 68 iBUG landmarks: indices of the eyes and of mirrored points."""

from typing import Final

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
