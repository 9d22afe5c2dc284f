"""Which frames windows read."""

import numpy as np
import pytest
import torch

from mol_fast.data import VideoData, cut_window
from mol_fast.prediction.windows import Seconds, Window, plan_windows
from mol_fast.vision.frame_times import moment_frames, nearest


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


@pytest.mark.parametrize("fps", [25, 30, 31, 60, 200])
def test_a_window_in_seconds_has_the_same_span_at_every_rate(fps):
    times = np.arange(4 * fps) / fps
    windows = plan_windows(len(times), Seconds(0.5), None, times)
    for number, window in enumerate(windows[:-1]):
        targets = 0.25 * number + np.arange(8) * 0.5 / 7
        assert np.abs(times[list(window.frames)] - targets).max() <= 1 / fps + 1e-9
        assert window.seconds == (times[window.start], times[window.end])
        assert window.anchor == window.start
    assert windows[-1].end == len(times) - 1
    assert len(windows) == pytest.approx(15, abs=1)


def test_a_window_in_seconds_follows_a_variable_rate():
    """30 frames in the first second, 100 in the next: a window spans half a second in both."""
    times = np.concatenate([np.arange(30) / 30, 1 + np.arange(101) / 100])
    windows = plan_windows(len(times), Seconds(0.5), Seconds(0.5), times)
    assert [window.seconds[0] for window in windows] == pytest.approx([0, 0.5, 1, 1.5], abs=1 / 60)
    for window in windows:
        start, end = window.seconds
        assert end - start == pytest.approx(0.5, abs=1 / 60)
        np.testing.assert_allclose(times[list(window.frames)], start + np.arange(8) / 14, atol=1 / 60)


def test_frames_of_a_window_differ_even_if_it_is_short():
    times = np.arange(20) / 25
    windows = plan_windows(20, Seconds(0.001), Seconds(1e-9), times)
    assert [window.frames for window in windows] == [tuple(range(start, start + 8)) for start in range(13)]
    gap = np.array([*np.arange(9) / 100, 5, 5.01, 5.02])
    for window in plan_windows(12, Seconds(0.5), None, gap):
        assert len(set(window.frames)) == 8
        assert max(window.frames) < 12


def test_seconds_and_frames_may_be_mixed():
    times = np.arange(48) / 25
    assert [w.start for w in plan_windows(48, 16, Seconds(0.4), times)] == [0, 10, 20, 30, 32]
    assert [w.start for w in plan_windows(48, Seconds(0.6), 10, times)] == [0, 10, 20, 30, 32]


def test_a_video_not_longer_than_so_many_seconds_is_a_clip():
    times = np.arange(26) / 25
    assert [w.frames for w in plan_windows(26, Seconds(1), None, times)] == [w.frames for w in plan_windows(26)]
    assert len(plan_windows(26, Seconds(0.9), None, times)) == 2


def test_nearest_frame_in_time():
    times = np.array([0.0, 1.0, 3.0])
    assert [nearest(times, time) for time in (-1, 0.4, 0.5, 0.6, 1.9, 2.1, 9)] == [0, 0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((20, Seconds(1.0)), "length"),
        ((20, 8, Seconds(1.0)), "stride"),
        ((20, Seconds(0.0), None, np.arange(20) / 5), "length"),
        ((7,), "count"),
        ((20, 7), "length"),
        ((20, 8, 0), "stride"),
        ((5000,), "count"),
        ((5000, 6000), "count"),
    ],
)
def test_plan_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        plan_windows(*arguments)


@pytest.mark.parametrize(
    ("onset", "offset", "frames"),
    [
        (10, 24, [10, 12, 14, 16, 18, 20, 22, 24]),
        (10, 17, [10, 11, 12, 13, 14, 15, 16, 17]),
        (10, 13, [8, 9, 10, 11, 12, 13, 14, 15]),  # as many before as after
        (1, 2, [0, 1, 2, 3, 4, 5, 6, 7]),
        (38, 39, [32, 33, 34, 35, 36, 37, 38, 39]),
    ],
)
def test_frames_of_a_moment(onset: int, offset: int, frames: list[int]) -> None:
    assert moment_frames(np.arange(40) / 25, onset, offset) == frames
