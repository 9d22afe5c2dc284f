"""Align a face by its 68 iBUG landmarks: a similarity from the frame to a square grey crop.

Coordinates are (x, y) in pixels. The centre of the first pixel is (0, 0), so a frame of width `size` reaches from -0.5
to `size - 0.5`. An alignment is a 2x3 matrix `[A | b]`, where `A` is a rotation times a scale; it maps points of the
frame to points of the crop. A clip is aligned once, by the landmarks of its first frame: aligning every frame by itself
would turn the jitter of the landmarks into false motion.
"""

import math

import numpy as np
import numpy.typing as npt

from mol_fast.vision.ibug import LEFT_EYE, RIGHT_EYE
from mol_fast.vision.sizes import FRAME

BOX_SCALE = 2.5
_NOSE_AND_MOUTH = [30, 48, 54]

_DRIFT = 0.05  # of the crop; when a face in a stream has moved further in it, the face is aligned anew

Matrix = npt.NDArray[np.float64]


def eye_centres(landmarks: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """Return the centres of both eyes: the means of points 36-41 and 42-47.

    Args:
        landmarks: (..., 68, 2) in pixels.

    Returns:
        (..., 2, 2): first the eye on the left of the picture, then the eye on the right.

    Raises:
        ValueError: `landmarks` does not end in (68, 2).
    """
    points = _checked(landmarks)
    return np.stack([points[..., LEFT_EYE, :].mean(-2), points[..., RIGHT_EYE, :].mean(-2)], axis=-2)


def alignment(landmarks: npt.NDArray[np.floating], size: int = FRAME, box_scale: float = BOX_SCALE) -> Matrix:
    """Return the similarity that levels the eyes and puts the face into a square crop.

    With the eyes level, take the smallest upright rectangle around the eye centres, the nose tip and the mouth corners
    (points 30, 48, 54). Its centre is the centre of the crop; its longer side times `box_scale` is the crop's side.

    Args:
        landmarks: (68, 2) in pixels of the frame.
        size: width and height of the crop in pixels.
        box_scale: side of the crop / longer side of the rectangle.

    Returns:
        (2, 3) matrix from frame to crop.

    Raises:
        ValueError: `landmarks` is not (68, 2), is not finite, or its eyes coincide; `size` or `box_scale`
            is not positive.
    """
    points = _checked(landmarks)
    if points.ndim != 2 or not np.isfinite(points).all():
        raise ValueError(f"landmarks must be (68, 2) and finite, got shape {points.shape}")
    if size < 1 or not box_scale > 0:
        raise ValueError(f"size and box_scale must be positive, got {size} and {box_scale}")
    eyes = eye_centres(points)
    across = eyes[1] - eyes[0]
    if not np.hypot(*across) > 0:
        raise ValueError("landmarks must have two distinct eye centres")
    cos, sin = across / np.hypot(*across)
    rotation = np.array([[cos, sin], [-sin, cos]])
    level = np.concatenate([eyes, points[_NOSE_AND_MOUTH]]) @ rotation.T
    low, high = level.min(0), level.max(0)
    scale = size / (box_scale * (high - low).max())
    shift = (size - 1) / 2 - scale * (low + high) / 2
    return np.column_stack([scale * rotation, shift])


def steady_alignment(landmarks: npt.NDArray[np.floating], last: Matrix | None) -> Matrix:
    """Return the alignment of a face in a stream of frames: `last` as long as the face stays near its place in it.

    Args:
        landmarks: (68, 2) in pixels of the frame.
        last: alignment of the frame before, None if there is none.

    Raises:
        ValueError: see `alignment`.
    """
    own = alignment(landmarks)
    if last is None:
        return own
    moved = np.abs(transform(landmarks, own) - transform(landmarks, last)).mean()
    return last if moved < _DRIFT * FRAME else own


def resize_matrix(height: int, width: int, size: int = FRAME) -> Matrix:
    """Return the alignment of a frame that is already a face crop: scaled to fit into `size` and centred.

    Raises:
        ValueError: a side is less than 1.
    """
    if min(height, width, size) < 1:
        raise ValueError(f"height, width and size must be at least 1, got {height}, {width} and {size}")
    scale = size / max(height, width)
    centre = np.array([(width - 1) / 2, (height - 1) / 2])
    return np.column_stack([scale * np.eye(2), (size - 1) / 2 - scale * centre])


def centre_crop(matrix: npt.NDArray[np.floating], size: int, crop: int) -> Matrix:
    """Return the matrix to the centre `crop` square of the `size` square that `matrix` maps to.

    Raises:
        ValueError: `crop` is larger than `size`.
    """
    if crop > size:
        raise ValueError(f"crop must be at most size, got {crop} and {size}")
    return np.column_stack([matrix[:, :2], matrix[:, 2] - (size - crop) // 2])


def inverse(matrix: npt.NDArray[np.floating]) -> Matrix:
    """Return the inverse (2, 3) of `matrix`: from the crop back to the frame.

    Raises:
        numpy.linalg.LinAlgError: `matrix` has scale 0.
    """
    linear = np.linalg.inv(np.asarray(matrix[:, :2], dtype=np.float64))
    return np.column_stack([linear, -linear @ matrix[:, 2]])


def chained(first: npt.NDArray[np.floating], then: npt.NDArray[np.floating]) -> Matrix:
    """Return the matrix (2, 3) that maps points by `first`, and the result by `then`."""
    return np.column_stack([then[:, :2] @ first[:, :2], transform(first[:, 2], then)])


def scale_of(matrix: npt.NDArray[np.floating]) -> float:
    """Return the scale of a similarity `matrix`, in crop pixels per frame pixel."""
    return math.sqrt(abs(float(np.linalg.det(matrix[:, :2]))))


def transform(points: npt.NDArray[np.floating], matrix: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """Map `points` (..., 2), as (x, y), by `matrix` (2, 3)."""
    return np.asarray(points, dtype=np.float64) @ matrix[:, :2].T + matrix[:, 2]


def warp(
    frame: npt.NDArray[np.uint8], matrix: npt.NDArray[np.floating], size: int = FRAME, samples: float = 1.0
) -> npt.NDArray[np.uint8]:
    """Resample a frame to the crop of `matrix`, without aliasing unless `samples` is less than 1.

    If the crop is smaller than the face in the frame, sample a finer crop first, then average over areas. Outside the
    frame, border pixels are repeated.

    Args:
        frame: uint8 (H, W), grey.
        matrix: (2, 3) from frame to crop.
        size: width and height of the crop in pixels.
        samples: least number of samples per frame pixel, along each side. Fewer than 1 take less time, but a pattern
            of single pixels may then alias.

    Returns:
        uint8 (size, size).

    Raises:
        ValueError: `frame` is not uint8 (H, W) or is empty.
    """
    import cv2

    if frame.dtype != np.uint8 or frame.ndim != 2 or not frame.size:
        raise ValueError(f"frame must be uint8 (H, W), got {frame.dtype} {frame.shape}")
    finer = max(1, math.ceil(samples / scale_of(matrix) - 1e-6))
    fine = np.column_stack([finer * matrix[:, :2], finer * (matrix[:, 2] + 0.5) - 0.5])
    side = finer * size
    crop = cv2.warpAffine(frame, fine, (side, side), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    if finer > 1:
        crop = cv2.resize(crop, (size, size), interpolation=cv2.INTER_AREA)
    return np.asarray(crop, dtype=np.uint8)


def _checked(landmarks: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    points = np.asarray(landmarks, dtype=np.float64)
    if points.shape[-2:] != (68, 2):
        raise ValueError(f"landmarks must be (..., 68, 2), got {points.shape}")
    return points
