"""Spot moments in a stream of aligned frames: memory does not grow with the video."""

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from mol_fast.spotting.moved import Region, moved_regions
from mol_fast.spotting.movements import LONGEST, Movement, even_course, find_movements
from mol_fast.spotting.region_motion import RegionMotion
from mol_fast.spotting.regions import Array
from mol_fast.spotting.tracker import Sample, Tracker
from mol_fast.utils.intervals import Interval, Kind, kind_of
from mol_fast.vision.facs import PredictedUnit

LEAST_FPS = 15.0
"""Frames per second below which only macro-expressions are spotted: a micro-expression would show in too few frames."""
_ROUNDED = 1.01  # time stamps in whole milliseconds make 15 frames per second 14.93
_BLOCK = 60.0  # seconds that are searched together; noise and turns are learned in each block
_MARGIN = LONGEST + 1.0  # seconds at both ends of a block in which the block beside it finds the moments
LATEST = _BLOCK + 2 * _MARGIN + LONGEST
"""Seconds after its onset within which a moment is told."""


@dataclass(frozen=True)
class Moment:
    """A movement of the face that looks like an expression.

    Attributes:
        onset, apex, offset: numbers of frames.
        onset_seconds, apex_seconds, offset_seconds: the time stamps of these frames.
        kind: "micro" up to half a second, else "macro".
        strength: displacement of the region that moves most, in per cent of the distance of the eyes.
        regions: the regions that moved at least half as much, strongest first.
        label, probability: its class and the probability of that, 0..1, once it is recognised.
        person: whose face it is, if there are several.
        motion: (regions, 2), displacement of each of `REGIONS` from onset to apex, in distances of the eyes.
        sentence: what moves, in words with action units, once it is explained.
        units: action units that a model predicts, most probable first; None if it does not predict any unit.
    """

    onset: int
    apex: int
    offset: int
    onset_seconds: float
    apex_seconds: float
    offset_seconds: float
    kind: Kind
    strength: float
    regions: tuple[Region, ...]
    label: str | None = None
    probability: float | None = None
    person: str | None = None
    motion: Array | None = field(default=None, compare=False, repr=False)
    sentence: str | None = None
    units: tuple[PredictedUnit, ...] | None = None

    @property
    def interval(self) -> Interval:
        """The moment as scores take it."""
        return Interval(self.onset, self.offset, self.kind, self.apex, self.label)


class Spotter:
    """Spots the moments of one face.

    Give every frame that shows the face to `add`, then call `finish`. Moments come at most 70 seconds late. A gap of
    more than 0.4 seconds between frames starts anew: nothing is spotted across it.

    Args:
        motion: receives how far the regions move over time, None if this is not wanted.
    """

    def __init__(self, motion: RegionMotion | None = None) -> None:
        self._motion = motion
        self._tracker = Tracker()
        self._samples: list[Sample] = []
        self._frames: list[tuple[float, int]] = []
        self._done = -np.inf  # moments with an apex up to this time are told
        self._last = -1  # last frame of the last moment

    def add(
        self, frame: npt.NDArray[np.uint8], landmarks: npt.NDArray[np.floating], time: float, number: int
    ) -> list[Moment]:
        """Take the next frame. Returns moments that are complete, often none.

        Args:
            frame: uint8 (size, size), grey, aligned; the face may drift in it slowly.
            landmarks: (68, 2) in pixels of `frame`.
            time: time stamp in seconds.
            number: number of the frame in the video.

        Raises:
            ValueError: the frame is not uint8 (size, size), the landmarks are not finite (68, 2), or time or number
                do not grow.
        """
        if frame.dtype != np.uint8 or frame.ndim != 2 or frame.shape[0] != frame.shape[1]:
            raise ValueError(f"frame must be uint8 (size, size), got {frame.dtype} {frame.shape}")
        if landmarks.shape != (68, 2) or not np.isfinite(landmarks).all():
            raise ValueError(f"landmarks must be (68, 2) and finite, got shape {landmarks.shape}")
        if self._frames and not (time > self._frames[-1][0] and number > self._frames[-1][1]):
            raise ValueError(f"time and number must grow, got {time} and {number} after {self._frames[-1]}")
        moments = self._take(self._tracker.add(frame, landmarks, time))
        self._frames.append((time, number))
        return moments

    def finish(self) -> list[Moment]:
        """Return the moments at the end of the video."""
        return self._take(self._tracker.finish()) + self._search(np.inf)

    def _take(self, samples: list[Sample]) -> list[Moment]:
        moments = []
        for sample in samples:
            if self._samples and sample.segment != self._samples[-1].segment:
                moments += self._search(np.inf)
                self._forget(sample.time)
            self._samples.append(sample)
            if sample.time - self._samples[0].time >= _BLOCK + 2 * _MARGIN:
                moments += self._search(sample.time - _MARGIN)
                self._forget(self._done - _MARGIN)
        return moments

    def _forget(self, before: float) -> None:
        """Drop samples and frames before a time."""
        self._samples = [sample for sample in self._samples if sample.time >= before]
        self._frames = [frame for frame in self._frames if frame[0] >= before]

    def _search(self, until: float) -> list[Moment]:
        """Return the moments with an apex after those told, up to a time."""
        if not self._samples:
            return []
        times, positions, head = (
            np.array([getattr(sample, name) for sample in self._samples]) for name in ("time", "positions", "head")
        )
        slow = len(times) > 1 and is_slow(1 / float(np.median(np.diff(times))))
        course = even_course(times, positions, head)
        moments = []
        if course and self._motion:
            self._motion.add(course, self._done, until)
        for movement in find_movements(course) if course else ():
            if self._done < movement.apex <= until:
                moment = self._moment(movement)
                if moment and not (slow and moment.kind == "micro"):
                    moments.append(moment)
                    self._last = moment.offset
        self._done = min(until, float(times[-1]))
        return moments

    def _moment(self, movement: Movement) -> Moment | None:
        """Return the movement in frames, or None if the moment before it leaves no frame of it."""
        times = np.array([time for time, _ in self._frames])
        places = [int(np.abs(times - time).argmin()) for time in (movement.onset, movement.apex, movement.offset)]
        while places[0] < places[1] and self._frames[places[0]][1] <= self._last:
            places[0] += 1
        (onset_seconds, onset), (apex_seconds, apex), (offset_seconds, offset) = (self._frames[at] for at in places)
        if not self._last < onset < offset:
            return None
        kind = kind_of(round(offset_seconds - onset_seconds, 6))
        seconds = onset_seconds, apex_seconds, offset_seconds
        strength, regions = 100 * movement.strength, moved_regions(movement.motion)
        return Moment(onset, apex, offset, *seconds, kind, strength, regions, motion=movement.motion)


def is_slow(fps: float) -> bool:
    """Return whether only macro-expressions are spotted at so many frames per second."""
    return fps * _ROUNDED < LEAST_FPS


def spot(
    frames: Iterable[npt.NDArray[np.uint8]],
    landmarks: Iterable[npt.NDArray[np.floating]],
    times: Iterable[float],
) -> list[Moment]:
    """Spot the moments in aligned frames of one face, numbered from 0.

    Args:
        frames: uint8 (size, size), grey, aligned.
        landmarks: (68, 2) for each frame, in its pixels.
        times: time stamp of each frame in seconds.

    Raises:
        ValueError: see `Spotter.add`.
    """
    spotter = Spotter()
    moments = []
    for number, (frame, points, time) in enumerate(zip(frames, landmarks, times, strict=True)):
        moments += spotter.add(frame, points, time, number)
    return moments + spotter.finish()
