"""Which frames windows read, how they are aligned, and that a long video is not held in memory."""

import gc
import weakref
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from harness.predict_scene import head

from mol_fast.data import VideoData, cut_window
from mol_fast.prediction.windows import Window, aligned_windows, plan_windows
from mol_fast.utils.errors import UserError
from mol_fast.vision.align import alignment, warp
from mol_fast.vision.faces import FaceFinder
from mol_fast.vision.video import FrameArray


@pytest.fixture(scope="module")
def finder() -> FaceFinder:
    return FaceFinder()


@pytest.mark.parametrize("count", [8, 15, 16, 23, 100])
def test_a_clip_is_read_as_in_training(count):
    data = VideoData(torch.arange(count), torch.zeros(count, 68, 2), torch.zeros(7 * (count // 8), 2))
    windows = plan_windows(count)
    assert len(windows) == count // 8
    for j, window in enumerate(windows):
        assert list(window.frames) == cut_window(data, j).frames.tolist()
        assert (window.anchor, window.end) == (0, window.frames[-1])


def test_a_video_not_longer_than_a_window_is_a_clip():
    assert plan_windows(20, 20) == plan_windows(20, 21) == plan_windows(20)


def test_sliding_windows():
    windows = plan_windows(50, 20, 10)
    assert windows == [Window(tuple(range(start, start + 15, 2)), start) for start in (0, 10, 20, 30)]
    assert list(windows[1].frames) == [10, 12, 14, 16, 18, 20, 22, 24]


def test_last_window_ends_with_the_video():
    assert [window.start for window in plan_windows(55, 20, 10)] == [0, 10, 20, 30, 35]
    assert [window.start for window in plan_windows(41, 20)] == [0, 10, 20, 21]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [((7,), "count"), ((20, 7), "length"), ((20, 8, 0), "stride"), ((5000,), "count"), ((5000, 6000), "count")],
)
def test_plan_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        plan_windows(*arguments)


def test_clip_is_aligned_once_by_its_first_frame(finder):
    frames = head()
    items = list(aligned_windows(FrameArray(frames), plan_windows(18), finder))
    face = finder.find(frames[0])
    assert face is not None
    matrix = alignment(face.landmarks)
    assert [item.window.start for item in items] == [0, 1]
    for item in items:
        np.testing.assert_array_equal(item.matrix, matrix)
        np.testing.assert_array_equal(item.frames, [warp(frames[i], matrix) for i in item.window.frames])
        assert item.face is not None
        assert item.face.box == face.box


def test_each_sliding_window_is_aligned_by_its_own_first_frame(finder):
    moved = np.stack([np.roll(frame, 2 * i, axis=1) for i, frame in enumerate(head())])
    items = list(aligned_windows(FrameArray(moved), plan_windows(18, 8, 5), finder))
    assert [item.window.start for item in items] == [0, 5, 10]
    for item in items:
        face = finder.find(moved[item.window.start])
        assert face is not None
        np.testing.assert_array_equal(item.matrix, alignment(face.landmarks))


def test_windows_without_a_face_are_left_out(finder):
    blank = np.full_like(head()[:10], 90)
    source = FrameArray(np.concatenate([blank, head()]))
    windows = plan_windows(28, 10, 6)
    assert [item.window.start for item in aligned_windows(source, windows, finder)] == [12, 18]


@pytest.mark.parametrize(("length", "more"), [(None, ""), (10, ", nor in the first frames of the other windows")])
def test_no_face_at_all_names_the_frame(finder, length, more):
    source = FrameArray(np.full((20, 240, 240), 90, dtype=np.uint8), "clip.mp4")
    with pytest.raises(UserError, match=f"no face found in frame 0 of clip.mp4{more};"):
        list(aligned_windows(source, plan_windows(20, length), finder))


def test_aligned_frames_pass_unchanged_without_a_finder():
    frames = np.random.default_rng(0).integers(0, 256, (16, 144, 144), dtype=np.uint8)
    for item in aligned_windows(FrameArray(frames), plan_windows(16), None):
        np.testing.assert_array_equal(item.frames, frames[item.window.start :: 2])
        assert item.face is None


class Stream:
    """A long video that counts how many of its frames are alive at once."""

    name, count, fps, times, notes, aligned = "stream", 300, None, None, (), True

    def __init__(self) -> None:
        self.alive = self.most = 0

    def _gone(self) -> None:
        self.alive -= 1

    def __iter__(self) -> Iterator[np.ndarray]:
        for index in range(self.count):
            frame = np.full((200, 200), index % 256, dtype=np.uint8)
            weakref.finalize(frame, self._gone)
            self.alive += 1
            self.most = max(self.most, self.alive)
            yield frame
            del frame

    def frame_name(self, index: int) -> str:
        return f"frame {index}"


def test_a_long_video_is_not_held_in_memory():
    stream = Stream()
    gc.collect()
    starts = [item.window.start for item in aligned_windows(stream, plan_windows(300, 40, 20), None)]
    assert starts == list(range(0, 261, 20))
    assert stream.most <= 2
