"""Record a webcam into a video file."""

import contextlib
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from mol_fast.utils.errors import UserError
from mol_fast.vision.video import check_picture_size
from mol_fast.vision.write_video import VideoWriter

_QUALITY = 10  # of H.264: the motion of a micro-expression survives
_USUAL_FPS = 30.0


def record(device: int, seconds: float, path: Path, on_second: Callable[[], object] = lambda: None) -> None:
    """Record a webcam. Frames have the times at which they arrived.

    Args:
        device: number of the webcam, counted from 0.
        seconds: how long; positive.
        path: mp4 file to write; its folder is created if needed.
        on_second: called after each second.

    Raises:
        UserError: OpenCV cannot open the webcam, it stops, or the file cannot be written.
    """
    import cv2

    capture = cv2.VideoCapture(device)
    with contextlib.ExitStack() as stack:
        stack.callback(capture.release)
        good, frame = capture.read() if capture.isOpened() else (False, None)
        if not good or frame is None:
            raise UserError(
                f"webcam {device} cannot be opened: connect it, close programs that use it, or give another number"
            )
        height, width = frame.shape[:2]
        check_picture_size(f"the picture of webcam {device}", width, height)
        path.parent.mkdir(parents=True, exist_ok=True)
        fps = capture.get(cv2.CAP_PROP_FPS)
        writer = stack.enter_context(VideoWriter(path, (width, height), fps if fps > 0 else _USUAL_FPS, crf=_QUALITY))
        begin = time.monotonic()
        told, now = 0, 0.0
        while now < seconds:
            if not good or frame.shape[:2] != (height, width):
                raise UserError(f"webcam {device} stopped after {now:.1f} of {seconds:g} seconds, connect it again")
            writer.write(np.ascontiguousarray(frame[..., ::-1]), now)
            good, frame = capture.read()
            now = time.monotonic() - begin
            while told < min(int(now), int(seconds)):
                told += 1
                on_second()
