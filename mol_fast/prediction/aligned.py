"""The aligned pictures of windows, and why some windows are skipped.

A window counts only if the face of the followed person is there in all of its frames, in one shot, and can be seen.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from mol_fast.prediction.windows import Window
from mol_fast.utils.errors import UserError
from mol_fast.vision.align import Matrix, alignment, resize_matrix, warp
from mol_fast.vision.faces import Face
from mol_fast.vision.sizes import CROP, MARGIN
from mol_fast.vision.tracking import NO_FACE, Follower, Sight, Track
from mol_fast.vision.video import FrameSource, Picture, grey

CUT = "cut"
BLURRED = "blurred"
NO_CONTRAST = "no contrast"
_LEAST_CONTRAST = 8  # grey levels between the darkest and the brightest pixel; the noise of a covered camera has less
_FINE, _MEDIUM, _COARSE = 1.5, 4.0, 10.0  # pixels of the crop: standard deviations of the blurs that bound two bands
_LEAST_DETAIL = 0.34  # fine band / coarse band: sharp faces have 0.55 to 0.95, blurred by 5 pixels 0.34 to 0.45
_LEAST_STEADY = 0.6  # fine band / that of the sharpest frame of the window: motion blur of about 25 pixels


class AlignedWindow(NamedTuple):
    """The aligned frames of a window."""

    window: Window
    frames: npt.NDArray[np.uint8]  # (8, 144, 144), or fewer of a window with fewer frames
    matrix: Matrix  # (2, 3), from frames of the source to `frames`
    face: Face | None  # that aligned them; None if the source is already aligned
    anchor: int  # frame of the face


class Skipped(NamedTuple):
    """A window that is skipped."""

    window: Window
    reason: str  # "no face", "other person", "cut", "blurred" or "no contrast"


def aligned_windows(
    source: FrameSource,
    windows: list[Window],
    tracker: Follower | Track | None,
    on_frame: Callable[[], object] = lambda: None,
) -> Iterator[AlignedWindow | Skipped]:
    """Read `source` once, and yield each window as soon as its last frame is read.

    Faces are searched only in frames that windows need. Memory holds one frame, and the aligned pictures of incomplete
    windows.

    Args:
        source: the frames.
        windows: windows, sorted by their first frames.
        tracker: follower of a person, or what one saw on all frames; None if the source is already aligned.
        on_frame: called after each frame of `needed_frames`.

    Raises:
        UserError: a frame cannot be read.
    """
    due: defaultdict[int, list[Window]] = defaultdict(list)
    for window in windows:
        for index in window.frames:
            due[index].append(window)
    places: dict[tuple[int, int], _Place] = {}  # by anchor and shot
    begun: dict[Window, _Begun] = {}
    for index, picture in source.pick(needed_frames(source, windows, tracker)):
        frame = grey(picture)
        wanted = due.pop(index, ())
        sight = _sight(frame, index, tracker, bool(wanted))
        for window in wanted:
            state = begun.setdefault(window, _Begun(sight.shot))
            state.reason = state.reason or (CUT if sight.shot != state.shot else sight.reason)
            if state.reason is None:
                key = window.anchor, sight.shot
                if key not in places:
                    places[key] = _place(frame, sight.face, index)
                state.pictures.append(warp(frame, places[key].matrix))
            if index == window.end:
                yield _ended(window, begun.pop(window), places.get((window.anchor, sight.shot)))
        on_frame()


def needed_frames(
    source: FrameSource, windows: list[Window], tracker: Follower | Track | None
) -> range | frozenset[int]:
    """Return the frames that `aligned_windows` reads: a follower sees all of them, so that it misses no cut."""
    if tracker is None or isinstance(tracker, Track):
        return frozenset(index for window in windows for index in window.frames)
    return range(source.count)


def describe(skipped: Iterable[Skipped], what: str = "window") -> str:
    """Return how many windows are skipped, by reason: "no face in 3 windows, cut in 1 window"."""
    counts = Counter(item.reason for item in skipped)
    return ", ".join(f"{why} in {n} {what if n == 1 else f'{what}s'}" for why, n in counts.most_common())


def check_any(source: FrameSource, skipped: list[Skipped], tracker: Follower | None) -> None:
    """Raise UserError because all windows of a source are skipped."""
    if tracker is not None:
        tracker.check(source.name)
    raise UserError(f"no window of {source.name} can be predicted ({describe(skipped)}); give a part that shows a face")


def unfit(frames: npt.NDArray[np.uint8], of_face: bool = True) -> str | None:
    """Return why frames (8, 144, 144) cannot be used: "no contrast" or "blurred"; None if they can.

    Args:
        frames: aligned frames.
        of_face: they show a face that was found in them, so that they must have its detail.
    """
    square = slice(MARGIN, MARGIN + CROP)
    seen = frames[:, square, square]
    if int(seen.max()) - int(seen.min()) < _LEAST_CONTRAST:
        return NO_CONTRAST
    if not of_face:
        return None
    bands = np.array([_bands(frame) for frame in seen])
    blurred = (bands[:, 0] < _LEAST_DETAIL * bands[:, 1]).any() or bands[:, 0].min() < _LEAST_STEADY * bands[:, 0].max()
    return BLURRED if blurred else None


class _Place(NamedTuple):
    matrix: Matrix
    face: Face | None
    frame: int


@dataclass
class _Begun:
    """A window whose last frame is not read yet."""

    shot: int
    reason: str | None = None
    pictures: list[Picture] = field(default_factory=list)


def _sight(frame: Picture, index: int, tracker: Follower | Track | None, wanted: bool) -> Sight:
    if tracker is None:
        return Sight(None, 0, None)
    if isinstance(tracker, Track):
        return tracker[index]
    if wanted:
        return tracker.look(frame)
    tracker.pass_by(frame)
    return Sight(None, 0, NO_FACE)  # no window asks


def _place(frame: Picture, face: Face | None, index: int) -> _Place:
    matrix = resize_matrix(*frame.shape) if face is None else alignment(face.landmarks)
    return _Place(matrix, face and face._replace(mesh=None), index)  # it would stay with the prediction


def _ended(window: Window, state: _Begun, place: _Place | None) -> AlignedWindow | Skipped:
    if state.reason is not None or place is None:
        return Skipped(window, state.reason or NO_FACE)
    frames = np.stack(state.pictures)
    reason = unfit(frames, place.face is not None)
    return AlignedWindow(window, frames, *place) if reason is None else Skipped(window, reason)


def _bands(frame: Picture) -> tuple[float, float]:
    """Return the strength of fine and of coarse detail, in grey levels."""
    import cv2

    fine, medium, coarse = (
        cv2.GaussianBlur(frame.astype(np.float32), (0, 0), sigma) for sigma in (_FINE, _MEDIUM, _COARSE)
    )
    return float((fine - medium).std()), float((medium - coarse).std())
