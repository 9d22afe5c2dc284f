"""Regions and the head, followed through rendered frames, against what moves in them."""

import cv2
import numpy as np
import pytest

from mol_fast.data import LongVideo, generate_long
from mol_fast.data.embedded.distractions import PITCH, YAW, X, Y, unit_channels
from mol_fast.data.embedded.timeline import Pulse
from mol_fast.spotting.face_motion import Reference, dense_flow, face_motion, face_part, head_motion
from mol_fast.spotting.regions import EYELIDS, OF_SKULL, REGIONS, layout
from mol_fast.spotting.tracker import GAP, Sample, Tracker


def tracked(video: LongVideo) -> list[Sample]:
    tracker = Tracker()
    samples = []
    for chunk in video.chunks():
        for frame, landmarks, time in zip(
            chunk.frames.numpy(), chunk.landmarks.numpy(), chunk.times.tolist(), strict=True
        ):
            samples += tracker.add(frame, landmarks, time)
    return samples + tracker.finish()


def test_a_region_moves_and_the_turning_head_does_not_move_the_others() -> None:
    video = generate_long(0, "still", seconds=1)
    for channel in unit_channels(12):
        video.timeline.pulses.append(Pulse(channel, 2.0, 0.1, 0.3, 9, 1))
    for channel, size in ((YAW, 0.06), (PITCH, -0.04), (X, 1.5), (Y, -1.0)):
        video.timeline.pulses.append(Pulse(channel, size, 0.1, 0.7, 9, 1))
    samples = tracked(video)
    distance = layout(next(iter(video.chunks())).landmarks[0].numpy()).distance
    assert len(samples) == video.frames
    assert {sample.segment for sample in samples} == {0}
    moved = samples[-1].positions * distance
    left, right = (moved[REGIONS.index(f"{side} mouth corner")] for side in ("left", "right"))
    assert left[0] < -0.6 < 0.6 < right[0]
    assert max(left[1], right[1]) < -0.6
    upper = [place for place, name in enumerate(REGIONS) if "brow" in name or place in EYELIDS]
    assert np.linalg.norm(moved[upper], axis=-1).max() < 0.35
    assert samples[-1].head[4:] == pytest.approx([0.06, -0.04], abs=0.03)


def test_fast_frames_are_averaged() -> None:
    samples = tracked(generate_long(0, "still", seconds=0.3, fps=200))
    assert np.diff([sample.time for sample in samples]) == pytest.approx(0.015)
    assert samples[0].time == pytest.approx(0.005)


def test_a_gap_starts_anew() -> None:
    chunk = next(iter(generate_long(0, "still", seconds=0.3).chunks()))
    frame, landmarks = chunk.frames[0].numpy(), chunk.landmarks[0].numpy()
    tracker = Tracker()
    assert tracker.finish() == []
    given = (0, 0.1, 0.1 + GAP + 0.01, 1.5)
    samples = [sample for time in given for sample in tracker.add(frame, landmarks, time)] + tracker.finish()
    assert [(sample.time, sample.segment) for sample in samples] == list(zip(given, [0, 0, 1, 2], strict=True))


def test_a_long_video_is_followed_as_one_flow_after_the_other_tells() -> None:
    """Two threads compute flows, and the reference is renewed: positions are sums of flows between the references.

    Flow reads the face alone, which changes them by less than 0.3 % of the distance of the eyes.
    """
    video = generate_long(3, seconds=1.3)
    chunks = list(video.chunks())
    frames, landmarks = (
        np.concatenate([getattr(chunk, name).numpy() for chunk in chunks]) for name in ("frames", "landmarks")
    )
    samples = tracked(video)
    renewed = next(place for place, sample in enumerate(samples) if sample.time - samples[0].time >= 1)
    for place in (5, renewed, len(frames) - 1):
        of_face, of_frame = np.zeros((2, len(REGIONS), 2))
        for first in (0, renewed) if place > renewed else (0,):
            last = renewed if place > renewed and not first else place
            reference = Reference(frames[first], landmarks[first])
            of_face += reference.motion_to(frames[last], landmarks[last], dense_flow())[0]
            of_frame += face_motion(dense_flow().calc(frames[first], frames[last], None), layout(landmarks[first]))[0]
        assert (samples[place].positions == of_face).all()
        assert np.abs(of_face - of_frame).max() < 0.003


@pytest.mark.parametrize("size", [144, 100, 80])
def test_the_part_of_the_face_is_large_enough_and_in_the_frame(size: int) -> None:
    """Also if the face is small, in a corner, or not in the frame at all."""
    landmarks = next(generate_long(0, "still", seconds=0.1).chunks()).landmarks[0].numpy()
    for scale in (1.0, 0.3):
        for shift in (0.0, 70.0, -70.0, 1000.0, -1000.0):
            places = layout(scale * landmarks + (shift, shift / 2))
            first, length = face_part(places, size)
            last = first + length
            assert (first % 8 == 0).all()
            assert (first >= 0).all()
            assert (last <= size).all()
            assert (length >= min(size, 96)).all()
            assert ((first <= places.points.min(0).clip(0)) | (last == size) | (length == 96)).all()
            assert (last >= places.points.max(0).clip(None, size)).all()


@pytest.mark.parametrize("drift", [(14, 0), (-14, 4), (0, 12), (6, -8)])
def test_a_head_that_moves_far_within_a_second_does_not_move_the_face(drift: tuple[int, int]) -> None:
    chunk = next(generate_long(1, "still", seconds=0.1).chunks())
    frame, landmarks = chunk.frames[0].numpy(), chunk.landmarks[0].numpy()
    moved = cv2.warpAffine(
        frame, np.array([[1.0, 0, drift[0]], [0, 1, drift[1]]]), (144, 144), borderMode=cv2.BORDER_REPLICATE
    )
    tracker = Tracker()
    given = ((frame, landmarks, 0.0), (moved, landmarks + drift, 0.3))
    _, last = [sample for one in given for sample in tracker.add(*one)] + tracker.finish()
    assert np.linalg.norm(last.positions, axis=-1).max() < 0.005
    assert last.head[:2] * layout(landmarks).distance == pytest.approx(drift, abs=0.1)


def test_the_head_is_found_although_the_face_moves() -> None:
    landmarks = next(iter(generate_long(0, "still", seconds=0.1).chunks())).landmarks[0].numpy()
    places = layout(landmarks)
    head = np.array([1.2, -0.7, 0.3, -0.5, 2.0, -1.0])
    motion = places.pose @ head
    motion[np.flatnonzero(~OF_SKULL)[:8]] += [0.5, -1.5]  # the brows rise
    assert head_motion(motion, places) == pytest.approx(head, abs=0.12)
