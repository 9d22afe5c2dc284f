"""Which frames are nearest to given times."""

import numpy as np

from mol_fast.vision.sizes import PAIRS, WINDOW
from mol_fast.vision.video import Times


def spread(times: Times, start: int, length: float) -> list[int]:
    """Return 8 different frames nearest to evenly spaced times over a stretch; consecutive ones if it has no more."""
    frames = [start]
    for k in range(1, WINDOW):
        frames.append(max(nearest(times, times[start] + length * k / PAIRS), frames[-1] + 1))
    return [min(frame, len(times) - WINDOW + k) for k, frame in enumerate(frames)]


def moment_frames(times: Times, onset: int, offset: int) -> list[int]:
    """Return the 8 frames of a movement: evenly spaced in time from onset to offset.

    If it has fewer frames, frames beside it are taken, as many before as after.
    """
    missing = WINDOW - (offset - onset + 1)
    if missing <= 0:
        return spread(times, onset, float(times[offset] - times[onset]))
    first = max(0, min(onset - missing // 2, len(times) - WINDOW))
    return list(range(first, first + WINDOW))


def nearest(times: Times, time: float) -> int:
    """Return the index of the frame nearest to a time; the earlier one of two."""
    after = min(int(np.searchsorted(times, time)), len(times) - 1)
    return after - 1 if after and time - times[after - 1] <= times[after] - time else after
