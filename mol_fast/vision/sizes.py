"""Sizes that everything agrees on: pixels of a frame, frames of a window, and how windows lie in a video."""

from typing import Final

FRAME: Final = 144
"""Pixels, both sides of an aligned frame as it is stored."""
CROP: Final = 128
"""Pixels, both sides of what the model reads."""
MARGIN: Final = (FRAME - CROP) // 2
"""Pixels between the edges of a stored frame and of the crop in its centre, which the model reads in evaluation."""
WINDOW: Final = 8
"""Frames of a window."""
PAIRS: Final = WINDOW - 1
"""Pairs of consecutive frames of a window; each has a flow."""
MAX_CLIP: Final = 4096
"""Frames of the longest clip: all of its windows are open at once."""


def interval(frames: int) -> int:
    """Frames from one frame of a window to the next, which is also the number of windows of a clip of `frames`."""
    return frames // WINDOW
