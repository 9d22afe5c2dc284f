"""Faces and landmarks by MediaPipe's models, on the two photographs."""

import cv2
import numpy as np
import pytest
from harness.people import COLLINS, HOPPER, eye_distance, noisy, photograph, portrait, side_by_side

from mol_fast.vision.align import alignment, transform
from mol_fast.vision.face_mesh import IBUG
from mol_fast.vision.faces import FaceFinder
from mol_fast.vision.finders import open_finder
from mol_fast.vision.ibug import MIRROR


def error(found: np.ndarray, truth: np.ndarray) -> float:
    """Mean distance of the landmarks inside the face, as a share of the inter-ocular distance."""
    return float(np.linalg.norm(found - truth, axis=1)[17:].mean() / eye_distance(truth))


@pytest.mark.parametrize("name", [COLLINS, HOPPER])
@pytest.mark.parametrize("zoom", [0.5, 1, 3])
def test_landmarks_are_those_of_the_photograph(finder: FaceFinder, name: str, zoom: float) -> None:
    picture, truth = photograph(name)
    method = cv2.INTER_AREA if zoom < 1 else cv2.INTER_CUBIC
    face = finder.find(cv2.resize(picture, None, fx=zoom, fy=zoom, interpolation=method))
    assert face is not None
    assert face.score > 0.9
    assert face.found == 1
    assert error((face.landmarks + 0.5) / zoom - 0.5, truth) < 0.08  # dlib's own error is of this order
    assert face.mesh is not None
    assert face.mesh.points.shape == (468, 3)
    (left, top), (right, bottom) = face.landmarks.min(0).tolist(), face.landmarks.max(0).tolist()
    assert face.box == pytest.approx((left, face.box[1], right, bottom), abs=0.05 * (right - left))
    assert face.box[1] < top  # the forehead


@pytest.mark.parametrize("name", [COLLINS, HOPPER])
def test_every_part_of_the_face_is_where_the_photograph_has_it(finder: FaceFinder, name: str) -> None:
    picture, truth = photograph(name)
    face = finder.find(picture)
    assert face is not None
    distance = np.linalg.norm(face.landmarks - truth, axis=1) / eye_distance(truth)
    parts = {"jaw": slice(0, 17), "brows": slice(17, 27), "nose": slice(27, 36), "eyes": slice(36, 48)}
    errors = {part: float(distance[points].mean()) for part, points in parts.items()}
    assert errors["jaw"] < 0.1
    assert errors["brows"] < 0.09
    assert errors["nose"] < 0.06
    assert errors["eyes"] < 0.07


@pytest.mark.parametrize("roll", [-70, -30, 45])
def test_a_tilted_head_gives_tilted_landmarks(finder: FaceFinder, roll: float) -> None:
    picture, truth = portrait(COLLINS, roll=roll)
    face = finder.find(picture)
    assert face is not None
    assert error(face.landmarks, truth) < 0.1


def test_a_mirrored_face_gives_mirrored_landmarks(finder: FaceFinder) -> None:
    picture, _ = portrait(COLLINS)
    face, mirrored = finder.find(picture), finder.find(np.ascontiguousarray(picture[:, ::-1]))
    assert face is not None
    assert mirrored is not None
    back = mirrored.landmarks[list(MIRROR)]
    back[:, 0] = picture.shape[1] - 1 - back[:, 0]
    assert error(back, face.landmarks) < 0.05


def test_the_table_of_landmarks_is_symmetric() -> None:
    assert len(IBUG) == 68
    other_side = {}  # of each point of the mesh, as far as the table tells
    for group, mirrored in zip(IBUG, (IBUG[k] for k in MIRROR), strict=True):
        assert len(group) == len(mirrored)
        if len(group) == 1:
            other_side[group[0]] = mirrored[0]
    assert all(other_side[other_side[point]] == point for point in other_side)
    for group, mirrored in zip(IBUG, (IBUG[k] for k in MIRROR), strict=True):
        known = [other_side[point] for point in group if point in other_side]
        assert set(known) <= set(mirrored)
    assert max(point for group in IBUG for point in group) < 468


def test_small_faces_and_faces_that_fill_the_picture(finder: FaceFinder) -> None:
    small, truth = portrait(HOPPER, (900, 500), 24, size=(1280, 720))
    face = finder.find(small)
    assert face is not None
    assert error(face.landmarks, truth) < 0.1
    picture, landmarks = photograph(HOPPER)
    (left, top), (right, bottom) = landmarks.min(0).astype(int), landmarks.max(0).astype(int)
    face = finder.find(np.ascontiguousarray(picture[top:bottom, left:right]))
    assert face is not None
    assert error(face.landmarks + np.array([left, top]), landmarks) < 0.15


def test_all_faces_the_largest_first(finder: FaceFinder) -> None:
    faces = finder.find_all(side_by_side(COLLINS, HOPPER, 30, 38))
    assert len(faces) == 2
    assert faces[0].box[0] > 320 > faces[1].box[2]
    assert [face.found for face in faces] == [2, 2]


def test_a_face_that_is_known_is_not_searched(finder: FaceFinder) -> None:
    frame = side_by_side(COLLINS, HOPPER, 30, 38)
    _, smaller = finder.find_all(frame)
    known = finder.follow(frame, smaller)
    assert known is not None
    faces = finder.find_all(frame, known=known)
    assert [face.found for face in faces] == [2, 2]
    assert faces[0].box[0] > 320
    assert faces[1].mesh is known.mesh


def test_no_face(finder: FaceFinder) -> None:
    rng = np.random.default_rng(0)
    assert finder.find(np.full((200, 300), 90, dtype=np.uint8)) is None
    assert finder.find(noisy(np.full((240, 320), 120, dtype=np.uint8), 40, rng)) is None
    assert open_finder(min_score=0.5).find_all(np.full((8, 8), 90, dtype=np.uint8)) == []


def test_a_face_is_followed_until_it_is_gone(finder: FaceFinder) -> None:
    face = finder.find(portrait(COLLINS)[0])
    for step in range(1, 13):
        picture, truth = portrait(COLLINS, (320 + 5 * step, 150 - 2 * step), 40 + step, 2 * step)
        assert face is not None
        face = finder.follow(picture, face)
        assert face is not None
        assert error(face.landmarks, truth) < 0.08
    assert finder.follow(np.full((360, 640), 90, dtype=np.uint8), face) is None


def test_noise_moves_the_alignment_less_than_a_hundredth_of_the_eyes(finder: FaceFinder) -> None:
    """A share of dlib's: tests/shows/landmarks.py compares them."""
    picture, truth = photograph(HOPPER)
    rng = np.random.default_rng(0)
    face = finder.find(picture)
    places = []
    for _ in range(8):
        assert face is not None
        face = finder.follow(noisy(picture, 3, rng), face)
        assert face is not None
        places.append(transform(truth, alignment(face.landmarks)))
    spread = np.sqrt(((places - np.mean(places, axis=0)) ** 2).sum(-1).mean())
    assert spread < 0.01 * eye_distance(np.mean(places, axis=0))


def test_refuses_what_is_not_a_grey_frame(finder: FaceFinder) -> None:
    for frame in (np.zeros((10, 10, 3), dtype=np.uint8), np.zeros((10, 10)), np.zeros((0, 10), dtype=np.uint8)):
        with pytest.raises(ValueError, match="frame"):
            finder.find(frame)
