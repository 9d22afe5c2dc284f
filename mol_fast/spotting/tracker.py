"""Follow the regions of a face through a stream of aligned frames, without the motion of the head.

Flow is computed from a reference frame to each later one, so positions do not drift while the reference stays. It is
renewed every second, and positions go on from there. The motion of the head is fitted robustly, mostly to points that
move with the skull: shift, scale, roll, and small turns of a head of usual depth. What is left is motion of the face.
"""

import threading
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
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
_THREADS = 2
_LATE = 8  # most samples that are being made at a time, so that the threads do not run out of work
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
    """The frame that flow starts from."""

    frame: npt.NDArray[np.uint8]
    places: Layout
    time: float


class _Due(NamedTuple):
    """A sample that is being made.

    Attributes:
        time: in seconds.
        motion: from the reference, as from `face_motion`; None at the beginning of a segment.
        distance: of the eyes in the reference, in pixels.
        renews: the frame is the next reference.
    """

    time: float
    motion: Future[tuple[Array, Array]] | None
    distance: float
    renews: bool


class Tracker:
    """Follows the regions of one face. Keeps a few frames, however long the video is.

    Flows from one reference do not need each other, so two threads compute them, and up to eight samples are late.
    """

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_THREADS)
        self._own = threading.local()  # the flow of each thread
        self._sum = np.zeros((0, 0))
        self._times: list[float] = []
        self._landmarks: npt.NDArray[np.floating] = np.zeros((68, 2))
        self._reference: _Reference | None = None
        self._end = -np.inf  # time of the last frame
        self._due: deque[_Due] = deque()
        self._start = self._last = Sample(-np.inf, -1, np.zeros((len(REGIONS), 2)), np.zeros(6))

    def add(self, frame: npt.NDArray[np.uint8], landmarks: npt.NDArray[np.floating], time: float) -> list[Sample]:
        """Take the next frame. Returns samples of frames before it, once no more frames belong to them.

        Args:
            frame: uint8 (size, size), grey, aligned.
            landmarks: (68, 2) in pixels of `frame`.
            time: in seconds, later than that of the frame before.
        """
        if self._times and time - self._times[0] > _TOGETHER:
            self._begin_sample()
        self._sum = self._sum + frame if self._times else frame.astype(np.float64)
        self._times.append(time)
        self._landmarks = landmarks
        return self._made(_LATE)

    def finish(self) -> list[Sample]:
        """Return the samples of the last frames."""
        if self._times:
            self._begin_sample()
        return self._made(0)

    def _begin_sample(self) -> None:
        """Begin the sample of the frames that were added last."""
        frame = np.rint(self._sum / len(self._times)).astype(np.uint8)
        time = float(np.mean(self._times))
        self._times = []
        last = self._reference
        renews = last is None or time - self._end > GAP or time - last.time >= _RENEW
        if last is None or time - self._end > GAP:
            self._due.append(_Due(time, None, 1.0, renews))
        else:
            motion = self._threads.submit(self._motion, last.frame, frame, last.places)
            self._due.append(_Due(time, motion, last.places.distance, renews))
        self._end = time
        if renews:
            self._reference = _Reference(frame, layout(self._landmarks), time)

    def _motion(
        self, first: npt.NDArray[np.uint8], second: npt.NDArray[np.uint8], places: Layout
    ) -> tuple[Array, Array]:
        """Return the motion of the face between two frames, see `face_motion`."""
        if not hasattr(self._own, "flow"):
            self._own.flow = dense_flow()
        return face_motion(self._own.flow.calc(first, second, None), places)

    def _made(self, most: int) -> list[Sample]:
        """Wait until at most `most` samples are due, and return the others."""
        made = []
        while len(self._due) > most:
            due = self._due.popleft()
            if due.motion is None:
                self._last = Sample(due.time, self._last.segment + 1, np.zeros((len(REGIONS), 2)), np.zeros(6))
            else:
                moved, head = due.motion.result()
                start = self._start
                self._last = Sample(due.time, start.segment, start.positions + moved, start.head + head / due.distance)
            if due.renews:
                self._start = self._last
            made.append(self._last)
        return made


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
