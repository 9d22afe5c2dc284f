"""Windows of 8 frames, as the model reads them: their place in a video.

A clip of n frames is read as in training: the interval is n // 8, and window j has the frames j, j + interval, ...,
j + 7 * interval. A longer video is cut into stretches of equal length. A stretch of so many frames is read as a clip,
but only by its first window. A stretch of so many seconds is read by the 8 frames nearest to 8 evenly spaced times from
its beginning to its end, whatever the frame rate is, or varies.
"""

import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from mol_fast.utils.errors import UserError
from mol_fast.vision.frame_times import nearest, spread
from mol_fast.vision.sizes import MAX_CLIP, PAIRS, WINDOW, interval
from mol_fast.vision.video import Times

_ROUNDING = 1e-6  # seconds, far below the distance of two frames
_FAR = 1.5  # a span that is longer or shorter than all of the training by more than this factor is far from them


class Window(NamedTuple):
    """8 frames of a video, aligned by the first face in frame `anchor` or after it."""

    frames: tuple[int, ...]  # indices of the 8 frames, ascending
    anchor: int
    seconds: tuple[float, float] | None = None  # time stamps of the first and the last frame, None if unknown

    @property
    def start(self) -> int:
        """Index of the first frame."""
        return self.frames[0]

    @property
    def end(self) -> int:
        """Index of the last frame."""
        return self.frames[-1]


class Seconds(NamedTuple):
    """A length of time."""

    value: float


def plan_windows(
    count: int,
    length: int | Seconds | None = None,
    stride: int | Seconds | None = None,
    times: Times | None = None,
) -> list[Window]:
    """Return the windows of a video, sorted by their first frames.

    Args:
        count: number of frames of the video.
        length: length of a stretch, in frames or by the clock. Default: the whole video is one clip. The same if it is
            not longer. A stretch has at least 8 frames.
        stride: distance from one stretch to the next. Default: half of `length`. The last stretch ends with the video.
        times: (count,) times of the frames in seconds, ascending; None if unknown. `Seconds` need them.

    Raises:
        ValueError: `count` or `length` is less than 8, `stride` is less than 1, or a clip is longer than 4096 frames;
            seconds are not positive, or are given without `times`.
    """
    if count < WINDOW:
        raise ValueError(f"count must be at least {WINDOW}, got {count}")
    for name, value, least in (("length", length, WINDOW), ("stride", stride, 1)):
        if isinstance(value, Seconds):
            if times is None or not value.value > 0:
                raise ValueError(f"{name} in seconds must be positive and needs times, got {value.value} s")
        elif value is not None and value < least:
            raise ValueError(f"{name} must be at least {least}, got {value}")
    if length is None or is_one_clip(count, length, times):
        if count > MAX_CLIP:
            raise ValueError(f"count must be at most {MAX_CLIP} for one clip, got {count}")
        step = interval(count)
        return [_window(range(j, j + PAIRS * step + 1, step), 0, times) for j in range(step)]
    if isinstance(length, Seconds):
        assert times is not None
        last = min(int(np.searchsorted(times, times[-1] - length.value - _ROUNDING)), count - WINDOW)
        starts = _starts(last, stride or Seconds(length.value / 2), times)
        return [_window(spread(times, start, length.value), start, times) for start in starts]
    last = count - length
    step = interval(length)
    starts = _starts(last, stride or length // 2, times)
    return [_window(range(start, start + PAIRS * step + 1, step), start, times) for start in starts]


def parse_length(text: str, timed: bool, option: str, least: int) -> int | Seconds:
    """Parse "100" as a number of frames, at least `least`, or "0.5s" as seconds.

    Args:
        text: the length.
        timed: the times of the frames are known, as seconds need.
        option: name of the option that has it, for messages.
        least: least number of frames.

    Raises:
        UserError: it is no length, or cannot be used.
    """
    seconds = text.endswith("s")
    try:
        value = float(text[:-1]) if seconds else int(text)
    except ValueError:
        value = 0
    if not 0 < value < float("inf"):
        clip = ", or --clip instead" if text == "all" else ""  # what --clip was called before
        raise UserError(f"{option} is {text}, give seconds like 0.5s or frames like 100{clip}")
    if not seconds:
        if value < least:
            raise UserError(f"{option} is {text} frames, at least {least} are needed")
        return int(value)
    if not timed:
        raise UserError(f"{option} is {text}, but the times of the frames are unknown, give --fps as well")
    return Seconds(value)


def is_one_clip(count: int, length: int | Seconds, times: Times | None) -> bool:
    """Return whether a video is not longer than a stretch of it."""
    if isinstance(length, Seconds):
        return count <= WINDOW or (times is not None and float(times[-1] - times[0]) <= length.value)
    return count <= length


def notes_on_spans(windows: list[Window], spans: tuple[float, float, float] | None) -> tuple[str, ...]:
    """Return a note about the spans of windows beside those of the training (shortest, median, longest), in seconds."""
    seen = seconds_of(windows)
    if not seen or spans is None:
        return ()
    span = float(np.median(seen))
    note = f"the windows span {span:.2f} s, those of the training {told_spans(spans)}"
    return (note + "; the model has never seen motion of this speed, see --window" if is_far(span, spans) else note,)


def seconds_of(windows: list[Window]) -> list[float]:
    """Return the spans of the windows whose times are known."""
    return [end - start for start, end in (window.seconds for window in windows if window.seconds)]


def told_spans(spans: tuple[float, float, float]) -> str:
    """Return the spans of the training in words: "0.17 to 0.35 s"."""
    low, _, high = spans
    return f"{low:.2f} s" if high - low < 0.005 else f"{low:.2f} to {high:.2f} s"


def is_far(span: float, spans: tuple[float, float, float]) -> bool:
    """Return whether a span is far from all of the training."""
    return not spans[0] / _FAR <= span <= spans[2] * _FAR


def _window(frames: Iterable[int], anchor: int, times: Times | None) -> Window:
    chosen = tuple(frames)
    return Window(chosen, anchor, None if times is None else (float(times[chosen[0]]), float(times[chosen[-1]])))


def _starts(last: int, stride: int | Seconds, times: Times | None) -> list[int]:
    """Return the first frames of stretches from 0 to `last`, the last one of all."""
    if not isinstance(stride, Seconds):
        return [*range(0, last, stride), last]
    assert times is not None
    starts, index = [], 0
    while index < last:
        starts.append(index)
        steps = math.floor((times[index] - times[0]) / stride.value + 0.5) + 1
        index = max(index + 1, nearest(times, times[0] + steps * stride.value))
    return [*starts, last]
