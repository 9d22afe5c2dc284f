"""How far each region of the face moves over time, as fine as a chart shows it. Memory does not grow with the video."""

import numpy as np

from mol_fast.spotting.movements import Course
from mol_fast.spotting.regions import REGIONS, Array

SPAN = 0.2
"""Seconds within which motion is measured; one step where frames are farther apart."""


class RegionMotion:
    """Collects the motion of all regions in bins of time: the largest one in each bin.

    Args:
        start, end: first and last time in seconds.
        bins: number of bins.

    Attributes:
        values: float64 (bins, regions), how far a region moves within `SPAN`, in per cent of the distance of the eyes;
            NaN where the face was not seen.

    Raises:
        ValueError: the end is not after the start.
    """

    def __init__(self, start: float, end: float, bins: int) -> None:
        if not end > start:
            raise ValueError(f"end must be after start, got {start} and {end}")
        self.start, self.end = start, end
        self.values = np.full((bins, len(REGIONS)), np.nan)

    def add(self, course: Course, after: float, until: float) -> None:
        """Add what a course tells about times after `after` and up to `until`."""
        lag = max(1, round(SPAN / course.step))
        padded = np.pad(course.positions, ((lag // 2, lag - lag // 2), (0, 0), (0, 0)), mode="edge")
        motion = 100 * np.linalg.norm(padded[lag:] - padded[:-lag], axis=-1)
        new = (course.times > after) & (course.times <= until)
        # a course ends up to a step before its last sample
        first, last = (self._bins(course.times[new] + shift) for shift in (-course.step / 2, course.step))
        for more in range(int((last - first).max(initial=-1)) + 1):
            reached = first + more <= last
            np.fmax.at(self.values, first[reached] + more, motion[new][reached])

    def _bins(self, times: Array) -> "np.ndarray[tuple[int], np.dtype[np.intp]]":
        places = (times - self.start) / (self.end - self.start) * len(self.values)
        return places.astype(np.intp).clip(0, len(self.values) - 1)
