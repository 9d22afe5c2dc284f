"""Follow the regions of a face through a stream of aligned frames, without the motion of the head.

Flow is computed from a reference frame to each later one, so positions do not drift while the reference stays. It is
renewed every second, and positions go on from there.
"""

import threading
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from mol_fast.spotting.face_motion import Reference, dense_flow
from mol_fast.spotting.regions import REGIONS, Array

GAP = 0.4
"""Longest time without a frame, in seconds; after a longer one, positions start anew."""
_RENEW = 1.0  # seconds after which the reference frame is renewed
_TOGETHER = 0.012  # frames within these seconds are averaged: nothing moves faster, and noise shrinks
_THREADS = 2
_LATE = 8  # most samples that are being made at a time, so that the threads do not run out of work


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


class _Due(NamedTuple):
    """A sample that is being made.

    Attributes:
        time: in seconds.
        motion: see `Reference.motion_to`; None at the beginning of a segment.
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
        self._frames: list[npt.NDArray[np.uint8]] = []  # of the next sample
        self._times: list[float] = []
        self._landmarks: npt.NDArray[np.floating] = np.zeros((68, 2))
        self._reference: Reference | None = None
        self._renewed = -np.inf  # time of the reference
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
        self._frames.append(frame.copy())
        self._times.append(time)
        self._landmarks = landmarks.copy()
        return self._made(_LATE)

    def finish(self) -> list[Sample]:
        """Return the samples of the last frames."""
        if self._times:
            self._begin_sample()
        return self._made(0)

    def _begin_sample(self) -> None:
        """Begin the sample of the frames that were added last."""
        frame = np.rint(np.mean(self._frames, 0)).astype(np.uint8) if len(self._frames) > 1 else self._frames[0]
        time = float(np.mean(self._times))
        self._frames, self._times = [], []
        anew = self._reference is None or time - self._end > GAP
        renews = anew or time - self._renewed >= _RENEW
        if self._reference is None or anew:
            self._due.append(_Due(time, None, 1.0, renews))
        else:
            motion = self._threads.submit(self._motion, self._reference, frame, self._landmarks)
            self._due.append(_Due(time, motion, self._reference.places.distance, renews))
        self._end = time
        if renews:
            self._reference, self._renewed = Reference(frame, self._landmarks), time

    def _motion(
        self, reference: Reference, frame: npt.NDArray[np.uint8], landmarks: npt.NDArray[np.floating]
    ) -> tuple[Array, Array]:
        if not hasattr(self._own, "flow"):
            self._own.flow = dense_flow()
        return reference.motion_to(frame, landmarks, self._own.flow)

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
