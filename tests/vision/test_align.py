"""The alignment of a face: where it puts the points, and what it does to the pixels."""

import cv2
import numpy as np
import pytest

from mol_fast.data.embedded.photographs import load_photograph
from mol_fast.vision.align import (
    alignment,
    centre_crop,
    eye_centres,
    inverse,
    resize_matrix,
    scale_of,
    transform,
    warp,
)


def landmarks_at(
    right_eye: tuple[float, float],
    left_eye: tuple[float, float],
    nose: tuple[float, float],
    mouth: tuple[tuple[float, float], tuple[float, float]],
) -> np.ndarray:
    points = np.zeros((68, 2))
    points[36:42] = right_eye + 2 * np.array([(-1, 0), (-0.5, -1), (0.5, -1), (1, 0), (0.5, 1), (-0.5, 1)])
    points[42:48] = left_eye + 2 * np.array([(-1, 0), (-0.5, -1), (0.5, -1), (1, 0), (0.5, 1), (-0.5, 1)])
    points[30], points[48], points[54] = nose, *mouth
    return points


UPRIGHT = landmarks_at((10, 10), (40, 10), (26, 24), ((15, 30), (35, 30)))


def test_upright_face_by_hand():
    # extent: x 10..40, y 10..30, so the box is 75 wide around (25, 20)
    expected = [[144 / 75, 0, 71.5 - 25 * 144 / 75], [0, 144 / 75, 71.5 - 20 * 144 / 75]]
    np.testing.assert_allclose(alignment(UPRIGHT), expected, atol=1e-12)


def test_tall_face_takes_its_height():
    tall = landmarks_at((10, 10), (30, 10), (20, 40), ((12, 60), (28, 60)))
    assert scale_of(alignment(tall, size=100, box_scale=2)) == pytest.approx(100 / (2 * 50))


@pytest.mark.parametrize("angle", [-30, 7, 100])
def test_rotated_and_scaled_face_gets_the_same_crop(angle):
    cos, sin = 1.7 * np.cos(np.radians(angle)), 1.7 * np.sin(np.radians(angle))
    move = np.array([[cos, -sin, 12.0], [sin, cos, -5.0]])
    moved = transform(UPRIGHT, move)
    np.testing.assert_allclose(transform(moved, alignment(moved)), transform(UPRIGHT, alignment(UPRIGHT)), atol=1e-9)


def test_eyes_of_a_real_face_come_out_level():
    landmarks = load_photograph("grace-hopper").landmarks.numpy()
    left, right = eye_centres(transform(landmarks, alignment(landmarks)))
    assert left[1] == pytest.approx(right[1], abs=1e-9)
    assert 35 < left[0] < 60 < 84 < right[0] < 109


def test_inverse_undoes():
    matrix = alignment(UPRIGHT)
    points = np.random.default_rng(0).normal(size=(3, 5, 2))
    np.testing.assert_allclose(transform(transform(points, matrix), inverse(matrix)), points, atol=1e-12)


def test_centre_crop_takes_the_border_off():
    point = np.array([50.0, 60.0])
    shifted = transform(point, centre_crop(alignment(UPRIGHT), 144, 128))
    np.testing.assert_allclose(shifted, transform(point, alignment(UPRIGHT)) - 8)


def test_resize_of_a_crop_of_the_right_size_changes_nothing():
    frame = np.random.default_rng(0).integers(0, 256, (144, 144), dtype=np.uint8)
    np.testing.assert_array_equal(warp(frame, resize_matrix(144, 144)), frame)


def test_resize_fits_the_longer_side_and_centres():
    corners = transform(np.array([(-0.5, -0.5), (287.5, 143.5)]), resize_matrix(144, 288))
    np.testing.assert_allclose(corners, [(-0.5, 35.5), (143.5, 107.5)])


@pytest.mark.parametrize("scale", [0.13, 0.5, 0.9, 1.0, 2.3])
def test_warp_puts_pixels_where_the_matrix_says(scale):
    rows, columns = np.indices((600, 800))
    ramp = np.rint(0.12 * columns + 0.2 * rows).astype(np.uint8)
    angle = np.radians(10)
    linear = scale * np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    matrix = np.column_stack([linear, np.array([20, 20]) - linear @ (400, 300)])
    crop = warp(ramp, matrix, 40)
    where = transform(np.stack(np.indices((40, 40))[::-1], axis=-1), inverse(matrix))
    expected = 0.12 * where[..., 0] + 0.2 * where[..., 1]
    assert np.abs(crop - expected).max() < 1.2
    assert abs((crop - expected).mean()) < 0.05


def test_shrinking_averages_fine_texture():
    stripes = np.tile(np.array([0, 255], dtype=np.uint8), (600, 300))
    matrix = np.array([[0.23, 0, -3.0], [0, 0.23, -3.0]])
    crop = warp(stripes, matrix, 100)
    assert crop.std() < 0.2 * cv2.warpAffine(stripes, matrix, (100, 100)).std()
    assert crop.mean() == pytest.approx(127.5, abs=3)


@pytest.mark.parametrize("scale", [0.13, 0.48, 0.76])
def test_fewer_samples_show_the_same_picture(scale):
    frame = cv2.GaussianBlur(np.random.default_rng(1).integers(0, 256, (600, 600), dtype=np.uint8), (0, 0), 3)
    matrix = np.array([[scale, 0, -3.3], [0, scale, -4.4]])
    full, fewer = (warp(frame, matrix, 60, samples).astype(float) for samples in (1.0, 0.5))
    assert np.abs(full - fewer).max() < 0.2 * full.std()
    assert (full != fewer).any()


def test_outside_repeats_the_border():
    frame = np.full((20, 20), 200, dtype=np.uint8)
    frame[:, 0] = 100
    crop = warp(frame, np.array([[1, 0, 10.0], [0, 1, 0]]), 20)
    assert (crop[:, :10] == 100).all()


@pytest.mark.parametrize(
    ("landmarks", "options", "message"),
    [
        (np.zeros((67, 2)), {}, "landmarks"),
        (np.zeros((2, 68, 2)), {}, "landmarks"),
        (np.full((68, 2), np.nan), {}, "finite"),
        (np.zeros((68, 2)), {}, "eye centres"),
        (UPRIGHT, {"size": 0}, "size"),
        (UPRIGHT, {"box_scale": 0.0}, "box_scale"),
    ],
)
def test_alignment_refuses(landmarks, options, message):
    with pytest.raises(ValueError, match=message):
        alignment(landmarks, **options)


@pytest.mark.parametrize(
    "frame", [np.zeros((4, 4)), np.zeros((4, 4, 3), np.uint8), np.zeros((0, 4), np.uint8)], ids=["f64", "rgb", "empty"]
)
def test_warp_refuses(frame):
    with pytest.raises(ValueError, match="frame"):
        warp(frame, np.eye(2, 3))


def test_other_functions_refuse():
    with pytest.raises(ValueError, match="at most size"):
        centre_crop(np.eye(2, 3), 100, 128)
    with pytest.raises(ValueError, match="height"):
        resize_matrix(0, 10)
