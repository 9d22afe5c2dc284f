"""Times of frames from the time stamps of a video file, which may be missing, wrong, or begin anew."""

from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

from mol_fast.vision.video import Times

if TYPE_CHECKING:
    from av import VideoFrame

_RATE_TOLERANCE = 0.01  # largest relative difference of the stored rate and the mean rate of the time stamps
_MOST_WRONG = 3  # most frames in a row whose time stamps are taken for wrong; after more, time begins anew


def time_of(frame: "VideoFrame", unit: Fraction | None) -> float | None:
    """Return the time stamp of a frame in seconds, None if it has none."""
    stamp = frame.dts if frame.pts is None else frame.pts
    return None if stamp is None or unit is None else float(stamp * unit)


def frame_times(stamps: list[float | None], begin: float | None) -> tuple[Times | None, int]:
    """Return ascending times from the beginning of the file.

    Frames without a time stamp, and a few with a wrong one, lie between their neighbours. Where time stamps go back for
    good, as in recordings that were joined, time goes on from the frame before.

    Args:
        stamps: time stamps in the order of the frames, in seconds.
        begin: when the file begins, None if it does not tell.

    Returns:
        The times, None if fewer than two frames have one; and how often the time stamps begin anew.
    """
    known = [(place, stamp) for place, stamp in enumerate(stamps) if stamp is not None]
    if len(known) < 2:
        return None, 0
    places, times, anew = _ascending([place for place, _ in known], np.array([stamp for _, stamp in known]))
    times -= times[0] if begin is None else min(begin, float(times[0]))
    return None if times[-1] == times[0] else np.interp(np.arange(len(stamps)), places, times), anew


def _ascending(places: list[int], stamps: Times) -> tuple[list[int], Times, int]:
    """Return the places and times of the frames whose time stamps count, and how often these begin anew."""
    steps = np.diff(stamps)
    step = float(np.median(steps[steps > 0])) if (steps > 0).any() else 0.0
    kept: list[tuple[int, float]] = []
    shift, anew = 0.0, 0
    for at, place in enumerate(places):
        time = float(stamps[at]) + shift
        if kept and time < (last := kept[-1][1]):
            if (stamps[at + 1 : at + 1 + _MOST_WRONG] + shift >= last).any():
                continue  # it is too low: soon others follow the last one
            wrong = next((count for count, (_, other) in enumerate(reversed(kept)) if other <= time), len(kept))
            if wrong <= _MOST_WRONG:
                del kept[len(kept) - wrong :]  # they are too high
            elif len(places) - at <= _MOST_WRONG:  # the last ones are wrong: they follow at the usual rate
                kept += [(later, last + step * (k + 1)) for k, later in enumerate(places[at:])]
                break
            else:
                shift += last + step - time
                time, anew = last + step, anew + 1
        kept.append((place, time))
    return [place for place, _ in kept], np.array([time for _, time in kept]), anew


def mean_rate(times: Times | None, stored: Fraction | None) -> float | None:
    """Return the mean number of frames per second; the stored one, which is exact, if it agrees."""
    if times is None:
        return None
    mean = (len(times) - 1) / float(times[-1] - times[0])
    return float(stored) if stored and abs(float(stored) / mean - 1) < _RATE_TOLERANCE else mean
