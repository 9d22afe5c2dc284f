"""Settings of OpenCV and FFmpeg that programs make before they read videos."""

import contextlib
import os


def quiet_decoders() -> None:
    """Let OpenCV and FFmpeg print nothing beside the one error of a program, and OpenCV use one thread.

    Decoding, finding, spotting, drawing and encoding run side by side instead. Without OpenCV, nothing is done.
    """
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    with contextlib.suppress(ImportError):
        import cv2

        cv2.setNumThreads(1)
