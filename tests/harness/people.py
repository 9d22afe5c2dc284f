"""Pictures of the two people whose photographs are public domain, in any place, size and position."""

from functools import cache

import cv2
import numpy as np
import numpy.typing as npt

from mol_fast.data.embedded.photographs import load_photograph
from mol_fast.vision.align import eye_centres, transform

COLLINS, HOPPER = "astronaut", "grace-hopper"

Picture = npt.NDArray[np.uint8]


@cache
def photograph(name: str) -> tuple[Picture, npt.NDArray[np.float64]]:
    """The photograph (H, W) and the landmarks (68, 2) of its face."""
    found = load_photograph(name)
    return found.picture.numpy().round().astype(np.uint8), found.landmarks.numpy()


def eye_distance(landmarks: npt.NDArray[np.floating]) -> float:
    """The inter-ocular distance: that of the eye centres."""
    return float(np.linalg.norm(np.subtract(*eye_centres(landmarks))))


def portrait(
    name: str,
    centre: tuple[float, float] = (320, 150),
    eyes: float = 40,
    roll: float = 0,
    size: tuple[int, int] = (640, 360),
) -> tuple[Picture, npt.NDArray[np.float64]]:
    """A picture of a person with the landmarks of the face.

    Args:
        name: `COLLINS` or `HOPPER`.
        centre: middle of the eyes, in pixels.
        eyes: distance of the eyes, in pixels.
        roll: degrees by which the head is tilted.
        size: width and height of the picture.
    """
    picture, landmarks = photograph(name)
    middle = eye_centres(landmarks).mean(0)
    matrix = cv2.getRotationMatrix2D(tuple(middle), roll, eyes / eye_distance(landmarks))
    matrix[:, 2] += np.array(centre) - middle
    warped = cv2.warpAffine(picture, matrix, size, flags=cv2.INTER_AREA, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(warped, dtype=np.uint8), transform(landmarks, matrix)


def side_by_side(left: str, right: str, left_eyes: float = 30, right_eyes: float = 30) -> Picture:
    """A picture (360, 640) of two people."""
    picture, _ = portrait(left, (170, 150), left_eyes)
    other, _ = portrait(right, (470, 150), right_eyes)
    picture[:, 320:] = other[:, 320:]
    return picture


def noisy(picture: Picture, level: float, rng: np.random.Generator) -> Picture:
    """The picture with sensor noise of a standard deviation in grey levels."""
    return np.clip(picture + rng.normal(0, level, picture.shape), 0, 255).round().astype(np.uint8)
