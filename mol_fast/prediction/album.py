"""What the report shows of the moments of a video, collected while they are spotted."""

from collections import deque
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from mol_fast.spotting import LATEST, Moment, RegionMotion, View, face_flow
from mol_fast.vision.align import Matrix, chained, inverse, warp

BINS = 480
"""Columns of the chart of motion."""
MOST_VIEWS = 40
"""Moments that are shown with pictures; the strongest ones."""
_STEP = 0.012  # seconds; frames that follow faster are left out
_QUALITY = 95  # of JPEG


class _Kept(NamedTuple):
    """A compressed frame."""

    number: int
    time: float
    jpeg: npt.NDArray[np.uint8]
    place: Matrix  # (2, 3), from the frame of the source to the aligned one
    landmarks: npt.NDArray[np.float32]  # (68, 2), in pixels of the aligned frame


class Album:
    """Collects the motion of all regions, and the views of the strongest moments.

    The aligned frames of the last 74 seconds are kept, compressed: 7 kB each, at most 80 a second.

    Args:
        start, end: first and last time of the video in seconds.

    Attributes:
        motion: the motion of all regions.
    """

    def __init__(self, start: float, end: float) -> None:
        self.motion = RegionMotion(start, end, BINS)
        self._kept: deque[_Kept] = deque()
        self._views: dict[int, tuple[float, View]] = {}

    def add(
        self,
        number: int,
        time: float,
        frame: npt.NDArray[np.uint8],
        landmarks: npt.NDArray[np.floating],
        place: Matrix,
    ) -> None:
        """Take the next frame: uint8 (size, size), aligned by `place`, with its landmarks (68, 2)."""
        import cv2

        if self._kept and time - self._kept[-1].time < _STEP:
            return
        _, jpeg = cv2.imencode(".jpg", frame, (cv2.IMWRITE_JPEG_QUALITY, _QUALITY))
        self._kept.append(_Kept(number, time, jpeg, place, landmarks.astype(np.float32)))
        while time - self._kept[0].time > LATEST:
            self._kept.popleft()

    def keep(self, moments: list[Moment]) -> None:
        """Keep the views of moments that are stronger than others, as soon as they are told."""
        for moment in moments:
            if len(self._views) == MOST_VIEWS:
                weakest = min(self._views, key=lambda onset: self._views[onset][0])
                if self._views[weakest][0] >= moment.strength:
                    continue
                del self._views[weakest]
            self._views[moment.onset] = moment.strength, self._view(moment)

    def view(self, onset: int) -> View | None:
        """Return the view of the moment that begins at a frame, None if stronger ones took its place."""
        return self._views.get(onset, (0.0, None))[1]

    def _view(self, moment: Moment) -> View:
        onset, *rest = (
            min(self._kept, key=lambda kept: abs(kept.number - number))
            for number in (moment.onset, moment.apex, moment.offset)
        )
        first = _decoded(onset)
        apex, offset = (_aligned(kept, onset.place) for kept in rest)
        return View(first, apex, offset, face_flow(first, apex, onset.landmarks), onset.place)


def _decoded(kept: _Kept) -> npt.NDArray[np.uint8]:
    import cv2

    return np.asarray(cv2.imdecode(kept.jpeg, cv2.IMREAD_GRAYSCALE), dtype=np.uint8)


def _aligned(kept: _Kept, place: Matrix) -> npt.NDArray[np.uint8]:
    """Return a frame as `place` would have aligned it."""
    frame = _decoded(kept)
    if kept.place is place:
        return frame
    return warp(frame, chained(inverse(kept.place), place))
