"""Compare `mol_fast.flow` with TV-L1, and `mol_fast.landmarks` with the points of the finder of faces.

    python benchmarks/single_tasks.py [--weights WEIGHTS]

Frames are the first window of every video of the subjects that the weights hold out, from the embedded set: aligned
crops with exact flow and landmarks. Errors count the 128 x 128 pixels that the network sees. The finder looks at the
same crops; frames in which it finds no face are left out of its error. Times are processor time of one thread, without
loading. Prints a table of Markdown.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import mol_fast
from mol_fast import tvl1
from mol_fast.data.clips import Clip, cut_window
from mol_fast.data.loading import open_data
from mol_fast.metrics import FlowSums, LandmarkSums, flow_sums, landmark_sums
from mol_fast.nn.weights import GENERAL, find_weights, load_weights
from mol_fast.vision.finders import open_finder
from mol_fast.vision.sizes import CROP, MARGIN

SEEN = (..., slice(MARGIN, MARGIN + CROP), slice(MARGIN, MARGIN + CROP))


def timed(call: Callable[[], Any]) -> tuple[Any, float]:
    """Return the result of `call`, and the processor seconds that it took."""
    before = time.process_time()
    result = call()
    return result, time.process_time() - before


def held_out_clips(weights: Path) -> list[Clip]:
    """Return the first window of every video of the subjects that the weights hold out."""
    held_out = {tuple(subject) for subject in load_weights(weights)[1]["test_subjects"]}
    videos, _ = open_data()
    chosen = [video for video in videos if tuple(video.id.person) in held_out and video.interval]
    return [cut_window(video.read(), 0) for video in chosen]


def flow_row(name: str, clips: list[Clip], estimate: Callable[[Tensor, Tensor], Tensor]) -> str:
    """Return the line of a method that estimates flow (N, 2, 144, 144) of grey frames (N, 144, 144)."""
    sums, seconds, pairs = FlowSums(), 0.0, 0
    for clip in clips:
        found, taken = timed(lambda clip=clip: estimate(clip.frames[:-1], clip.frames[1:]))
        sums += flow_sums(found[SEEN].movedim(0, 1)[None], clip.flow.float()[SEEN][None])
        seconds, pairs = seconds + taken, pairs + len(found)
    scores = sums.scores()
    assert scores.moving_error is not None
    assert scores.moving_zero_error is not None
    moving = f"{scores.moving_error:.3f} px ({scores.moving_error / scores.moving_zero_error:.0%})"
    return f"| {name} | {moving} | {scores.error:.3f} px | {1000 * seconds / pairs:.0f} |"


def landmark_row(name: str, clips: list[Clip], estimate: Callable[[Tensor], Tensor]) -> str:
    """Return the line of a method that finds landmarks (N, 68, 2) of frames (N, 144, 144), NaN where it finds none."""
    sums, seconds, frames = LandmarkSums(), 0.0, 0
    for clip in clips:
        found, taken = timed(lambda clip=clip: estimate(clip.frames))
        seen = ~found.isnan().any(dim=(-1, -2))
        if seen.any():
            sums += landmark_sums(found[seen], clip.landmarks[seen])
        seconds, frames = seconds + taken, frames + len(found)
    scores = sums.scores()
    return f"| {name} | {scores.error:.1f} % | {scores.frames} of {frames} | {1000 * seconds / frames:.0f} |"


def finder_points() -> Callable[[Tensor], Tensor]:
    """Return a function that finds landmarks with the default finder, frame by frame."""
    finder = open_finder()

    def find(frames: Tensor) -> Tensor:
        faces = [finder.find(frame) for frame in frames.numpy()]
        return torch.from_numpy(
            np.stack([np.full((68, 2), np.nan) if face is None else face.landmarks for face in faces])
        )

    return find


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, default=Path(GENERAL), help="weights that hold out embedded subjects")
    weights = find_weights(parser.parse_args().weights)
    torch.set_num_threads(1)
    clips = held_out_clips(weights)

    def flow(previous: Tensor, following: Tensor) -> Tensor:
        return mol_fast.flow(previous, following, weights, aligned=True, device="cpu")

    def single_flow(previous: Tensor, following: Tensor) -> Tensor:
        pairs = zip(previous.split(1), following.split(1), strict=True)
        return torch.cat([flow(*pair) for pair in pairs])

    def landmarks(frames: Tensor) -> Tensor:
        return mol_fast.landmarks(frames, weights, aligned=True, device="cpu")

    flow(clips[0].frames[:-1], clips[0].frames[1:])  # loads the weights
    landmarks(clips[0].frames)
    print("| flow | moving pixels (of zero flow) | all pixels | ms a pair |\n|---|---|---|---|")
    print(flow_row("`mol_fast.flow`, pairs of a video", clips, flow), flush=True)
    print(flow_row("`mol_fast.flow`, pair by pair", clips, single_flow), flush=True)
    print(flow_row("TV-L1 (`mol_fast.tvl1`)", clips, tvl1.flow), flush=True)
    print("\n| landmarks | error | frames | ms a frame |\n|---|---|---|---|")
    print(landmark_row("`mol_fast.landmarks`", clips, landmarks), flush=True)
    print(landmark_row("the finder's points (MediaPipe)", clips, finder_points()), flush=True)


if __name__ == "__main__":
    main()
