"""The published kind of baseline: flow in its main direction, in regions, against a moving threshold.

For each region of the face, flow is computed from the frame half an expression before, and to the frame half an
expression after. The motion of the nose is taken away, and the vectors in the most frequent of eight directions are
averaged. The mean over the third of the regions that moves most, minus that half an expression before and after, is
compared with a threshold between its mean and its largest value nearby. A peak above it is an expression of the usual
length.

After He, Wang, Yap, Wang and See (MEGC 2019 and 2020) and Moilanen, Zhao and Pietikäinen (ICPR 2014).
"""

from collections import deque
from typing import Any

import numpy as np
import numpy.typing as npt

from mol_fast.spotting.regions import Array
from mol_fast.utils.intervals import Interval, Kind
from mol_fast.vision.align import eye_centres

_SPANS: dict[Kind, float] = {"micro": 0.2, "macro": 0.7}  # seconds, half an expression
_SHARES: dict[Kind, float] = {"micro": 0.7, "macro": 0.4}  # place of the threshold between mean and largest value
_NEARBY = 5.0  # seconds to both sides in which the threshold is computed
_STEP = 0.024  # seconds; frames that follow faster are left out
_SIDE = 0.3  # of a region, in distances of the eyes
_AT = (18, 20, 23, 25, 31, 35, 48, 51, 54, 57, 8)
_NOSE = 29
_BINS = 8


class MainDirection:
    """Spots moments by flow in its main direction. Keeps the frames of 0.7 seconds and two numbers a frame."""

    def __init__(self) -> None:
        import cv2

        self._flow: Any = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        self._frames: deque[tuple[float, npt.NDArray[np.uint8], npt.NDArray[np.floating]]] = deque()
        self._times: list[float] = []
        self._numbers: list[int] = []
        self._motion: dict[Kind, list[float]] = {kind: [] for kind in _SPANS}

    def add(self, frame: npt.NDArray[np.uint8], landmarks: npt.NDArray[np.floating], time: float, number: int) -> None:
        """Take the next frame; see `Spotter.add`."""
        if self._frames and time - self._frames[-1][0] < _STEP:
            return
        self._frames.append((time, frame, landmarks))
        while time - self._frames[0][0] > 1.1 * max(_SPANS.values()):
            self._frames.popleft()
        self._times.append(time)
        self._numbers.append(number)
        for kind, span in _SPANS.items():
            _, before, places = min(self._frames, key=lambda kept: abs(time - span - kept[0]))
            self._motion[kind].append(_strength(self._flow.calc(before, frame, None), places))

    def finish(self) -> list[Interval]:
        """Return the intervals, of the usual length of their kind; those of one kind share no frame."""
        times, numbers = np.array(self._times), np.array(self._numbers)
        found = []
        for kind, span in _SPANS.items():
            for apex in _peaks(times, np.array(self._motion[kind]), span, _SHARES[kind]):
                inside = numbers[np.abs(times - apex) < span]
                found.append(Interval(int(inside[0]), int(inside[-1]), kind))
        return found


def _strength(flow: Array, landmarks: npt.NDArray[np.floating]) -> float:
    left, right = eye_centres(landmarks)
    half = max(1, round(_SIDE / 2 * float(np.hypot(*(right - left)))))
    still = _patch(flow, landmarks[_NOSE], half).mean(0)
    sizes = [np.linalg.norm(_main(_patch(flow, landmarks[point], half) - still)) for point in _AT]
    return float(np.mean(np.sort(sizes)[-(len(_AT) // 3) :]))


def _patch(flow: Array, at: npt.NDArray[np.floating], half: int) -> Array:
    x, y = (int(np.clip(round(float(value)), half, flow.shape[0] - 1 - half)) for value in at)
    return flow[y - half : y + half + 1, x - half : x + half + 1].reshape(-1, 2)


def _main(vectors: Array) -> Array:
    """Return the mean of the vectors (n, 2) in the most frequent direction."""
    bins = np.floor(np.arctan2(vectors[:, 1], vectors[:, 0]) / (2 * np.pi / _BINS)).astype(int) % _BINS
    return np.asarray(vectors[bins == np.bincount(bins, minlength=_BINS).argmax()].mean(0))


def _peaks(times: Array, motion: Array, span: float, share: float) -> list[float]:
    """Return the times of the peaks above the moving threshold, the highest within an expression each."""
    if not len(times):
        return []
    both = motion + np.interp(times + span, times, motion)  # from before, and to after
    before, after = (np.interp(times + shift, times, both) for shift in (-span, span))
    rise = both - (before + after) / 2
    low, high = np.searchsorted(times, times - _NEARBY), np.searchsorted(times, times + _NEARBY)
    near = [rise[a:b] for a, b in zip(low, high, strict=True)]
    threshold = np.array([values.mean() + share * (values.max() - values.mean()) for values in near])
    peaks: list[float] = []
    for place in np.argsort(-rise):
        if rise[place] > threshold[place] and all(abs(times[place] - peak) >= 2 * span for peak in peaks):
            peaks.append(float(times[place]))
    return peaks
