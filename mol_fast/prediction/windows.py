"""Windows of 8 frames, as the model reads them: where they lie in a video, and their aligned pictures.

A clip as annotated, of n frames, is read as in training: the interval is n // 8, and window j takes the frames
j, j + interval, ..., j + 7 * interval. A video longer than a clip is cut into stretches of equal length, each read
as a clip of its own but by its first window only.
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
    """8 frames of a video, `interval` apart from `start` on, aligned by the face in frame `anchor`."""

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
    """What the model's input is made from."""

    window: Window
    frames: npt.NDArray[np.uint8]  # (8, 144, 144)
    matrix: Matrix  # (2, 3), from the frames of the source to those above
    face: Face | None  # None where the source is aligned already


def plan_windows(count: int, length: int | None = None, stride: int | None = None) -> list[Window]:
    """The windows of a video, in the order of their first frames.

    Args:
        count: frames of the video.
        length: frames of a stretch; the whole video is one clip if None, or if it is not longer.
        stride: frames from one stretch to the next, half of `length` if None. A last stretch ends with the
            video.

    Raises:
        ValueError: `count` or `length` is less than 8, `stride` less than 1, or one clip longer than
            4096 frames.
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
    """Read `source` once and give each window as soon as its last frame has come.

    Windows without a face in their anchor frame are left out. Memory holds one frame, and the aligned pictures of
    the windows that are open.

    Args:
        source: the frames.
        windows: in the order of their first frames.
        finder: None where the source is aligned already.
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
            f"{', nor where the other windows start' if len(anchors) > 1 else ''}; "
            "give faces seen from the front, a lower score threshold, or frames that are aligned already"
        )


def _place(frame: Picture, finder: FaceFinder | None) -> tuple[Matrix, Face | None] | None:
    if finder is None:
        return resize_matrix(*frame.shape), None
    face = finder.find(frame)
    return None if face is None else (alignment(face.landmarks), face)
