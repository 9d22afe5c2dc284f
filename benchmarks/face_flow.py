"""Error and time of optical flows that could follow a face: python benchmarks/face_flow.py

Embedded long videos, of which the true flow is known: the mean error of the displacement that the spotter averages
around each place of the face, from four reference frames each of two subjects to the 30 frames (1 s) and to the 6
frames (0.2 s) after them. Times are medians over all pairs, with one thread.
"""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
import torch

from mol_fast.data import generate_long
from mol_fast.spotting.face_motion import Reference, dense_flow, motion_at
from mol_fast.spotting.regions import Array, layout
from mol_fast.vision.video import Picture

SUBJECTS = (1, 2)
REFERENCES = (10, 70, 130, 190)
LATEST, SOON = 30, 6  # frames after a reference

Landmarks = npt.NDArray[np.floating]
Motion = Callable[[Picture, Landmarks], Array]
"""Returns the displacement (P, 2) of the places of a face to a frame with these landmarks."""
Method = Callable[[Picture, Landmarks], Motion]
"""Returns the motion from a reference frame with these landmarks."""


def dis(preset: int, scale: int, refinements: int | None = None, steps: int | None = None, stride: int = 4) -> Any:
    """Return OpenCV's flow of inverse search with these settings; None are those of the preset."""
    flow = cv2.DISOpticalFlow.create(preset)
    flow.setFinestScale(scale)
    flow.setPatchStride(stride)
    if refinements is not None:
        flow.setVariationalRefinementIterations(refinements)
    if steps is not None:
        flow.setGradientDescentIterations(steps)
    return flow


def farneback(window: int) -> Any:
    """Return Farnebäck's flow."""
    return cv2.FarnebackOpticalFlow.create(winSize=window)


def in_frame(flow: Any) -> Method:
    """Return the method that reads flow of the whole frame."""

    def start(first: Picture, before: Landmarks) -> Motion:
        places = layout(before)
        return lambda second, after: motion_at(flow.calc(first, second, None), places)

    return start


def in_part(flow: Any) -> Method:
    """Return the method that reads flow of the face alone."""

    def start(first: Picture, before: Landmarks) -> Motion:
        reference = Reference(first, before)
        return lambda second, after: reference.displacement_to(second, after, flow)

    return start


def sparse(window: int) -> Method:
    """Return the method of Lucas and Kanade, at the places."""
    nothing: Any = None
    size = window, window

    def start(first: Picture, before: Landmarks) -> Motion:
        points = layout(before).points.astype(np.float32)
        return lambda second, after: cv2.calcOpticalFlowPyrLK(first, second, points, nothing, winSize=size)[0] - points

    return start


FAST, MEDIUM = cv2.DISOPTICAL_FLOW_PRESET_FAST, cv2.DISOPTICAL_FLOW_PRESET_MEDIUM
METHODS: dict[str, Method] = {
    "DIS around the face, fast, finest scale 0, 2 refinements (used)": in_part(dense_flow()),
    "the same, whole frame": in_frame(dense_flow()),
    "the same, 12 steps instead of 16": in_part(dis(FAST, 0, 2, 12)),
    "the same, 6 steps, stride 5 instead of 4": in_part(dis(FAST, 0, 2, 6, 5)),
    "the same, 1 refinement": in_part(dis(FAST, 0, 1)),
    "DIS, fast, finest scale 0, 5 refinements": in_frame(dis(FAST, 0)),
    "DIS, medium, finest scale 0": in_frame(dis(MEDIUM, 0, stride=3)),
    "DIS, fast, finest scale 1": in_frame(dis(FAST, 1)),
    "Farnebäck, window 15": in_frame(farneback(15)),
    "Farnebäck, window 21": in_frame(farneback(21)),
    "sparse Lucas-Kanade, window 27": sparse(27),
}


class Measured(NamedTuple):
    """What was measured of a method: a value for each pair of frames."""

    later: list[bool]  # than `SOON`
    errors: list[float]  # in pixels
    seconds: list[float]


def measure(subject: int, results: dict[str, Measured]) -> None:
    """Measure all methods in turn on the pairs of a subject."""
    video = generate_long(subject, seconds=(max(REFERENCES) + LATEST + 1) / 30)
    chunks = list(video.chunks())
    frames, landmarks = (
        np.concatenate([getattr(chunk, name).numpy() for chunk in chunks]) for name in ("frames", "landmarks")
    )
    for first in REFERENCES:
        places = layout(landmarks[first])
        motions = {name: method(frames[first], landmarks[first]) for name, method in METHODS.items()}
        for after in range(1, LATEST + 1):
            second = first + after
            true = motion_at(np.ascontiguousarray(video.flow(first, second).numpy().transpose(1, 2, 0)), places)
            for name, motion in motions.items():
                motion(frames[second], landmarks[second])  # the caches are warm afterwards
                started = time.perf_counter()
                found = motion(frames[second], landmarks[second])
                spent = time.perf_counter() - started
                error = float(np.linalg.norm(found - true, axis=-1).mean())
                for values, value in zip(results[name], (after > SOON, error, spent), strict=True):
                    values.append(value)


def main() -> None:
    """Print the table in Markdown."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    results = {name: Measured([], [], []) for name in METHODS}
    for subject in SUBJECTS:
        measure(subject, results)
    print("| flow | error, up to 1 s | error, up to 0.2 s | time |\n|---|---|---|---|")
    for name, (later, errors, seconds) in results.items():
        soon = np.mean([error for error, late in zip(errors, later, strict=True) if not late])
        print(f"| {name} | {np.mean(errors):.4f} px | {soon:.4f} px | {1000 * np.median(seconds):.1f} ms |")


if __name__ == "__main__":
    main()
