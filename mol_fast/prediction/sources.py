"""Open an input of the command line: a video file, a folder of images, or a prepared file."""

import os
from pathlib import Path

from mol_fast.utils.errors import UserError
from mol_fast.vision.read_video import VideoFile
from mol_fast.vision.video import FrameArray, FrameSource, ImageFolder


def open_source(path: str | os.PathLike[str], fps: float | None = None) -> FrameSource:
    """Open a video file, a folder of images, or a prepared .safetensors file.

    Args:
        path: the file or folder.
        fps: frames per second; replaces the time stamps of a video file. Folders and prepared files have none of
            their own.

    Raises:
        UserError: `path` does not exist, or cannot be read.
    """
    source_path = Path(path)
    if not source_path.exists():
        raise UserError(f"{path} does not exist, give a video file, a folder of images, or a prepared file")
    if source_path.is_dir():
        return ImageFolder(source_path, fps)
    if not source_path.is_file():
        raise UserError(f"{path} is no file but a pipe or a device, save the video to a file first")
    if source_path.suffix == ".safetensors":
        from mol_fast.data.store import Video  # with PyTorch, which videos do not need

        frames = Video.from_file(source_path).read().frames.numpy()
        return FrameArray(frames, str(path), fps, aligned=True)
    return VideoFile(source_path, fps)
