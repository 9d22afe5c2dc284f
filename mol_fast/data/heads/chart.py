"""The chart: a flat picture of the skin of every head, on which textures are painted.

Its columns are angles around the head, its rows heights of the average head. Eyes, teeth, glasses and long hair have
patches of their own beside the skin.
"""

from functools import cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from mol_fast.data.heads.assets import PARTS, Array, load_head
from mol_fast.data.heads.identity import AVERAGE, phenotype_vertices
from mol_fast.data.heads.landmarks import Spots, landmark_vertices
from mol_fast.data.heads.raster import Floats, Ints, Surface, draw

SKIN = 512
"""Width and height of the skin's part of a texture, in texels of about 0.7 mm."""
PATCH = 128
"""Width of the patches at the right of it."""
EYE_RADIUS = 0.157  # of the eyeball, in decimetres
_WIDEST = 1.75  # radians from the middle of the face to the left or right border
_AXIS = 0.45  # z of the axis of the chart, in decimetres
_TOP, _BOTTOM = 8.55, 5.7  # heights of the borders
_BROW = np.array([(9.2, 2.6), (4.2, 0.8), (0.1, -1.0), (-2.0, -6.0), (1.8, -1.5)])
"""Landmarks of the brow on the left, temple first, in texels from the vertices of `landmark_vertices`: there dlib's
predictor finds them, in the median of 420 renderings. Brows are drawn along them; a photograph's are laid on them."""


class Patch(NamedTuple):
    """A patch of one shade, or of a picture: its rows of the texture."""

    first: int
    last: int

    @property
    def middle(self) -> tuple[float, float]:
        """(x, y) of the middle, in texels."""
        return SKIN + PATCH / 2, (self.first + self.last) / 2


EYE, TEETH, TONGUE, RIM, STRANDS = Patch(0, 128), Patch(128, 160), Patch(160, 192), Patch(192, 224), Patch(256, 512)


class Chart(NamedTuple):
    """The chart of the average head.

    Attributes:
        places: float64 (V, 2), (x, y) of the vertices, in texels of the texture.
        marks: float64 (68, 2), of the landmarks of a face whose brows are where they are on average.
        points: float64 (512, 512, 3), the point of the average head that a texel of skin shows.
        surface: the triangle that a texel of skin shows, and where on it.
        ahead: float64 (512, 512), how much the skin faces forward there: the z of its normal.
        ears: bool (V,), vertices of the ears.
    """

    places: Array
    marks: Array
    points: Array
    surface: Surface
    ahead: Array
    ears: npt.NDArray[np.bool_]

    def spots(self, places: Array) -> Spots:
        """Return the points of the skin that are shown nearest to places (P, 2) of the chart."""
        samples = self.surface.samples
        row, column = np.divmod(samples, SKIN)
        nearest = [int(np.hypot(column - x, row - y).argmin()) for x, y in places]
        return Spots(self.surface.corners[:, nearest], self.surface.weights[:, nearest].astype(np.float64))


@cache
def load_chart() -> Chart:
    """Lay the chart over the average head.

    Raises:
        UserError: see `load_head`.
    """
    head, points = load_head(), phenotype_vertices(AVERAGE)
    ears = _ears()
    angle = np.arctan2(points[:, 0], points[:, 2] - _AXIS)
    angle = np.where(ears, 0.72 * angle, angle)  # ears take the skin of the cheeks, not the hair around them
    angle = np.clip(angle, -_WIDEST, _WIDEST)
    x = (angle / _WIDEST + 1) / 2 * (SKIN - 1)
    y = np.clip((_TOP - points[:, 1]) / (_TOP - _BOTTOM), 0, 1) * (SKIN - 1)
    places = np.stack([x, y], axis=-1)
    for part, patch in (("teeth", TEETH), ("tongue", TONGUE)):
        places[head.parts == PARTS.index(part)] = patch.middle
    for side in (-1, 1):
        eye = (head.parts == PARTS.index("eye")) & (side * points[:, 0] > 0)
        middle = (points[eye].min(0) + points[eye].max(0)) / 2
        offset = (points[eye] - middle)[:, :2] * [1, -1] / EYE_RADIUS
        places[eye] = np.array(EYE.middle) + offset * (PATCH / 2 - 4)
    skin = (head.parts == 0)[head.triangles].all(1) & ~ears[head.triangles].any(1)
    radius = np.hypot(points[:, 0], points[:, 2] - _AXIS) + 1
    surface = draw(places[None].astype(np.float32), radius[None].astype(np.float32), head.triangles[skin], SKIN)
    shown = np.zeros((SKIN * SKIN, 3), np.float32)
    shown[surface.samples] = np.stack([surface.of(axis) for axis in points.T], axis=1)
    picture = _filled(shown.reshape(SKIN, SKIN, 3), surface.samples).astype(np.float64)
    across, down = np.gradient(picture, axis=1), np.gradient(picture, axis=0)
    facing = np.cross(across, -down)
    ahead = facing[..., 2] / np.maximum(np.linalg.norm(facing, axis=-1), 1e-9)
    marks = places[landmark_vertices()]
    marks[17:27] += np.concatenate([_BROW, _BROW[::-1] * [-1, 1]])
    return Chart(places, marks, picture, surface, ahead, ears)


def smooth(picture: Floats, texels: float) -> Floats:
    """Blur a picture with a Gaussian whose standard deviation is `texels`; a wide one at a coarser resolution."""
    import cv2

    shrink = max(1, int(texels / 4))
    height, width = picture.shape[:2]
    small = cv2.resize(picture, (width // shrink, height // shrink), interpolation=cv2.INTER_AREA)
    small = cv2.GaussianBlur(small, (0, 0), texels / shrink, borderType=cv2.BORDER_REPLICATE)
    return np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)


def noise(rng: np.random.Generator, height: int, width: int, texels: float) -> Floats:
    """Draw smooth noise (height, width), about normal, whose spots are about `texels` wide."""
    import cv2

    cells = 3 + int(height / texels), 3 + int(width / texels)
    values = rng.standard_normal(cells).astype(np.float32)
    return np.asarray(cv2.resize(values, (width, height), interpolation=cv2.INTER_CUBIC), np.float32)


def region(outline: Array, soft: float) -> Floats:
    """Return a mask (512, 512) of the inside of an outline (P, 2) in texels, with a border `soft` texels wide."""
    import cv2

    mask = np.zeros((SKIN, SKIN), np.float32)
    cv2.fillPoly(mask, [np.round(outline * 16).astype(np.int32)], 1.0, cv2.LINE_AA, 4)
    return smooth(mask, soft) if soft else mask


def _filled(picture: Floats, samples: Ints) -> Floats:
    """Fill the texels that show no skin, as in the eyes, with the mean of those around that do."""
    known = np.zeros((SKIN, SKIN), np.float32)
    known.reshape(-1)[samples] = 1
    result = picture.copy()
    for texels in (64, 16, 4):
        weight = smooth(known, texels)[..., None]
        result += (
            (1 - known[..., None]) * (smooth(picture, texels) / np.maximum(weight, 1e-6) - result) * (weight > 1e-3)
        )
    return result


@cache
def _ears() -> npt.NDArray[np.bool_]:
    """Return the vertices of the ears: those that shapes of the ears move much."""
    head = load_head()
    moved = np.zeros(len(head.vertices))
    for side in "lr":
        for change in ("scale-incr", "wing-incr"):
            moved = np.maximum(moved, np.linalg.norm(head.shape(f"change/ears/{side}-ear-{change}"), axis=1))
    return moved > 0.03
