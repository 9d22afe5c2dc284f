"""Finding faces in the photograph of scikit-image by dlib."""

import importlib.util
import sys

import cv2
import numpy as np
import pytest
import skimage.data

from mol_fast.data.embedded.photographs import load_photograph
from mol_fast.utils.errors import UserError
from mol_fast.vision.dlib_faces import landmark_weights
from mol_fast.vision.faces import FaceFinder
from mol_fast.vision.finders import open_finder


@pytest.fixture(scope="module")
def finder() -> FaceFinder:
    return open_finder("dlib")


@pytest.fixture(scope="module")
def photograph() -> np.ndarray:
    return cv2.cvtColor(skimage.data.astronaut(), cv2.COLOR_RGB2GRAY)


def resized(frame: np.ndarray, zoom: float) -> np.ndarray:
    method = cv2.INTER_AREA if zoom < 1 else cv2.INTER_CUBIC
    return cv2.resize(frame, None, fx=zoom, fy=zoom, interpolation=method)


@pytest.mark.parametrize("zoom", [0.5, 1.0, 4.0], ids=["small", "as it is", "large"])
def test_landmarks_are_where_the_face_is(finder, photograph, zoom):
    face = finder.find(resized(photograph, zoom))
    assert face is not None
    truth = load_photograph("astronaut").landmarks.numpy()
    found = (face.landmarks + 0.5) / zoom - 0.5
    assert found.shape == (68, 2)
    assert np.linalg.norm(found - truth, axis=1).mean() < 2.5
    left, top, right, bottom = face.box
    assert left < zoom * truth[27, 0] < right
    assert top < zoom * truth[27, 1] < bottom
    assert face.score > 0.5
    assert face.found == 1


def test_largest_of_several_faces(finder, photograph):
    face = photograph[:300, 80:380]
    frame = np.full((450, 800), 128, dtype=np.uint8)
    frame[100:400, 20:320] = face
    frame[:, 330:780] = resized(face, 1.5)
    found = finder.find(frame)
    assert found is not None
    assert found.found == 2
    assert found.box[0] > 330
    assert found.landmarks[:, 0].min() > 330


def test_a_face_is_followed_until_it_is_gone(finder, photograph):
    face = finder.find(photograph)
    assert face is not None
    moved = finder.follow(np.roll(photograph, (6, 15), axis=(0, 1)), face)
    assert moved is not None
    assert np.abs(moved.landmarks - face.landmarks - (15, 6)).mean() < 1
    assert finder.follow(np.full_like(photograph, 90), face) is None
    assert finder.follow(np.roll(photograph, 250, axis=1), face) is None


def test_no_face(finder, photograph):
    assert finder.find(np.full((200, 300), 90, dtype=np.uint8)) is None
    assert open_finder("dlib", 5).find(photograph) is None


def test_refuses_what_is_not_a_grey_frame(finder):
    with pytest.raises(ValueError, match="frame"):
        finder.find(np.zeros((10, 10, 3), dtype=np.uint8))


def missing_dlib(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dlib", None)


def missing_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)


@pytest.mark.parametrize("missing", [missing_dlib, missing_weights])
def test_missing_extra_says_what_to_install_and_its_licence(monkeypatch, missing):
    missing(monkeypatch)
    with pytest.raises(UserError, match=r"pip install 'mol-fast\[dlib\]'.*not for commercial use"):
        open_finder("dlib")


def test_damaged_weights_are_named(monkeypatch, tmp_path):
    damaged = tmp_path / "weights.dat"
    damaged.write_bytes(b"not weights")
    monkeypatch.setattr("mol_fast.vision.dlib_faces.landmark_weights", lambda: damaged)
    with pytest.raises(UserError, match=r"weights.dat"):
        open_finder("dlib")


def test_weights_are_found_without_importing_their_package(monkeypatch):
    monkeypatch.delitem(sys.modules, "face_recognition_models", raising=False)
    open_finder("dlib")
    assert "face_recognition_models" not in sys.modules
    assert landmark_weights().is_file()
