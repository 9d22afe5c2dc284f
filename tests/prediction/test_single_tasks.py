"""Flow alone and landmarks alone: of crops and of whole pictures, in their pixels, batch by batch."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from harness.predict_scene import CLASSES, head, write_weights

from mol_fast import MOL, PRESETS, UserError, flow, landmarks, predict
from mol_fast.nn.weights import save_weights
from mol_fast.vision.align import alignment, centre_crop, inverse, scale_of, transform, warp
from mol_fast.vision.faces import FaceFinder
from mol_fast.vision.ibug import mirrored
from mol_fast.vision.sizes import CROP, FRAME, MARGIN

SEEN = slice(MARGIN, MARGIN + CROP)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights whose landmarks differ by pixels between frames."""
    file = write_weights(tmp_path_factory.mktemp("weights") / "w.safetensors")
    model = MOL.from_pretrained(file)
    assert model.landmark_head is not None
    model.landmark_head.fc2.weight.data *= 2000
    save_weights(file, model, model.info)
    return file


@pytest.fixture(scope="module")
def crops() -> np.ndarray:
    """10 aligned frames (10, 144, 144)."""
    return np.stack([warp(frame, np.array([[0.6, 0, 0], [0, 0.6, 0]])) for frame in head()[:10]])


@pytest.fixture(scope="module")
def fields(crops: np.ndarray, weights: Path) -> np.ndarray:
    """Flow between consecutive crops."""
    return flow(crops[:-1], crops[1:], weights, aligned=True, device="cpu")


def test_flow_of_crops_is_that_of_the_predictor(crops: np.ndarray, fields: np.ndarray, weights: Path):
    assert fields.shape == (9, 2, FRAME, FRAME)
    assert fields.dtype == np.float32
    result = predict(crops[:8], weights, aligned=True, device="cpu")
    assert result.flow is not None
    own = result.flow[0].transpose(1, 0, 2, 3)
    assert np.abs(own).max() > 0.01
    np.testing.assert_allclose(fields[:7, :, SEEN, SEEN], own, atol=1e-5)
    outside = np.isnan(fields)
    assert outside[:, :, :MARGIN].all()
    assert outside.mean() == pytest.approx(1 - (CROP / FRAME) ** 2)


def test_a_pair_alone_is_read_as_a_clip(crops: np.ndarray, weights: Path):
    """Pairs that do not follow one another: each is a clip whose other frames repeat its second one."""
    pairs = flow(crops[[0, 5]], crops[[1, 2]], weights, aligned=True, batch_size=1, device="cpu")
    for own, (first, second) in zip(pairs, [(0, 1), (5, 2)], strict=True):
        clip = crops[[first, *[second] * 7]]
        result = predict(clip, weights, aligned=True, device="cpu")
        assert result.flow is not None
        np.testing.assert_allclose(own[:, SEEN, SEEN], result.flow[0][:, 0], atol=1e-5)


def test_landmarks_of_crops_depend_on_no_other_picture(crops: np.ndarray, weights: Path):
    points = landmarks(crops, weights, aligned=True, batch_size=1, device="cpu")
    assert points.shape == (10, 68, 2)
    assert points.dtype == np.float32
    assert np.ptp(points, axis=0).max() > 0.5
    np.testing.assert_allclose(landmarks(crops[8:], weights, aligned=True, device="cpu"), points[8:], atol=1e-3)
    seen = []
    for picture in (crops[3], crops[3, :, ::-1]):
        own = predict(np.stack([picture] * 8), weights, aligned=True, device="cpu").windows[0].landmarks
        assert own is not None
        seen.append(own[0])
    assert np.abs(seen[0] - mirrored(seen[1], FRAME)).max() > 1
    np.testing.assert_allclose(points[3], (seen[0] + mirrored(seen[1], FRAME)) / 2, atol=1e-3)
    np.testing.assert_allclose(
        landmarks(crops[3:4, :, ::-1].copy(), weights, aligned=True, device="cpu")[0],
        mirrored(points[3], FRAME),
        atol=1e-3,
    )


def test_every_kind_of_picture_gives_the_same(crops: np.ndarray, weights: Path):
    grey = crops[:2]
    expected = landmarks(grey, weights, aligned=True, device="cpu")
    rgb = np.repeat(grey[..., None], 3, axis=-1)
    tensor = torch.from_numpy(rgb).movedim(-1, 1)
    for given in (rgb, grey / 255, tensor, (tensor.double() / 255).requires_grad_()):
        found = landmarks(given, weights, aligned=True, device="cpu")
        assert type(found) is type(given)
        np.testing.assert_allclose(np.asarray(found), expected, atol=1e-3)


def test_whole_pictures_are_in_pixels_of_the_picture(weights: Path, finder: FaceFinder):
    """One video of 2 frames; then a picture without a face; then another pair, turned by a quarter."""
    first, second, empty = head()[4], head()[9], np.full_like(head()[0], 90)
    face = finder.find(first)
    assert face is not None
    to_crop = centre_crop(alignment(face.landmarks), FRAME, CROP)
    crop = np.stack([warp(frame, alignment(face.landmarks)) for frame in (first, second)])

    own = flow(crop[:1], crop[1:], weights, aligned=True, device="cpu")[0, :, SEEN, SEEN]
    whole = flow(np.stack([first, empty]), np.stack([second, empty]), weights, device="cpu")
    assert whole.shape == (2, 2, 240, 240)
    assert np.isnan(whole[1]).all()
    for x, y in ((40, 40), (64, 80), (90, 60)):  # of the crop; the field is smooth between pixels
        column, row = np.rint(transform(np.array([x, y]), inverse(to_crop))).astype(int)
        inside = np.rint(transform(np.array([column, row]), to_crop)).astype(int)
        near = own[:, inside[1] - 1 : inside[1] + 2, inside[0] - 1 : inside[0] + 2].reshape(2, -1)
        turned = inverse(to_crop)[:, :2] @ near
        assert (turned.min(1) - 1e-4 <= whole[0, :, row, column]).all()
        assert (whole[0, :, row, column] <= turned.max(1) + 1e-4).all()
    seen = ~np.isnan(whole[0, 0])
    assert seen.sum() == pytest.approx((CROP / scale_of(to_crop)) ** 2, rel=0.02)

    points = landmarks(np.stack([empty, first]), weights, device="cpu")
    assert np.isnan(points[0]).all()
    in_crop = landmarks(crop[:1], weights, aligned=True, device="cpu")[0] - MARGIN
    np.testing.assert_allclose(points[1], transform(in_crop, inverse(to_crop)), atol=1e-2)


def test_no_picture_can_be_used(weights: Path, finder: FaceFinder):
    empty = np.full((2, 240, 240), 90, dtype=np.uint8)
    with pytest.raises(UserError, match=r"no picture can be used \(no face in 2 pictures\): give pictures that show a"):
        landmarks(empty, weights, device="cpu")
    with pytest.raises(UserError, match=r"no picture can be used \(no contrast in 1 clip\): give pictures"):
        flow(*(empty[:1, :144, :144],) * 2, weights, aligned=True, device="cpu")


@pytest.mark.parametrize(
    ("frames", "sentence"),
    [
        ([[0]], "frames must be a numpy array or a tensor, got list"),
        (np.zeros((144, 144), np.uint8), r"frames must be \(N, H, W\), .*, got \(144, 144\): give a single picture as"),
        (np.zeros((9, 9, 3), np.uint8), r"frames must be \(N, H, W\), .*, got \(9, 9, 3\)"),
        (torch.zeros(2, 4, 9, 9), r"frames must be .*, got \(2, 4, 9, 9\)"),
        (np.zeros((0, 9, 9), np.uint8), r"frames must be .*, got \(0, 9, 9\)"),
        (np.zeros((1, 9, 9), np.int64), "frames must be uint8 or floating point, got int64"),
        (np.full((1, 9, 9), 255.0), "frames must be from 0 to 1 where it is floating point, got 255 to 255"),
        (torch.full((1, 9, 9), torch.nan), "frames must be from 0 to 1 where it is floating point, got nan to nan"),
        (np.zeros((1, 144, 288), np.uint8), "frames must be 144 x 144 pixels where they are aligned, got 288 x 144"),
        (torch.zeros(1, 9, 9, device="meta"), "frames must be an ordinary tensor, got one that is meta or sparse"),
        (torch.zeros(1, 9, 9).to_sparse(), "frames must be an ordinary tensor, got one that is meta or sparse"),
    ],
)
def test_wrong_pictures(frames: Any, sentence: str):
    with pytest.raises(ValueError, match=sentence):
        landmarks(frames, "nowhere", aligned=True)


def test_wrong_arguments(crops: np.ndarray, weights: Path, tmp_path: Path):
    with pytest.raises(ValueError, match=r"previous and next must have one shape, got \(2, 144, 144\) and \(3, 144"):
        flow(crops[:2], crops[:3], weights)
    for wrong in (0, 1.5, None):
        with pytest.raises(ValueError, match=f"batch_size must be a whole number from 1 on, got {wrong}"):
            landmarks(crops, weights, aligned=True, batch_size=wrong)
    with pytest.raises(ValueError, match="faces must be one of mediapipe, dlib, got 'x'"):
        landmarks(crops, weights, faces="x")
    with pytest.raises(UserError, match="no weights at"):
        landmarks(crops, tmp_path, aligned=True)


STILL = np.zeros((1, 144, 144))


@pytest.mark.parametrize(("call", "name"), [(landmarks, "landmarks"), (partial(flow, STILL), "flow")])
def test_weights_without_the_task(call: Any, name: str, tmp_path: Path):
    file = tmp_path / "w.safetensors"
    save_weights(file, MOL(config=replace(PRESETS["small"], tasks=("mer",))), {"classes": list(CLASSES)})
    with pytest.raises(UserError, match=f"was trained for mer alone, not for {name}: give weights of a run whose"):
        call(STILL, file, aligned=True)


def test_weights_that_change_are_loaded_again(crops: np.ndarray, tmp_path: Path):
    file = write_weights(tmp_path / "w.safetensors")
    before = landmarks(crops[:1], file, aligned=True, device="cpu")
    torch.manual_seed(9)
    save_weights(file, MOL(config=replace(PRESETS["small"], flow_width=0.05)), {"classes": list(CLASSES)})
    assert not np.array_equal(landmarks(crops[:1], file, aligned=True, device="cpu"), before)
