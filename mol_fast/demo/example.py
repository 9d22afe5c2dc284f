"""The example of the page: a rendered head with expressions at known times."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from mol_fast.data import generate_long
from mol_fast.vision.write_video import VideoWriter

SUBJECT, SECONDS, FPS = 23, 8.0, 30.0
"""The subject is in no embedded set that models are trained on."""
_SIDE, _FACE = 480, 360  # pixels
_WALL = 110  # grey level


def write_example(path: Path, on_frame: Callable[[], object] = lambda: None) -> None:
    """Render the example into a video file. It is the same each time; this takes some seconds.

    Args:
        path: mp4 file to write; its folder must exist.
        on_frame: called after each of the `frames()` frames.
    """
    border = (_SIDE - _FACE) // 2
    with VideoWriter(path, (_SIDE, _SIDE), FPS) as writer:
        for chunk in generate_long(SUBJECT, "expressions", SECONDS, FPS).chunks():
            for frame in chunk.frames.numpy():
                picture = np.full((_SIDE, _SIDE, 3), _WALL, dtype=np.uint8)
                face = cv2.resize(frame, (_FACE, _FACE), interpolation=cv2.INTER_CUBIC)
                picture[border : border + _FACE, border : border + _FACE] = face[..., None]
                writer.write(picture)
                on_frame()


def frames() -> int:
    """Return how many frames the example has."""
    return round(SECONDS * FPS)
