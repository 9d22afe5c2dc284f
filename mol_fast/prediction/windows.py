"""Windows of 8 frames, as the model reads them: their place in a video, and their aligned pictures.

A clip of n frames is read as in training: the interval is n // 8, and window j has the frames j, j + interval, ...,
j + 7 * interval. A longer video is cut into stretches of equal length. Each stretch is read as a clip, but only by its
first window.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from mol_fast.utils.errors import UserError
from mol_fast.vision.align import Matrix, alignment, resize_matrix, warp
from mol_fast.vision.faces import Face, FaceFinder
from mol_fast.vision.sizes import MAX_CLIP, PAIRS, WINDOW, interval
from mol_fast.vision.video import FrameSource, Picture, grey


class Window(NamedTuple):
    """8 frames of a video, starting at frame `start`, `interval` apart, aligned by the face in frame `anchor`."""

    start: int
    interval: int
    anchor: int

    @property
    def frames(self) -> range:
        """Indices of the 8 frames."""
        return range(self.start, self.end + 1, self.interval)

    @property
    def end(self) -> int:
        """Index of the last frame."""
        return self.start + PAIRS * self.interval


class AlignedWindow(NamedTuple):
    """The aligned frames of a window."""

    window: Window
    frames: npt.NDArray[np.uint8]  # (8, 144, 144)
    matrix: Matrix  # (2, 3), from frames of the source to `frames`
    face: Face | None  # None if the source is already aligned


def plan_windows(count: int, length: int | None = None, stride: int | None = None) -> list[Window]:
    """Return the windows of a video, sorted by their first frames.

    Args:
        count: number of frames of the video.
        length: length of a stretch in frames. Default: the whole video is one clip. The same if it is not longer.
        stride: distance in frames from one stretch to the next. Default: half of `length`. The last stretch ends with
            the video.

    Raises:
        ValueError: `count` or `length` is less than 8, `stride` is less than 1, or a clip is longer than 4096 frames.
    """
    if count < WINDOW:
        raise ValueError(f"count must be at least {WINDOW}, got {count}")
    if length is not None and length < WINDOW:
        raise ValueError(f"length must be at least {WINDOW}, got {length}")
    if stride is not None and stride < 1:
        raise ValueError(f"stride must be at least 1, got {stride}")
    if length is None or count <= length:
        if count > MAX_CLIP:
            raise ValueError(f"count must be at most {MAX_CLIP} for one clip, got {count}")
        return [Window(j, interval(count), 0) for j in range(interval(count))]
    last = count - length
    starts = [*range(0, last, stride or length // 2), last]
    return [Window(start, interval(length), start) for start in starts]


def aligned_windows(
    source: FrameSource,
    windows: list[Window],
    finder: FaceFinder | None,
    on_frame: Callable[[], object] = lambda: None,
) -> Iterator[AlignedWindow]:
    """Read `source` once, and yield each window as soon as its last frame is read.

    Windows without a face in their anchor frame are skipped. Memory holds one frame, and the aligned pictures of
    incomplete windows.

    Args:
        source: the frames.
        windows: windows, sorted by their first frames.
        finder: finder of faces; None if the source is already aligned.
        on_frame: called after each frame.

    Raises:
        UserError: no window has a face; a frame cannot be read.
    """
    due: defaultdict[int, list[Window]] = defaultdict(list)
    for window in windows:
        for index in window.frames:
            due[index].append(window)
    anchors = {window.anchor for window in windows}
    places: dict[int, tuple[Matrix, Face | None]] = {}
    pictures: defaultdict[Window, list[Picture]] = defaultdict(list)
    for index, picture in enumerate(source):
        frame = grey(picture)
        if index in anchors and (place := _place(frame, finder)) is not None:
            places[index] = place
        for window in due.pop(index, ()):
            if window.anchor in places:
                matrix, face = places[window.anchor]
                pictures[window].append(warp(frame, matrix))
                if index == window.end:
                    yield AlignedWindow(window, np.stack(pictures.pop(window)), matrix, face)
        on_frame()
    if not places:
        raise UserError(
            f"no face found in {source.frame_name(windows[0].anchor)}"
            f"{', nor in the first frames of the other windows' if len(anchors) > 1 else ''}; "
            "give faces seen from the front, a lower --min-score, or frames that are already aligned"
        )


def _place(frame: Picture, finder: FaceFinder | None) -> tuple[Matrix, Face | None] | None:
    if finder is None:
        return resize_matrix(*frame.shape), None
    face = finder.find(frame)
    return None if face is None else (alignment(face.landmarks), face)
