"""Embedded long videos: exact intervals, flow and landmarks, at any frame rate, rendered while they are read."""

from itertools import islice
from types import GeneratorType

import numpy as np
import pytest
import torch
from torch import Tensor

from mol_fast.data import LongChunk, LongVideo, generate_long
from mol_fast.data.embedded.action_units import ACTION_UNITS, BLINK, EMOTIONS
from mol_fast.data.embedded.distractions import FIELDS, GAIN, TILT, YAW, unit_channels
from mol_fast.data.embedded.geometry import pixel_grid, sample
from mol_fast.metrics import LONGEST_MICRO, check_intervals

PIXELS = pixel_grid(144, 144).float()


@pytest.fixture(scope="module")
def video() -> LongVideo:
    return generate_long(0, seconds=120, fps=30)


@pytest.fixture(scope="module")
def chunk(video: LongVideo) -> LongChunk:
    return next(iter(video.chunks()))


def values(video: LongVideo) -> np.ndarray:
    return video.timeline.at(np.arange(video.frames) / video.fps)


def test_intervals_are_of_both_kinds_and_all_classes(video: LongVideo) -> None:
    check_intervals(video.intervals, video.frames, "the video")
    assert {interval.kind for interval in video.intervals} == {"micro", "macro"}
    assert {interval.label for interval in video.intervals} == set(EMOTIONS)
    for interval in video.intervals:
        assert interval.apex is not None
        assert interval.onset < interval.apex < interval.offset
        seconds = (interval.offset - interval.onset) / video.fps
        assert (seconds < LONGEST_MICRO + 1.01 / video.fps) == (interval.kind == "micro")
    gaps = [b.onset - a.offset for a, b in zip(video.intervals, video.intervals[1:], strict=False)]
    assert min(gaps) > 1.4 * video.fps


def test_units_move_only_in_intervals_and_fade_after_them(video: LongVideo) -> None:
    strength = np.abs(values(video))
    expressive = strength[:, [c for unit in ACTION_UNITS if unit != BLINK for c in unit_channels(unit)]].max(1)
    # blinks move unit 4 too, and speech unit 20
    alone = strength[:, [c for unit in ACTION_UNITS if unit not in (BLINK, 4, 20) for c in unit_channels(unit)]].max(1)
    inside = np.zeros(video.frames, bool)
    fading = np.zeros(video.frames, bool)
    for interval in video.intervals:
        assert interval.apex is not None
        inside[interval.onset : interval.offset + 1] = True
        fading[interval.offset + 1 : interval.offset + 60] = True
        assert expressive[interval.apex] > 0.6
    assert alone[~inside & ~fading].max() < 0.25  # unrest
    assert alone[~inside & fading].max() < 0.12 * 3 + 0.25


def test_another_frame_rate_samples_the_same_motion(video: LongVideo) -> None:
    faster = generate_long(0, seconds=120, fps=200)
    assert faster.frames == 24000
    for a, b in zip(video.intervals, faster.intervals, strict=True):
        assert (a.kind, a.label) == (b.kind, b.label)
        assert abs(a.onset / 30 - b.onset / 200) < 0.02
    assert np.allclose(faster.timeline.at(np.array([1.5])), video.timeline.at(np.array([1.5])))


def test_what_each_scene_shows() -> None:
    still, neutral, speech = (generate_long(1, scene, seconds=20) for scene in ("still", "neutral", "speech"))
    assert not still.intervals + neutral.intervals + speech.intervals
    assert not np.any(values(still)[:, :GAIN])
    assert np.ptp(values(still)[:, [GAIN, TILT]], axis=0).min() > 0.005
    moved = np.ptp(values(neutral), axis=0)
    assert moved[list(unit_channels(BLINK))].min() > 1.5
    assert moved[YAW] > 0.03
    assert moved[list(unit_channels(12))].max() < 0.3
    jaw = np.ptp(values(speech), axis=0) - moved
    assert (jaw > 0.5).any()


def test_the_flow_explains_frames_and_landmarks(video: LongVideo, chunk: LongChunk) -> None:
    quiet = generate_long(0, seconds=120, fps=30)
    object.__setattr__(quiet, "noise", 0.0)
    quiet.timeline.waves = [wave for wave in quiet.timeline.waves if wave.channel < GAIN]
    frames = next(iter(quiet.chunks())).frames.float()
    first, second = 0, 31
    flow = quiet.flow(first, second)
    vectors = flow.flatten(1).T
    assert vectors.norm(dim=1).max() > 0.5
    moved = sample(frames[second][None, None], (PIXELS + vectors)[None], "bicubic")[0, 0]
    inside = ((PIXELS + vectors >= 2) & (PIXELS + vectors <= 141)).all(-1)
    error, before = (
        (frames[first].flatten() - seen)[inside].abs().mean() for seen in (moved, frames[second].flatten())
    )
    assert error < 0.6 < before
    here, there = chunk.landmarks[first], chunk.landmarks[second]
    visible = ((here > 0) & (here < 143)).all(-1)
    assert (here + sample(flow[None], here[None])[0].T - there).norm(dim=-1)[visible].max() < 0.02
    assert video.flow(5, 5).abs().max() < 2e-3


def test_frames_carry_noise_and_keep_the_face_inside(video: LongVideo, chunk: LongChunk) -> None:
    assert chunk.frames.dtype == torch.uint8
    assert chunk.frames.shape == (32, 144, 144)
    assert chunk.landmarks.dtype == torch.float32
    assert chunk.times.tolist() == pytest.approx([k / 30 for k in range(32)])
    assert chunk.landmarks[:, 17:].min() > 0
    assert chunk.landmarks[:, 17:].max() < 144
    still = next(iter(generate_long(0, "still", seconds=1).chunks())).frames.float()
    assert 0.7 < float((still[1:] - still[:-1]).std()) / 2**0.5 < 2.1


def test_the_same_arguments_give_the_same_video(chunk: LongChunk) -> None:
    again = next(iter(generate_long(0, seconds=120, fps=30).chunks()))
    assert torch.equal(again.frames, chunk.frames)
    assert torch.equal(again.landmarks, chunk.landmarks)
    other = generate_long(1, seconds=120)
    assert other.subject.name == "s02"
    assert other.intervals != generate_long(0, seconds=120).intervals


def test_frames_come_as_they_are_read(video: LongVideo) -> None:
    chunks = video.chunks()
    assert isinstance(chunks, GeneratorType)
    assert [chunk.first for chunk in islice(chunks, 2)] == [0, 32]
    short = generate_long(0, "still", seconds=1.2)
    assert [len(chunk.frames) for chunk in short.chunks()] == [32, 4]


def test_no_frame_folds(video: LongVideo) -> None:
    times = np.array([interval.apex for interval in video.intervals]) / video.fps
    for time in times[:6]:
        _, face = video._moving_face(np.array([time]))
        field: Tensor = face.displacement[0]
        dx, dy = field.diff(dim=2)[:, 1:], field.diff(dim=1)[:, :, 1:]
        assert ((1 + dx[0]) * (1 + dy[1]) - dx[1] * dy[0]).min() > 0.3
    assert len(video.subject.fields) == FIELDS


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"seconds": 0}, "seconds and fps must make a video"),
        ({"seconds": float("nan")}, "seconds and fps must make a video"),
        ({"fps": -30}, "seconds and fps must make a video"),
        ({"scene": "party"}, "scene must be one of still, neutral, speech, expressions, got party"),
    ],
)
def test_arguments_out_of_range(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        generate_long(0, **arguments)
    with pytest.raises(ValueError, match="frames 0 and 36 must be from 0 to 35"):
        generate_long(0, "still", seconds=1.2).flow(0, 36)
