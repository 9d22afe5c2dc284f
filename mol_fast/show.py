"""The program that draws a prepared video, or the faces of a set: `python -m mol_fast.show VIDEO`."""

import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from mol_fast.cli import run_program
from mol_fast.data.clips import Clip, crop_clip, cut_window, normalise_frames
from mol_fast.data.store import PreparedSet, Video
from mol_fast.utils.errors import UserError
from mol_fast.utils.files import write_atomic
from mol_fast.vision.pictures import (
    PREDICTED,
    Picture,
    captioned,
    encoded_png,
    flow_picture,
    frame_picture,
    full_colour,
    grid,
    mark,
    wheel_picture,
)
from mol_fast.vision.sizes import MARGIN, WINDOW

_FACES, _ROW = 40, 8
"""Most faces of a picture of a set, and faces in a row."""
_ZOOM = 2
"""Zoom of a picture with predictions, to tell true and predicted landmarks apart."""


def main(argv: list[str] | None = None) -> int:
    """Run the program and return the exit code."""
    return run_program(run, argv, "show", "train")


def run(video: Path, /, weights: Path | None = None, window: int = 0, out: Path | None = None) -> None:
    """Draw the frames of a window of a prepared video with their landmarks, and the flow between them in colour.

    With --weights, predicted landmarks and flow are drawn beside the true ones. Of a prepared set, draw the first
    frames of up to 40 videos.

    Args:
        video: Prepared .safetensors file, or folder of a prepared set.
        weights: Weights of the model that predicts the window: folder of a run or fold, weights file (.safetensors),
            general (the weights that come with mol-fast), or owner/name of the hub.
        window: Number of the window, counted from 0.
        out: PNG file to write. Default: NAME.png in the current folder.

    Raises:
        UserError: the file is not a prepared video, has no such window, or the weights cannot be used; or the folder is
            not a prepared set.
    """
    if out is not None and out.suffix.lower() != ".png":
        raise UserError(f"--out is {out}, give the name of a PNG file, which ends in .png")
    if video.is_dir():
        if weights is not None or window:
            raise UserError(f"{video} is a folder: --weights and --window need one of its videos; give its file")
        target = out or Path(f"{video.resolve().name}.png")
        write_atomic(target, encoded_png(faces_picture(PreparedSet.open(video).videos)))
        print(f"written to {target}")
        return
    described = Video.from_file(video)
    if not 0 <= window < described.interval:
        raise UserError(f"--window is {window}, must be from 0 to {described.interval - 1} for {video}")
    target = out or Path(f"{video.stem}.png")
    described.check()
    data = described.read()
    lengths = data.flow.float().norm(dim=1)
    print(f"{described.source}, subject {described.subject}, video {described.name}, label {described.label}")
    print(f"{described.frames} frames, {described.interval} windows of {WINDOW} frames {described.interval} apart")
    print(f"flow over {described.interval} frames: mean {lengths.mean():.3f} px, largest {lengths.max():.2f} px")
    clip = cut_window(data, window)
    indices = range(window, described.frames, described.interval)[:WINDOW]
    picture = true_picture(clip, indices) if weights is None else predicted_picture(clip, indices, weights)
    write_atomic(target, encoded_png(picture))
    print(f"written to {target}")


def faces_picture(videos: Sequence[Video]) -> Picture:
    """Draw the first frames of up to 40 videos, spread evenly over `videos`, with their landmarks.

    Raises:
        UserError: a video cannot be read.
    """
    count = min(_FACES, len(videos))
    tiles = []
    for place in range(count):
        video = videos[round(place * (len(videos) - 1) / max(count - 1, 1))]  # no step of a whole number of classes
        data = video.read()
        face = frame_picture(data.frames[0], data.landmarks[0])
        tiles.append(captioned(face, f"{video.subject} {video.label}"))
    return grid([tiles[first : first + _ROW] for first in range(0, count, _ROW)])


def true_picture(clip: Clip, indices: range) -> Picture:
    """Draw the frames of a window, numbered by `indices`, with their landmarks, and under them the flow."""
    scale = full_colour(clip.flow.transpose(0, 1))
    frames = [
        captioned(frame_picture(frame, points), f"frame {index}")
        for frame, points, index in zip(clip.frames, clip.landmarks, indices, strict=True)
    ]
    return grid([frames, [*_flows(clip.flow, indices, scale, "flow"), _wheel(scale)]])


def predicted_picture(clip: Clip, indices: range, weights: Path) -> Picture:
    """Draw what the model of `weights` reads and predicts: frames 1 to 7 of the centre crop, with true and predicted
    landmarks, true flow, and predicted flow.

    Raises:
        UserError: the weights cannot be used.
    """
    from mol_fast.nn.weights import load_weights

    model, info = load_weights(weights)
    clip = crop_clip(clip, MARGIN, MARGIN)
    with torch.inference_mode():
        output = model(normalise_frames(clip.frames)[None, None])
    predicted = info["classes"][int(output.logits.argmax())]
    print(f"predicted class: {predicted}")
    scale = full_colour(clip.flow.transpose(0, 1))
    frames = []
    for step, index in enumerate(indices[1:], start=1):
        picture = frame_picture(clip.frames[step], clip.landmarks[step], _ZOOM)
        if output.landmarks is not None:
            mark(picture, output.landmarks[0, step - 1], _ZOOM, PREDICTED)
        frames.append(captioned(picture, f"frame {index}: landmarks, red true, blue predicted"))
    rows = [frames, _flows(clip.flow, indices, scale, "true flow", _ZOOM)]
    if output.flow is not None:
        rows.append(_flows(output.flow[0], indices, scale, "predicted flow", _ZOOM))
    rows[-1].append(_wheel(scale))
    return grid(rows)


def _flows(flow: Tensor, indices: range, scale: float, name: str, zoom: int = 1) -> list[Picture]:
    """Draw the 7 fields of `flow (2, 7, H, W)`, each with a caption."""
    pairs = zip(torch.unbind(flow, 1), indices, indices[1:], strict=False)
    return [captioned(flow_picture(part, scale, zoom), f"{name} {first} to {last}") for part, first, last in pairs]


def _wheel(scale: float) -> Picture:
    return captioned(wheel_picture(96), f"rim: {scale:.2f} px")


if __name__ == "__main__":
    sys.exit(main())
