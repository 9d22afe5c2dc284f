"""Follow the regions of a face through a stream of aligned frames, without the motion of the head.

Flow is computed from a reference frame to each later one, so positions do not drift while the reference stays. It is
renewed every second, and positions go on from there. The motion of the head is fitted robustly, mostly to points that
move with the skull: shift, scale, roll, and small turns of a head of usual depth. What is left is motion of the face.
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from mol_fast.spotting.regions import OF_SKULL, REGIONS, Array, Layout, layout, region_means

GAP = 0.4
"""Longest time without a frame, in seconds; after a longer one, positions start anew."""
_RENEW = 1.0  # seconds after which the reference frame is renewed
_TOGETHER = 0.012  # frames within these seconds are averaged: nothing moves faster, and noise shrinks
_PATCH = 0.2  # side of the square over which flow is averaged, in distances of the eyes
_LOOSE = 0.25  # weight of points of the face in the fit of the head; points of the skull have 1
_SCALE = 0.06  # pixels; points that are off the fit of the head by more count less
_ROUNDS = 6
_STIFF = np.diag([0, 0, 0, 0, 1e-3, 1e-3])  # turns are 0 where nothing shows them


class Sample(NamedTuple):
    """Positions of all regions at one time; they compare within a segment only.

    Attributes:
        time: in seconds.
        segment: number of the segment; samples of one segment follow each other without a gap.
        positions: (regions, 2), (x, y) in the face, in distances of the eyes.
        head: (6,) shift in x and y, scale, roll, yaw and pitch of the head; angles in radians.
    """

    time: float
    segment: int
    positions: Array
    head: Array


class _Reference(NamedTuple):
    """The frame that flow starts from, and the sample there."""

    frame: npt.NDArray[np.uint8]
    places: Layout
    sample: Sample


class Tracker:
    """Follows the regions of one face. Keeps two frames, however long the video is."""

    def __init__(self) -> None:
        self._flow = dense_flow()
        self._sum = np.zeros((0, 0))
        self._times: list[float] = []
        self._landmarks: npt.NDArray[np.floating] = np.zeros((68, 2))
        self._reference: _Reference | None = None
        self._last = Sample(-np.inf, -1, np.zeros((len(REGIONS), 2)), np.zeros(6))

    def add(self, frame: npt.NDArray[np.uint8], landmarks: npt.NDArray[np.floating], time: float) -> Sample | None:
        """Take the next frame. Returns the sample of the frames before it, once no more belong to it.

        Args:
            frame: uint8 (size, size), grey, aligned.
            landmarks: (68, 2) in pixels of `frame`.
            time: in seconds, later than that of the frame before.
        """
        sample = self.finish() if self._times and time - self._times[0] > _TOGETHER else None
        self._sum = self._sum + frame if self._times else frame.astype(np.float64)
        self._times.append(time)
        self._landmarks = landmarks
        return sample

    def finish(self) -> Sample | None:
        """Return the sample of the last frames, or None if there are none."""
        if not self._times:
            return None
        frame = np.rint(self._sum / len(self._times)).astype(np.uint8)
        time = float(np.mean(self._times))
        self._times = []
        if self._reference is None or time - self._last.time > GAP:
            self._last = Sample(time, self._last.segment + 1, np.zeros((len(REGIONS), 2)), np.zeros(6))
            self._reference = _Reference(frame, layout(self._landmarks), self._last)
            return self._last
        places, start = self._reference.places, self._reference.sample
        moved, head = face_motion(self._flow.calc(self._reference.frame, frame, None), places)
        self._last = Sample(time, start.segment, start.positions + moved, start.head + head / places.distance)
        if time - start.time >= _RENEW:
            self._reference = _Reference(frame, layout(self._landmarks), self._last)
        return self._last


def dense_flow() -> Any:
    """Return OpenCV's flow of inverse search (DIS), at full resolution."""
    import cv2

    flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
    flow.setFinestScale(0)  # full resolution: half the error
    flow.setVariationalRefinementIterations(2)  # instead of 5: the same error in two thirds of the time
    return flow


def motion_at(flow: npt.NDArray[np.float32], places: Layout) -> Array:
    """Return the motion (P, 2) of places, in pixels: flow (H, W, 2) averaged around each."""
    import cv2

    side = max(1, round(_PATCH * places.distance))
    points = places.points.astype(np.float32)[None]
    nothing: Any = None
    smooth = cv2.blur(flow, (side, side))
    motion = cv2.remap(smooth, points, nothing, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(motion[0], dtype=np.float64)


def face_motion(flow: npt.NDArray[np.float32], places: Layout) -> tuple[Array, Array]:
    """Return the motion of the regions without that of the head, and the motion of the head.

    Args:
        flow: (H, W, 2) in pixels.
        places: the face in the frame that the flow starts from.

    Returns:
        (regions, 2) in distances of the eyes, and (6,) as from `head_motion`.
    """
    motion = motion_at(flow, places)
    head = head_motion(motion, places)
    return region_means(motion - places.pose @ head) / places.distance, head


def head_motion(motion: Array, places: Layout) -> Array:
    """Return the motion of the head (6,), in pixels, that explains the motion (P, 2) of places.

    Robust least squares, with the weights of a Cauchy distribution.
    """
    prior = np.where(OF_SKULL, 1.0, _LOOSE)
    weight, head = prior, np.zeros(6)
    pose = places.pose.reshape(-1, 6)
    for _ in range(_ROUNDS):
        weighted = (places.pose * weight[:, None, None]).reshape(-1, 6)
        head = np.asarray(np.linalg.solve(weighted.T @ pose + _STIFF, weighted.T @ motion.reshape(-1)), np.float64)
        rest = motion - places.pose @ head
        weight = prior / (1 + np.square(rest / _SCALE).sum(1))
    return head
