"""How a stored frame is displayed: upright, with square pixels, in the colours that it tells, in one size."""

import math
import struct
from collections.abc import Callable
from fractions import Fraction
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from mol_fast.vision.video import Picture

if TYPE_CHECKING:
    from av import VideoFrame

Turn = tuple[int, int, int, int]
"""Display matrix (a, b, c, d), each -1, 0 or 1: right is shown as (a, b), down as (c, d)."""

_FLATTEST = 8  # largest ratio of the sides of a pixel; a larger one is damage
_UPRIGHT = (1, 0, 0, 1)
_UNTOLD, _BT_709 = 2, 1  # matrices of colours, as FFmpeg numbers them
_BT_601, _NARROW = (2, 5, 6), (0, 1)  # matrix and range that `mol_fast.vision.yuv` has, or not told
_READ = (0, 1, 2, 4, 5, 6, 7, 9)  # matrices that FFmpeg converts
_HD = (1280, 576)  # from this width, or above this height, players take colours that are not told for BT.709
_SAME_SHAPE = 0.01  # largest relative difference of the ratios of the sides


class Stored(NamedTuple):
    """A frame as it is stored, and the ratio of the sides of its pixels, width / height."""

    frame: "VideoFrame"
    pixel: Fraction


class Display:
    """The way frames of one stream are displayed: as the first of them is.

    A frame of another size is scaled, one of another shape is fitted between black borders.

    Args:
        first: the first frame.

    Attributes:
        size: (width, height) of stored frames with square pixels, before they are turned.
    """

    def __init__(self, first: Stored) -> None:
        self.size = _square(first)
        self._turn = _turn(first.frame)

    def fits(self, stored: Stored) -> bool:
        """Return whether a frame has the shape of the first."""
        width, height = _square(stored)
        return abs(width * self.size[1] / (height * self.size[0]) - 1) <= _SAME_SHAPE

    def is_plain(self, stored: Stored) -> bool:
        """Return whether a frame is in YUV as `mol_fast.vision.yuv` has it, and needs no turn nor scaling."""
        frame = stored.frame
        even = frame.width % 2 == frame.height % 2 == 0
        upright = self._turn == _UPRIGHT and (frame.width, frame.height) == self.size == _square(stored)
        colors = frame.colorspace in _BT_601 and frame.color_range in _NARROW
        return even and upright and colors and frame.format.name == "yuv420p"

    def converter(self) -> Callable[[Stored], Picture]:
        """Return a function that converts frames to RGB. Every thread needs its own."""
        from av.video.reformatter import Interpolation, VideoReformatter

        reformatter = VideoReformatter()
        scaling = Interpolation.BICUBIC | Interpolation.FULL_CHR_H_INT  # within a level of exact, and fast

        def to_rgb(stored: Stored) -> Picture:
            width, height = self.size
            if not self.fits(stored):
                own = _square(stored)
                scale = min(width / own[0], height / own[1])
                width, height = (max(1, round(side * scale)) for side in own)
            shown = reformatter.reformat(stored.frame, width, height, "rgb24", interpolation=scaling, threads=1)
            picture = shown.to_ndarray().astype(np.uint8, copy=False)
            if (width, height) != self.size:
                left, top = (self.size[0] - width) // 2, (self.size[1] - height) // 2
                whole = np.zeros((self.size[1], self.size[0], 3), dtype=np.uint8)
                whole[top : top + height, left : left + width] = picture
                picture = whole
            return _turned(picture, self._turn)

        return to_rgb


def tell_colors(frame: "VideoFrame") -> None:
    """Tell the matrix of colours that players assume, where a frame tells none or one that FFmpeg cannot convert."""
    if not frame.format.is_rgb and (frame.colorspace == _UNTOLD or frame.colorspace not in _READ):
        hd = frame.width >= _HD[0] or frame.height > _HD[1]
        frame.colorspace = _BT_709 if hd else _UNTOLD


def _square(stored: Stored) -> tuple[int, int]:
    """Return the size of a frame with square pixels: the side with too few pixels grows."""
    (frame, pixel) = stored
    if not Fraction(1, _FLATTEST) <= pixel <= _FLATTEST:
        return frame.width, frame.height
    return (round(frame.width * pixel), frame.height) if pixel > 1 else (frame.width, round(frame.height / pixel))


def _turn(frame: "VideoFrame") -> Turn:
    """Return the display matrix of a frame."""
    side_data: Any = frame.side_data
    data = next((item for item in side_data if item.type.name == "DISPLAYMATRIX"), None)
    if data is None:
        return _UPRIGHT
    numbers = struct.unpack("=9i", bytes(data)[:36])
    a, b, c, d = (number / 65536 for number in (numbers[0], numbers[1], numbers[3], numbers[4]))
    length = math.sqrt(abs(a * d - b * c)) or 1.0
    turn = round(a / length), round(b / length), round(c / length), round(d / length)
    return turn if turn[0] * turn[3] - turn[1] * turn[2] in (-1, 1) else _UPRIGHT


def _turned(picture: Picture, turn: Turn) -> Picture:
    """Turn and mirror a picture by its display matrix."""
    if turn == _UPRIGHT:
        return picture
    a, b, c, d = turn
    if a == 0:
        picture = picture.transpose(1, 0, 2)
    flip_columns, flip_rows = (a or c) < 0, (d or b) < 0
    return np.ascontiguousarray(picture[:: -1 if flip_rows else 1, :: -1 if flip_columns else 1])
