"""Following one person: through motion, cuts, other people and empty frames."""

from collections.abc import Sequence

import numpy as np
import pytest
from harness.people import COLLINS, HOPPER, eye_distance, noisy, portrait, side_by_side

from mol_fast.utils.errors import UserError
from mol_fast.vision.faces import Face, FaceFinder
from mol_fast.vision.tracking import NO_FACE, OTHER_PERSON, FaceTracker, Sight, Track

WALL = np.full((360, 640), 90, dtype=np.uint8)


def watch(tracker: FaceTracker, frames: Sequence[np.ndarray]) -> list[Sight]:
    rng = np.random.default_rng(0)
    return [tracker.look(noisy(frame, 2, rng)) for frame in frames]


def of(sights: Sequence[Sight]) -> list[tuple[int, str | None]]:
    return [(sight.shot, sight.reason) for sight in sights]


def test_one_person_through_cuts(finder: FaceFinder) -> None:
    """Collins, cut to Hopper in the same place, cut back to Collins elsewhere, cut to a wall, cut to both."""
    collins, hopper, nearer = (
        portrait(COLLINS)[0],
        portrait(HOPPER)[0],
        portrait(COLLINS, (200, 180), 52)[0],
    )
    tracker = FaceTracker(finder)
    frames = [*[collins] * 3, *[hopper] * 2, *[nearer] * 2, *[WALL] * 2, *[side_by_side(HOPPER, COLLINS, 36, 30)] * 2]
    sights = watch(tracker, frames)
    reasons = [None] * 3 + [OTHER_PERSON] * 2 + [None] * 2 + [NO_FACE] * 2 + [None] * 2
    assert of(sights) == list(zip((0, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4), reasons, strict=True))
    assert tracker.people == 2
    for sight in sights[-2:]:
        assert sight.face is not None
        assert sight.face.box[0] > 320  # not the largest face, but the same person
        assert sight.face.found == 2


@pytest.mark.parametrize(("person", "side"), [(1, "right"), (2, "left")])
def test_people_are_numbered_by_size(finder: FaceFinder, person: int, side: str) -> None:
    tracker = FaceTracker(finder, person)
    for sight in watch(tracker, [side_by_side(COLLINS, HOPPER, 28, 36)] * 3):
        assert sight.face is not None
        assert ("right" if sight.face.box[0] > 320 else "left") == side
    assert tracker.people == 2


def test_a_newcomer_is_counted_while_the_first_is_followed(finder: FaceFinder) -> None:
    alone = side_by_side(COLLINS, HOPPER)
    alone[:, 320:] = portrait(COLLINS, (170, 150), 30)[0][:, 320:]
    tracker = FaceTracker(finder)
    sights = watch(tracker, [*[alone] * 3, *[side_by_side(COLLINS, HOPPER)] * 30])
    assert tracker.people == 2
    boxes = np.array([sight.face.box for sight in sights if sight.face is not None])
    assert len(boxes) == 33
    assert np.ptp(boxes, axis=0).max() < 3


def test_motion_and_light_are_no_cut(finder: FaceFinder) -> None:
    frames = [portrait(COLLINS, (250 + 12 * k, 150 + 4 * k), 40 + k, 3 * k)[0] for k in range(10)]
    frames = [np.clip(frame * (1.3 if k % 4 else 0.6), 0, 255).astype(np.uint8) for k, frame in enumerate(frames)]
    tracker = FaceTracker(finder)
    sights = watch(tracker, frames)
    assert of(sights) == [(0, None)] * 10
    for k, sight in enumerate(sights):
        truth = portrait(COLLINS, (250 + 12 * k, 150 + 4 * k), 40 + k, 3 * k)[1]
        assert sight.face is not None
        assert np.linalg.norm(sight.face.landmarks - truth, axis=1)[17:].mean() < 0.1 * eye_distance(truth)
    assert tracker.people == 1


def test_a_cut_on_a_frame_that_is_passed_by_counts(finder: FaceFinder) -> None:
    tracker = FaceTracker(finder)
    assert tracker.look(portrait(COLLINS)[0]).shot == 0
    tracker.pass_by(WALL)
    tracker.pass_by(portrait(COLLINS, (200, 180), 52)[0])
    sight = tracker.look(portrait(COLLINS, (200, 180), 52)[0])
    assert (sight.shot, sight.reason) == (2, None)


class Slipping(FaceFinder):
    """Finds Collins once, then follows whatever is there."""

    def __init__(self, faces: list[Face]) -> None:
        self.faces = faces

    def find_all(self, frame: np.ndarray, thorough: bool = True, known: Face | None = None) -> list[Face]:
        return [self.faces[0]] if thorough else []

    def follow(self, frame: np.ndarray, last: Face) -> Face:
        return self.faces[1]

    def update(self, frame: np.ndarray, last: Face) -> Face:
        raise AssertionError


def test_a_follower_that_slips_to_something_else_is_stopped() -> None:
    picture, landmarks = portrait(COLLINS)
    face = Face((270, 110, 370, 220), 1.0, landmarks.astype(np.float32), 1)
    other = face._replace(landmarks=face.landmarks + 60)
    tracker = FaceTracker(Slipping([face, other]))
    assert of([tracker.look(picture) for _ in range(3)]) == [(0, None), (0, None), (0, None)]
    assert tracker.people == 1


def test_who_is_not_there_is_said(finder: FaceFinder) -> None:
    tracker = FaceTracker(finder)
    watch(tracker, [WALL])
    with pytest.raises(UserError, match=r"no face found in wall\.mp4"):
        tracker.check("wall.mp4")
    tracker = FaceTracker(finder, 3)
    assert of(watch(tracker, [side_by_side(COLLINS, HOPPER)])) == [(0, OTHER_PERSON)]
    with pytest.raises(UserError, match=r"only 2 people are seen in talk\.mp4, there is no --person 3"):
        tracker.check("talk.mp4")
    with pytest.raises(UserError, match="must be at least 1, got 0"):
        FaceTracker(finder, 0)


class Counting:
    """A follower that counts how often it looks, and sees a face on every second frame."""

    person, people, looks = 2, 3, 0

    def look(self, frame: np.ndarray) -> Sight:
        self.looks += 1
        face = Face((0, 0, 1, 1), 1.0, np.zeros((68, 2), np.float32), 1, np.zeros((468, 2), np.float32))
        return Sight(face if self.looks % 2 else None, self.looks, None if self.looks % 2 else NO_FACE)

    def pass_by(self, frame: np.ndarray) -> None:
        raise AssertionError("a track looks at every frame")

    def check(self, name: str) -> None:
        raise UserError(name)


def test_a_track_remembers_what_was_seen() -> None:
    follower = Counting()
    track = Track(follower)
    first = [track.look(WALL) for _ in range(3)]
    assert [track[index] for index in (2, 0, 1)] == [first[2], first[0], first[1]]
    assert track.look(WALL) == track[3] == Sight(None, 4, NO_FACE)
    assert (follower.looks, track.seen) == (4, 2)
    assert first[0].face is not None
    assert first[0].face.mesh is None
    assert (track.person, track.people) == (2, 3)
    with pytest.raises(UserError, match=r"a\.mp4"):
        track.check("a.mp4")


def test_a_face_that_does_not_move_may_rest(finder: FaceFinder) -> None:
    """It rests for 3 frames at most, and is seen to move, go and come back as without a rest."""
    still = portrait(COLLINS)[0]
    faces = [sight.face for sight in watch(FaceTracker(finder, rest=3), [still] * 9)]
    new = [k for k in range(1, 9) if faces[k] is not faces[k - 1]]
    assert new == [4, 8]
    moving = [portrait(COLLINS, (300 + 1.2 * k, 150))[0] for k in range(6)]  # by 3 % of the eye distance
    rested, looked = (watch(FaceTracker(finder, rest=rest), [*moving, *[WALL] * 2, *moving[:2]]) for rest in (3, 0))
    assert of(rested) == of(looked)
    for one, other in zip(rested, looked, strict=True):
        if one.face is not None and other.face is not None:
            np.testing.assert_array_equal(one.face.landmarks, other.face.landmarks)
    slow = [portrait(COLLINS, (300 + 0.2 * k, 150))[0] for k in range(12)]
    for one, other in zip(*(watch(FaceTracker(finder, rest=rest), slow) for rest in (3, 0)), strict=True):
        assert one.face is not None
        assert other.face is not None
        assert np.abs(one.face.landmarks - other.face.landmarks).mean() < 0.02 * 40
