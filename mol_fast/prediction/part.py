"""A part of a source of frames, between two times, and the sound that belongs to it."""

import math
import os
import re
from collections.abc import Callable, Collection, Iterator
from itertools import islice

import numpy as np

from mol_fast.prediction.sources import open_source
from mol_fast.utils.errors import UserError
from mol_fast.vision.read_video import VideoFile
from mol_fast.vision.video import FrameSource, Picture, Times, grey
from mol_fast.vision.write_video import Sound
from mol_fast.vision.yuv import Yuv, to_yuv

_TIME = re.compile(r"(?:(?:(\d+):)?(\d+):)?(\d+(?:\.\d*)?|\.\d+)", re.ASCII)
_ROUNDING = 1e-6  # seconds; a time such as 0.28 s is not exactly that of frame 7 at 25 per second


class Part:
    """The frames of a source that are shown from `start` until before `end`. Frame 0 is the first of them.

    Its times count from the beginning of the whole source.

    Args:
        source: the frames, with times.
        start: seconds from the beginning of the source.
        end: seconds; None for the end of the source, as is any time after it.

    Raises:
        UserError: the source has no times, or no frame in the part.
    """

    def __init__(self, source: FrameSource, start: float, end: float | None) -> None:
        if source.times is None:
            raise UserError(f"the frames of {source.name} have no times for --start and --end, give --fps as well")
        self.first = _first_frame(start, source.times)
        if self.first == source.count:
            raise UserError(
                f"--start is {start:g} seconds, but {source.name} ends after {_end(source.times):.2f} seconds"
            )
        last = source.count if end is None else _first_frame(end, source.times)
        self.count = last - self.first
        if not self.count:
            raise UserError(f"no frame of {source.name} is between --start and --end, give a longer part")
        self.source = source
        self.name = f"the part of {source.name}"
        self.fps = source.fps
        self.times: Times | None = source.times[self.first : last]
        self.notes = source.notes
        self.aligned = source.aligned

    def __iter__(self) -> Iterator[Picture]:
        return islice(iter(self.source), self.first, self.first + self.count)

    def pick(self, indices: Collection[int]) -> Iterator[tuple[int, Picture]]:
        found = self.source.pick({self.first + index for index in indices})
        return ((index - self.first, picture) for index, picture in found)

    def frame_name(self, index: int) -> str:
        return self.source.frame_name(self.first + index)


def open_part(
    path: str | os.PathLike[str], fps: float | None = None, start: float | None = None, end: float | None = None
) -> FrameSource:
    """Open a source as `open_source` does, or only the part of it between two times.

    Args:
        path: the file or folder.
        fps: frames per second, see `open_source`.
        start: seconds from the beginning of the source. Default: its beginning.
        end: seconds from the beginning of the source. Default: its end.

    Raises:
        UserError: the source cannot be read, or has no such part.
    """
    source = open_source(path, fps)
    return source if start is None and end is None else Part(source, start or 0.0, end)


def whole(source: FrameSource) -> FrameSource:
    """Return the source that a part is taken from; another source is returned as it is."""
    return source.source if isinstance(source, Part) else source


def first_frame(source: FrameSource) -> int:
    """Return the index in the whole source of a source's first frame."""
    return source.first if isinstance(source, Part) else 0


def in_yuv(source: FrameSource) -> Iterator[Yuv]:
    """Yield the frames of a source in YUV."""
    return _converted(source, VideoFile.in_yuv, to_yuv)


def in_grey(source: FrameSource) -> Iterator[Picture]:
    """Yield the frames of a source in grey, uint8 (H, W)."""
    return _converted(source, VideoFile.in_grey, grey)


def _converted(
    source: FrameSource, read: Callable[[VideoFile], Iterator[Picture]], convert: Callable[[Picture], Picture]
) -> Iterator[Picture]:
    """Yield the frames of a source: as `read` returns those of a video file, or converted."""
    if isinstance(source, VideoFile):
        return read(source)
    if isinstance(source, Part):
        return islice(_converted(source.source, read, convert), source.first, source.first + source.count)
    return map(convert, source)


def sound_of(source: FrameSource) -> Sound | None:
    """Return where the sound of the frames is, None if they come from no video file with times."""
    video = whole(source)
    if not isinstance(video, VideoFile) or video.times is None:
        return None
    first = first_frame(source)
    last = first + source.count
    end = math.inf if last == video.count else float(video.times[last])
    return Sound(video.path, float(video.times[first]), end, video.joined)


def parse_time(text: str, option: str) -> float:
    """Return a time like 80.5, 1:20 or 1:02:03.5 in seconds.

    Args:
        text: the time.
        option: name of the option that has it, for the message.

    Raises:
        UserError: it is no time.
    """
    match = _TIME.fullmatch(text.strip())
    if match is None:
        raise UserError(f"{option} is {text}, give seconds like 80.5, or minutes and seconds like 1:20")
    hours, minutes, seconds = match[1], match[2], float(match[3])
    if (minutes is not None and seconds >= 60) or (hours is not None and int(minutes) >= 60):
        raise UserError(f"{option} is {text}, minutes after hours and seconds after minutes must be less than 60")
    return 3600 * int(hours or 0) + 60 * int(minutes or 0) + seconds


def _first_frame(time: float, times: Times) -> int:
    """Return the index of the first frame that begins at `time` or later; the number of frames if none does."""
    return int(np.searchsorted(times, time - _ROUNDING))


def _end(times: Times) -> float:
    """Return when the last frame ends; it lasts as long as the others do on average."""
    return float(times[-1] + (times[-1] - times[0]) / max(len(times) - 1, 1))
