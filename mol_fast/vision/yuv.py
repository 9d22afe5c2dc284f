"""Pictures in YUV 4:2:0 as H.264 holds them: brightness of all pixels, colours of every fourth; and layers over them.

The matrix is that of ITU-R BT.601: brightness from 16 to 235, both colour differences from 16 to 240, where 128 is
grey. A picture is one array, uint8 (H * 3 / 2, W): the brightness, then both planes of colour. Both sides are even.
"""

import numpy as np
import numpy.typing as npt

from mol_fast.vision.video import Picture, rgb

Yuv = npt.NDArray[np.uint8]
_ZEROS = (16, 128, 128)  # the values of black
_FULL = np.rint(((np.arange(256) - 16) * 255 / 219).clip(0, 255)).astype(np.uint8)  # brightness, to 0..255
_NARROW = np.rint((np.arange(256) - 128) * 224 / 255 + 128).astype(np.uint8)  # colour differences, to 16..240


def size_of(picture: Yuv) -> tuple[int, int]:
    """Return the (width, height) of a picture in pixels."""
    return picture.shape[1], picture.shape[0] * 2 // 3


def planes(picture: Yuv) -> tuple[Yuv, Yuv, Yuv]:
    """Return the planes of a picture: (H, W), and twice (H / 2, W / 2). They share its memory."""
    width, height = size_of(picture)
    first, second = picture[height:].reshape(2, height // 2, width // 2)
    return picture[:height], first, second


def to_yuv(picture: Picture) -> Yuv:
    """Convert a picture, uint8 grey (H, W) or RGB (H, W, 3), in a third of the time that FFmpeg takes.

    An odd side grows by a pixel, which repeats the last one.
    """
    import cv2

    picture = rgb(picture)
    height, width = picture.shape[:2]
    if width % 2 or height % 2:
        picture = np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        height, width = picture.shape[:2]
    converted = np.asarray(cv2.cvtColor(picture, cv2.COLOR_RGB2YUV_I420), dtype=np.uint8)  # colours of every fourth
    small = cv2.resize(picture, (width // 2, height // 2), interpolation=cv2.INTER_AREA)
    differences = cv2.cvtColor(small, cv2.COLOR_RGB2YCrCb)
    for plane, channel in zip(planes(converted)[1:], (2, 1), strict=True):
        cv2.LUT(cv2.extractChannel(differences, channel), _NARROW, plane)
    return converted


def to_grey(brightness: Picture) -> Picture:
    """Convert a plane of brightness (H, W) to grey (H, W) from 0 to 255."""
    import cv2

    return np.asarray(cv2.LUT(brightness, _FULL), dtype=np.uint8)


class Layer:
    """Something that is laid over a part of many pictures, and hides them more or less.

    Args:
        drawn: uint8 (h, w, 4), even sides: RGB times opacity, and opacity, where 255 hides all.
        left, top: its place in the pictures, in pixels, even.
    """

    def __init__(self, drawn: npt.NDArray[np.uint8], left: int, top: int) -> None:
        import cv2

        height, width = drawn.shape[:2]
        opacity = np.ascontiguousarray(drawn[..., 3])
        small = cv2.resize(opacity, (width // 2, height // 2), interpolation=cv2.INTER_AREA)
        self._parts = []
        colors = planes(to_yuv(np.ascontiguousarray(drawn[..., :3])))
        for color, hides, zero in zip(colors, (opacity, small, small), _ZEROS, strict=True):
            keep = np.asarray(cv2.bitwise_not(hides), dtype=np.uint8)
            paint = cv2.subtract(color, np.rint(keep * np.float32(zero / 255)).astype(np.uint8))
            step = width // color.shape[1]
            rows = slice(top // step, (top + height) // step)
            self._parts.append((rows, slice(left // step, (left + width) // step), keep, paint))

    def lay(self, picture: Yuv) -> None:
        """Lay it over a picture."""
        import cv2

        for plane, (rows, columns, keep, paint) in zip(planes(picture), self._parts, strict=True):
            part = plane[rows, columns]
            cv2.multiply(part, keep, part, 1 / 255)
            cv2.add(part, paint, part)
