"""Draw a prepared video, to be looked at: `python -m mol_fast.show VIDEO`."""

import sys
from pathlib import Path

import torch

from mol_fast.cli import run_program
from mol_fast.data.clips import cut_window
from mol_fast.data.store import Video
from mol_fast.utils.errors import UserError
from mol_fast.utils.files import write_atomic
from mol_fast.vision.pictures import (
    Picture,
    captioned,
    encoded_png,
    flow_picture,
    frame_picture,
    full_colour,
    grid,
    wheel_picture,
)
from mol_fast.vision.sizes import WINDOW


def main(argv: list[str] | None = None) -> int:
    """Run the program; returns its exit code."""
    return run_program(run, argv, "data.show", "train")


def run(video: Path, /, window: int = 0, out: Path | None = None) -> None:
    """Draw the frames of a window of a prepared video with their landmarks, and the flow between them in colour.

    Args:
        video: Prepared .safetensors file.
        window: Which window, from 0.
        out: PNG file to write; by default NAME.png in the current folder.

    Raises:
        UserError: the file is not a prepared video, or has no such window.
    """
    described = Video.from_file(video)
    if not 0 <= window < described.interval:
        raise UserError(f"--window is {window}, but {video} has windows 0 to {described.interval - 1}.")
    target = out or Path(f"{video.stem}.png")
    lengths = described.read().flow.float().norm(dim=1)
    print(f"{described.source}, subject {described.subject}, video {described.name}, label {described.label}")
    print(f"{described.frames} frames, {described.interval} windows of {WINDOW} frames {described.interval} apart")
    print(f"flow over {described.interval} frames: mean {lengths.mean():.3f} px, largest {lengths.max():.2f} px")
    write_atomic(target, encoded_png(window_picture(described, window)))
    print(f"written to {target}")


def window_picture(video: Video, window: int) -> Picture:
    """The 8 frames of a window with their landmarks, and under them the flow from each to the next.

    Raises:
        UserError: the file is missing or corrupt.
        ValueError: the video has no such window.
    """
    clip = cut_window(video.read(), window)
    indices = range(window, video.frames, video.interval)
    scale = full_colour(clip.flow.transpose(0, 1))
    frames = [
        captioned(frame_picture(frame, points), f"frame {index}")
        for frame, points, index in zip(clip.frames, clip.landmarks, indices, strict=False)
    ]
    flows = [
        captioned(flow_picture(flow, scale), f"flow {index} to {index + video.interval}")
        for flow, index in zip(torch.unbind(clip.flow, 1), indices, strict=False)
    ]
    wheel = captioned(wheel_picture(96), f"rim: {scale:.2f} px")
    return grid([frames, [*flows, wheel]])


if __name__ == "__main__":
    sys.exit(main())
