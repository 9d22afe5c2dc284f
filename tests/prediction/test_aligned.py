"""How windows are aligned, which are skipped and why, and that no long video is held in memory."""

import gc
import weakref
from collections.abc import Collection, Iterator, Sequence

import cv2
import numpy as np
import pytest
from harness.people import COLLINS, HOPPER, portrait, side_by_side
from harness.predict_scene import head

from mol_fast.prediction.aligned import AlignedWindow, Skipped, aligned_windows, check_any, describe, unfit
from mol_fast.prediction.windows import Window, plan_windows
from mol_fast.utils.errors import UserError
from mol_fast.vision.align import alignment, warp
from mol_fast.vision.faces import FaceFinder
from mol_fast.vision.tracking import FaceTracker
from mol_fast.vision.video import FrameArray

WALL = np.full((360, 640), 90, dtype=np.uint8)


def read(
    frames: Sequence[np.ndarray], windows: list[Window], finder: FaceFinder, person: int = 1
) -> list[AlignedWindow | Skipped]:
    return list(aligned_windows(FrameArray(np.stack(frames)), windows, FaceTracker(finder, person)))


def outcomes(items: Sequence[AlignedWindow | Skipped]) -> dict[int, str | None]:
    """By the first frame of each window: why it is skipped, None if it is not."""
    return {item.window.start: item.reason if isinstance(item, Skipped) else None for item in items}


def test_clip_is_aligned_once_by_its_first_frame(finder: FaceFinder) -> None:
    frames = head()
    face = finder.find(frames[0])
    assert face is not None
    matrix = alignment(face.landmarks)
    items = read(frames, plan_windows(18), finder)
    assert outcomes(items) == {0: None, 1: None}
    for item in items:
        assert isinstance(item, AlignedWindow)
        np.testing.assert_array_equal(item.matrix, matrix)
        np.testing.assert_array_equal(item.frames, [warp(frames[i], matrix) for i in item.window.frames])
        assert item.face is not None
        assert (item.face.box, item.anchor) == (face.box, 0)
        assert item.face.mesh is None  # 6 kB of each window


def test_each_sliding_window_is_aligned_by_its_own_first_frame(finder: FaceFinder) -> None:
    moved = [np.roll(frame, 2 * i, axis=1) for i, frame in enumerate(head())]
    items = read(moved, plan_windows(18, 8, 5), finder)
    assert outcomes(items) == {0: None, 5: None, 10: None}
    for item in items:
        assert isinstance(item, AlignedWindow)
        assert item.face is not None
        assert item.anchor == item.window.start
        np.testing.assert_array_equal(item.matrix, alignment(item.face.landmarks))
        own = finder.find(moved[item.window.start])
        assert own is not None
        assert np.abs(own.landmarks - item.face.landmarks).mean() < 1


def test_a_frame_without_a_face_spoils_its_windows_only(finder: FaceFinder) -> None:
    """A black first frame ended a folder, and a face that left in a window was not missed."""
    face = portrait(COLLINS)[0]
    items = read([WALL, *[face] * 15], plan_windows(16), finder)  # windows 0, 2, ... and 1, 3, ...
    assert outcomes(items) == {0: "no face", 1: None}
    assert isinstance(items[1], AlignedWindow)
    assert items[1].anchor == 1
    hidden = face.copy()
    hidden[110:230, 270:370] = 150
    items = read([*[face] * 12, *[hidden] * 4], plan_windows(16, 8, 4), finder)
    assert outcomes(items) == {0: None, 4: None, 8: "no face"}


def test_cuts_and_other_people(finder: FaceFinder) -> None:
    collins, hopper = portrait(COLLINS)[0], portrait(HOPPER)[0]
    frames = [*[collins] * 12, *[hopper] * 12, *[collins] * 8]
    assert outcomes(read(frames, plan_windows(32, 8, 4), finder)) == {
        **{0: None, 4: None, 8: "cut", 12: "other person", 16: "other person", 20: "other person", 24: None}
    }


def test_person_2_is_followed_although_person_1_is_larger(finder: FaceFinder) -> None:
    frames = [side_by_side(COLLINS, HOPPER, 28, 38)] * 8
    for person, right in ((1, True), (2, False)):
        (item,) = read(frames, plan_windows(8), finder, person)
        assert isinstance(item, AlignedWindow)
        assert item.face is not None
        assert (item.face.box[0] > 320) == right


def test_blurred_and_flat_windows(finder: FaceFinder) -> None:
    sharp = portrait(HOPPER)[0]
    soft = cv2.GaussianBlur(sharp, (0, 0), 4)
    assert outcomes(read([sharp] * 8, plan_windows(8), finder)) == {0: None}
    assert outcomes(read([*[sharp] * 5, soft, *[sharp] * 2], plan_windows(8), finder)) == {0: "blurred"}
    face, landmarks = portrait(COLLINS)
    for sigma, expected in ((0.5, None), (2, None), (6, "blurred")):
        crop = warp(cv2.GaussianBlur(face, (0, 0), sigma), alignment(landmarks))
        assert unfit(np.stack([crop] * 8)) == expected
    dark = np.random.default_rng(0).integers(0, 8, (8, 144, 144), dtype=np.uint8)
    assert unfit(dark) == unfit(dark, of_face=False) == "no contrast"
    slope = np.tile(np.arange(144, dtype=np.uint8), (8, 144, 1))
    assert (unfit(slope), unfit(slope, of_face=False)) == ("blurred", None)


def test_faces_are_searched_only_where_windows_need_them(finder: FaceFinder) -> None:
    class Counting(FaceTracker):
        looks = 0

        def look(self, frame: np.ndarray):
            self.looks += 1
            return super().look(frame)

    tracker = Counting(finder)
    frames = np.stack([*head(), *head()])
    list(aligned_windows(FrameArray(frames), plan_windows(36, 32, 4), tracker))
    assert tracker.looks == 9  # every fourth frame


def test_why_nothing_can_be_predicted_is_one_sentence(finder: FaceFinder) -> None:
    source = FrameArray(np.stack([WALL] * 8), "wall.mp4")
    tracker = FaceTracker(finder)
    skipped = [item for item in aligned_windows(source, plan_windows(8), tracker) if isinstance(item, Skipped)]
    with pytest.raises(UserError, match=r"no face found in wall\.mp4; "):
        check_any(source, skipped, tracker)
    window = plan_windows(8)[0]
    several = [Skipped(window, "cut"), Skipped(window, "no face"), Skipped(window, "no face")]
    assert describe(several) == "no face in 2 windows, cut in 1 window"
    with pytest.raises(UserError, match=r"no window of wall\.mp4 can be predicted \(no face in 2 windows, cut in 1"):
        check_any(source, several, None)


def test_aligned_frames_pass_unchanged_without_a_finder():
    frames = np.random.default_rng(0).integers(0, 256, (16, 144, 144), dtype=np.uint8)
    for item in aligned_windows(FrameArray(frames), plan_windows(16), None):
        assert isinstance(item, AlignedWindow)
        np.testing.assert_array_equal(item.frames, frames[item.window.start :: 2])
        assert item.face is None


class Stream:
    """A long video that counts how many of its frames are alive at once."""

    name, count, fps, times, notes, aligned = "stream", 300, None, None, (), True

    def __init__(self) -> None:
        self.alive = self.most = 0

    def _gone(self) -> None:
        self.alive -= 1

    def pick(self, indices: Collection[int]) -> Iterator[tuple[int, np.ndarray]]:
        for index in sorted(indices):
            frame = np.full((200, 200), index % 256, dtype=np.uint8)
            weakref.finalize(frame, self._gone)
            self.alive += 1
            self.most = max(self.most, self.alive)
            yield index, frame
            del frame

    def frame_name(self, index: int) -> str:
        return f"frame {index}"


def test_a_long_video_is_not_held_in_memory():
    stream = Stream()
    gc.collect()
    starts = [item.window.start for item in aligned_windows(stream, plan_windows(300, 40, 20), None)]
    assert starts == list(range(0, 261, 20))
    assert stream.most <= 2
