"""From frames to moments: frames and times, regions in words, blocks, gaps, slow videos, arguments that cannot be."""

import tracemalloc
from collections.abc import Iterator
from dataclasses import replace

import cv2
import numpy as np
import pytest

from mol_fast.data import generate_long
from mol_fast.data.embedded.distractions import unit_channels
from mol_fast.data.embedded.timeline import Pulse
from mol_fast.metrics import Interval, SpottedVideo, check_intervals, spotting_scores
from mol_fast.spotting import REGIONS, MainDirection, Moment, Region, Spotter, moments_csv, spot, spotter
from mol_fast.spotting.tracker import Sample, Tracker
from mol_fast.utils.intervals import overlap
from mol_fast.utils.tables import read_csv_table
from mol_fast.vision.facs import PredictedUnit

FRAME, LANDMARKS = np.zeros((144, 144), np.uint8), np.zeros((68, 2))


class Written(Tracker):
    """A tracker whose face raises its brows for 0.4 seconds, at given times."""

    apexes: tuple[float, ...] = ()

    def __init__(self) -> None:
        self._samples: list[Sample] = []
        self._segment, self._last = 0, -1.0

    def add(self, frame: np.ndarray, landmarks: np.ndarray, time: float) -> list[Sample]:
        ready = self.finish()
        self._segment += time - self._last > 0.4
        self._last = time
        positions = np.random.default_rng(round(1000 * time)).normal(0, 0.0005, (len(REGIONS), 2))
        for apex in self.apexes:
            positions[2:4, 1] -= 0.02 * np.cos(np.pi / 2 * min(abs(time - apex) / 0.2, 1)) ** 2
        self._samples = [Sample(time, self._segment, positions, np.zeros(6))]
        return ready

    def finish(self) -> list[Sample]:
        ready, self._samples = self._samples, []
        return ready


def moments_at(times: np.ndarray) -> Iterator[list[Moment]]:
    one = Spotter()
    for number, time in enumerate(times.tolist()):
        yield one.add(FRAME, LANDMARKS, time, number)
    yield one.finish()


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> type[Written]:
    monkeypatch.setattr(spotter, "Tracker", Written)
    monkeypatch.setattr(Written, "apexes", ())
    return Written


@pytest.mark.parametrize("sway", [(4.4, 0.0), (-9.0, 0.0), (0.0, 6.0)])
def test_a_still_face_whose_head_sways_has_no_moment(sway: tuple[float, float]) -> None:
    """Landmarks that tremble by 0.3 pixels place the part that flow reads."""
    chunks = list(generate_long(2, "still", seconds=5).chunks())
    frames, landmarks = (
        np.concatenate([getattr(chunk, name).numpy() for chunk in chunks]) for name in ("frames", "landmarks")
    )
    times = np.arange(len(frames)) / 30
    shifts = np.sin(np.pi * times)[:, None] ** 2 * sway
    swaying = [
        cv2.warpAffine(
            frame,
            np.array([[1, 0, x], [0, 1, y]]),
            frame.shape,
            flags=cv2.INTER_CUBIC,
            borderMode=cv2.BORDER_REPLICATE,
        )
        for frame, (x, y) in zip(frames, shifts, strict=True)
    ]
    trembling = np.random.default_rng(2).normal(0, 0.3, (len(frames), 1, 2))
    assert spot(swaying, landmarks + shifts[:, None] + trembling, times) == []


def test_a_rendered_video_is_spotted() -> None:
    video = generate_long(1, seconds=5)
    (true,) = video.intervals
    chunks = list(video.chunks())
    frames, landmarks, times = (
        np.concatenate([np.asarray(getattr(chunk, name)) for chunk in chunks])
        for name in ("frames", "landmarks", "times")
    )
    (moment,) = spot(frames, landmarks, times)
    assert moment.kind == true.kind
    assert abs(moment.onset - true.onset) <= 2
    assert abs(moment.offset - true.offset) <= 2
    assert moment.onset_seconds == times[moment.onset]
    assert 100 * 0.006 < moment.strength < 10
    assert moment.regions
    scores = spotting_scores([SpottedVideo("v", video.intervals, (moment.interval,), video.frames, 30)])
    assert scores.both.f1 == 1


def test_the_baseline_finds_a_smile_of_a_photograph() -> None:
    video = generate_long(0, "still", seconds=3)
    for channel in unit_channels(12):
        video.timeline.pulses.append(Pulse(channel, 2.5, 1.4, 0.2, 0.05, 0.2))
    baseline = MainDirection()
    for chunk in video.chunks():
        for place, frame in enumerate(chunk.frames.numpy()):
            baseline.add(frame, chunk.landmarks[place].numpy(), float(chunk.times[place]), chunk.first + place)
    micro = [interval for interval in baseline.finish() if interval.kind == "micro"]
    check_intervals(micro, video.frames, "what the baseline found")
    assert any(overlap(interval, Interval(42, 56, "micro")) >= 0.5 for interval in micro)


def test_moments_of_all_blocks_come_once_and_in_order(written: type[Written]) -> None:
    written.apexes = tuple(np.arange(2, 158, 4.3))
    times = np.arange(0, 160, 1 / 20)
    told = list(moments_at(times))
    moments = [moment for some in told for moment in some]
    assert [moment.apex_seconds for moment in moments] == pytest.approx(written.apexes, abs=0.05)
    assert {moment.kind for moment in moments} == {"micro"}
    late = [times[min(place, len(times) - 1)] - one.apex_seconds for place, some in enumerate(told) for one in some]
    assert max(late) < 71


def test_memory_does_not_grow_with_the_video(written: type[Written]) -> None:
    peaks = []
    for seconds in (80, 240):
        tracemalloc.start()
        for _ in moments_at(np.arange(0, seconds, 0.1)):
            pass
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0]


def test_numbers_are_those_of_frames_with_uneven_times(written: type[Written]) -> None:
    written.apexes = (4.0,)
    gaps = np.random.default_rng(0).uniform(0.02, 0.05, 400)
    times = np.cumsum(gaps)
    (moment,) = [one for some in moments_at(times) for one in some]
    assert moment.apex_seconds == times[moment.apex] == pytest.approx(4.0, abs=0.06)
    assert moment.onset_seconds == times[moment.onset] == pytest.approx(3.8, abs=0.06)


def test_nothing_is_spotted_across_a_gap(written: type[Written]) -> None:
    written.apexes = (3.0, 8.0)
    times = np.arange(0, 12, 1 / 30)
    moments = [one for some in moments_at(times[(times < 2.95) | (times > 3.6)]) for one in some]
    assert [moment.apex_seconds for moment in moments] == pytest.approx([8.0], abs=0.05)


def test_a_slow_video_has_no_micro_expressions(written: type[Written]) -> None:
    written.apexes = (5.0, 12.0)
    assert not [one for some in moments_at(np.arange(0, 20, 0.1)) for one in some]
    assert len([one for some in moments_at(np.arange(0, 20, 1 / 16)) for one in some]) == 2
    milliseconds = np.round(np.arange(0, 20, 1 / 15), 3)  # as WebM has them, mostly 0.067 s apart
    assert len([one for some in moments_at(milliseconds) for one in some]) == 2


@pytest.mark.parametrize(
    ("x", "y", "words"),
    [(1, 0, "right"), (0, 1, "down"), (-1, 0, "left"), (0, -1, "up"), (1, -1, "up right"), (-2, 1.5, "down left")],
)
def test_regions_in_words(x: float, y: float, words: str) -> None:
    assert str(Region("chin", x, y)) == f"chin {words}"


def test_regions_that_moved_come_strongest_first(written: type[Written]) -> None:
    written.apexes = (4.0,)
    (moment,) = [one for some in moments_at(np.arange(0, 10, 1 / 30)) for one in some]
    assert {str(region) for region in moment.regions} == {"right inner brow up", "right outer brow up"}
    assert moment.motion is not None
    assert 100 * np.linalg.norm(moment.motion, axis=1).max() == pytest.approx(moment.strength)
    assert moment.strength == pytest.approx(2, rel=0.1)


def test_the_table_of_moments() -> None:
    motion = Region("left mouth corner", -1.2, -0.9), Region("chin", 0.1, -0.8)
    told = Moment(12, 15, 22, 0.4, 0.5, 0.73333333, "micro", 1.5, motion)
    units = PredictedUnit(17, 0.912), PredictedUnit(4, 0.5)
    known = {"label": "happiness", "probability": 0.71234, "person": "2", "sentence": "lifts the chin", "units": units}
    assert moments_csv([told, replace(told, **known)]) == (
        "onset,apex,offset,onset_seconds,apex_seconds,offset_seconds,kind,class,probability,strength,regions,person,"
        "sentence,action_units\n"
        "12,15,22,0.4,0.5,0.733333,micro,,,1.5,left mouth corner up left; chin up,,,\n"
        "12,15,22,0.4,0.5,0.733333,micro,happiness,0.7123,1.5,left mouth corner up left; chin up,2,lifts the chin,"
        "AU17 0.91; AU4 0.50\n"
    )
    assert read_csv_table(moments_csv([])) == []
    assert moments_csv([]).startswith("onset,apex,offset,")


def test_arguments_that_cannot_be() -> None:
    one = Spotter()
    with pytest.raises(ValueError, match="frame must be uint8"):
        one.add(FRAME.astype(float), LANDMARKS, 0, 0)
    with pytest.raises(ValueError, match="frame must be uint8"):
        one.add(FRAME[1:], LANDMARKS, 0, 0)
    with pytest.raises(ValueError, match="landmarks must be"):
        one.add(FRAME, LANDMARKS * np.nan, 0, 0)
    one.add(FRAME, LANDMARKS + np.arange(68)[:, None], 1.0, 7)
    for time, number in ((1.0, 8), (1.1, 7), (float("nan"), 8)):
        with pytest.raises(ValueError, match="time and number must grow"):
            one.add(FRAME, LANDMARKS, time, number)
    assert not one.finish()
    assert not Spotter().finish()
