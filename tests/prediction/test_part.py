"""A part of a video, between two times."""

import math
from pathlib import Path

import numpy as np
import pytest

from mol_fast.prediction.part import Part, first_frame, in_grey, in_yuv, open_part, parse_time, sound_of, whole
from mol_fast.utils.errors import UserError
from mol_fast.vision.video import FrameArray
from mol_fast.vision.write_video import Sound, VideoWriter
from mol_fast.vision.yuv import size_of


def frames(count: int) -> np.ndarray:
    return np.repeat(np.arange(count, dtype=np.uint8), 16 * 16).reshape(count, 16, 16)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("80.5", 80.5), ("1:20", 80), ("0:05.25", 5.25), ("90:00", 5400), ("1:02:03.5", 3723.5), ("0", 0), (".5", 0.5)],
)
def test_times(text, seconds):
    assert parse_time(text, "--start") == seconds


@pytest.mark.parametrize("text", ["", "soon", "-1", "1:2:3:4", "nan", "inf", "1e3", "1:", "80,5", "٣"])
def test_what_is_no_time(text):
    with pytest.raises(UserError, match=r"--end is .*, give seconds like 80\.5, or minutes and seconds like 1:20"):
        parse_time(text, "--end")


@pytest.mark.parametrize("text", ["1:60", "1:60:00"])
def test_sixty_seconds_are_a_minute(text):
    with pytest.raises(UserError, match=f"--start is {text}, .* less than 60"):
        parse_time(text, "--start")


@pytest.mark.parametrize(
    ("start", "end", "shown"),
    [
        (0.28, 0.4, range(7, 10)),  # 0.28 * 25 is a little more than 7
        (0.29, 0.41, range(8, 11)),
        (0, 0.04, range(1)),
        (1, None, range(25, 40)),
        (1.56, 1e300, range(39, 40)),
    ],
)
def test_frames_of_a_part(start, end, shown):
    part = Part(FrameArray(frames(40), "clip", 25), start, end)
    for _ in range(2):  # as often as one likes
        assert [int(frame[0, 0]) for frame in part] == list(shown)
        assert [int(frame[0, 0]) for frame in in_grey(part)] == list(shown)
        assert [size_of(frame) for frame in in_yuv(part)] == [(16, 16)] * len(shown)
    last = len(shown) - 1
    assert [(index, int(frame[0, 0])) for index, frame in part.pick({last})] == [(last, shown[-1])]
    assert (part.count, part.first, part.fps) == (len(shown), shown[0], 25)
    assert part.times is not None
    assert part.times.tolist() == [index / 25 for index in shown]
    assert part.frame_name(0) == f"frame {shown[0]} of clip"


def test_a_part_of_a_variable_rate_goes_by_time_stamps():
    source = FrameArray(frames(10), "clip", 10)
    source.times = np.array([0, 0.1, 0.2, 1.2, 1.3, 2.3, 2.4, 2.5, 2.6, 2.7])
    part = Part(source, 1, 2.4)
    assert [int(frame[0, 0]) for frame in part] == [3, 4, 5]
    assert part.times is not None
    assert part.times.tolist() == [1.2, 1.3, 2.3]
    with pytest.raises(UserError, match=r"--start is 2\.8 seconds, but clip ends after 3\.00 seconds"):
        Part(source, 2.8, None)


def test_nothing_is_read_after_the_part():
    class Source(FrameArray):
        def __iter__(self):
            yield from self.frames[:12]
            raise AssertionError("read too far")

    assert len(list(Part(Source(frames(40), "clip", 25), 0.2, 0.48))) == 7


def test_parts_that_are_not_there():
    source = FrameArray(frames(40), "clip", 25)
    with pytest.raises(UserError, match=r"--start is 1\.6 seconds, but clip ends after 1\.60 seconds"):
        Part(source, 1.6, None)
    with pytest.raises(UserError, match="no frame of clip is between"):
        Part(source, 0.41, 0.42)
    with pytest.raises(UserError, match="clip have no times for --start and --end, give --fps"):
        Part(FrameArray(frames(40), "clip"), 0, 1)


def test_sound_of_a_part_is_cut_as_its_frames(tmp_path: Path):
    path = tmp_path / "a.mp4"
    with VideoWriter(path, (16, 16), 25) as writer:
        for _ in range(40):
            writer.write(np.zeros((16, 16, 3), dtype=np.uint8))
    source = open_part(path)
    assert sound_of(source) == Sound(path, 0, math.inf)
    assert (whole(source), first_frame(source)) == (source, 0)
    part = open_part(path, start=0.41, end=0.9)
    assert sound_of(part) == Sound(path, 11 / 25, 23 / 25)
    assert (whole(part).count, first_frame(part)) == (40, 11)
    assert sound_of(open_part(path, start=0.4)) == Sound(path, 0.4, math.inf)
    assert sound_of(FrameArray(frames(8), fps=25)) is None
