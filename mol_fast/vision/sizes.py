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
