"""Settings of OpenCV, FFmpeg and OpenMP that programs make before they read videos."""

import contextlib
import os


def quiet_decoders() -> None:
    """Let OpenCV and FFmpeg print nothing beside the one error of a program, and OpenCV use one thread.

    Decoding, finding, spotting, drawing and encoding run side by side instead. So the threads of PyTorch, if it is
    imported later, sleep while they wait for each other, instead of holding a core.
    """
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    with contextlib.suppress(ImportError):
        import cv2

        cv2.setNumThreads(1)
