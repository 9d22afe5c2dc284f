"""Shared sizes: pixels of a frame, frames of a window, interval of a window."""

from typing import Final

FRAME: Final = 144
"""Width and height of a stored aligned frame, in pixels."""
CROP: Final = 128
"""Width and height of the crop that the model reads, in pixels."""
MARGIN: Final = (FRAME - CROP) // 2
"""Offset of the centre crop in a stored frame, in pixels. Evaluation uses the centre crop."""
WINDOW: Final = 8
"""Frames in a window."""
PAIRS: Final = WINDOW - 1
"""Pairs of consecutive frames in a window, hence flow fields."""
MAX_CLIP: Final = 4096
"""Most frames of one clip: all of its windows are in memory at once."""


def interval(frames: int) -> int:
    """Return the distance in frames between frames of a window; also the number of windows of the clip.

    Args:
        frames: length of the clip.
    """
    return frames // WINDOW


def widened(first: int, stop: int, count: int) -> slice:
    """Return the frames from `first` up to `stop`, with frames beside them up to a window.

    Args:
        first, stop: indices into the frames, the second one is not included.
        count: number of frames that there are, at least a window.
    """
    missing = max(0, WINDOW - (stop - first))
    first = max(0, min(first - missing // 2, count - WINDOW))
    return slice(first, max(stop, first + WINDOW))
