"""Find faces and their 68 iBUG landmarks, with dlib's HOG detector and landmark predictor.

Needs the extra `faces`. The predictor's weights come from the package face_recognition_models. They are not for
commercial use, as the data they were trained on.
"""

import importlib.util
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from mol_fast.utils.errors import UserError

MIN_SCORE = 0.2
_SEARCH_SIDE = 1280  # the detector's window is 80 pixels wide: it finds faces from 1/16 of this side on
_LARGEST_ZOOM = 2.0
_WEIGHTS = Path("models") / "shape_predictor_68_face_landmarks.dat"
_INSTALL = (
    "finding faces needs the extra 'faces': pip install 'mol-fast[faces]' "
    "(the weights of its landmark predictor are not for commercial use)"
)


class Face(NamedTuple):
    """A face in a frame; coordinates are (x, y) in pixels of the frame."""

    box: tuple[float, float, float, float]  # left, top, right, bottom
    score: float  # detection score, see FaceFinder
    landmarks: npt.NDArray[np.float32]  # (68, 2)
    found: int  # number of faces in the frame with at least the minimum score, including this one


class FaceFinder:
    """Finder of the largest face in a frame.

    Frames are resized to a longer side of 1280 pixels before the search, but enlarged at most twice. Faces narrower
    than 1/16 of the longer side, or narrower than 40 pixels, are not found.

    Args:
        min_score: ignore detections with a lower score. Clear frontal faces score about 1 or more, noisy or turned
            faces less, false detections about 0.

    Raises:
        UserError: the extra `faces` is not installed, or its files are damaged.
    """

    def __init__(self, min_score: float = MIN_SCORE) -> None:
        try:
            import dlib
        except ImportError as error:
            raise UserError(_INSTALL) from error
        weights = landmark_weights()
        self.min_score = min_score
        self._detector: Any = dlib.get_frontal_face_detector()
        self._rectangle: Any = dlib.rectangle
        try:
            self._predictor: Any = dlib.shape_predictor(str(weights))
        except RuntimeError as error:
            raise UserError(f"{weights} cannot be read, install face_recognition_models again") from error

    def find(self, frame: npt.NDArray[np.uint8]) -> Face | None:
        """Return the largest face of `frame`, or None if no detection reaches the minimum score.

        Args:
            frame: uint8 (H, W), grey.

        Raises:
            ValueError: `frame` is not uint8 (H, W) or is empty.
        """
        _check(frame)
        zoom = _search_zoom(frame)
        search = _resized(frame, zoom)
        boxes, scores, _ = self._detector.run(search, 0, self.min_score)
        if not boxes:
            return None
        best = max(range(len(boxes)), key=lambda i: boxes[i].area())
        rectangle = boxes[best]
        box = _rescaled([(rectangle.left(), rectangle.top()), (rectangle.right(), rectangle.bottom())], search, frame)
        left, top, right, bottom = box.ravel().tolist()
        landmarks = self._predict(frame, search, box) if zoom >= 1 else self._predict(frame, frame, box)
        return Face((left, top, right, bottom), float(scores[best]), landmarks, len(boxes))

    def landmarks(
        self, frame: npt.NDArray[np.uint8], box: tuple[float, float, float, float]
    ) -> npt.NDArray[np.float32]:
        """Return the landmarks (68, 2) of the face in `box`, in pixels of the frame.

        Args:
            frame: uint8 (H, W), grey.
            box: left, top, right, bottom; found in this frame or in one shortly before.

        Raises:
            ValueError: `frame` is not uint8 (H, W) or is empty.
        """
        _check(frame)
        fine = _resized(frame, max(1.0, _search_zoom(frame)))
        return self._predict(frame, fine, np.array(box).reshape(2, 2))

    def _predict(
        self, frame: npt.NDArray[np.uint8], fine: npt.NDArray[np.uint8], box: npt.NDArray[np.float64]
    ) -> npt.NDArray[np.float32]:
        """Return landmarks in pixels of `frame`, found in `fine`, a picture that is not smaller.

        The predictor returns whole pixels, so a larger picture gives finer landmarks.
        """
        corners = _rescaled(box.tolist(), frame, fine)
        shape = self._predictor(fine, self._rectangle(*(round(side) for side in corners.ravel())))
        return _rescaled([(point.x, point.y) for point in shape.parts()], fine, frame).astype(np.float32)


def landmark_weights() -> Path:
    """Return the installed weights file of the 68-point predictor.

    Raises:
        UserError: the package face_recognition_models is not installed, or lacks the file.
    """
    spec = importlib.util.find_spec("face_recognition_models")
    if spec is None:
        raise UserError(_INSTALL)
    for folder in spec.submodule_search_locations or ():
        if (Path(folder) / _WEIGHTS).is_file():
            return Path(folder) / _WEIGHTS
    raise UserError(f"face_recognition_models holds no {_WEIGHTS.name}, install it again")


def _check(frame: npt.NDArray[np.uint8]) -> None:
    if frame.dtype != np.uint8 or frame.ndim != 2 or not frame.size:
        raise ValueError(f"frame must be uint8 (H, W), got {frame.dtype} {frame.shape}")


def _search_zoom(frame: npt.NDArray[np.uint8]) -> float:
    return min(_LARGEST_ZOOM, _SEARCH_SIDE / max(frame.shape))


def _resized(frame: npt.NDArray[np.uint8], zoom: float) -> npt.NDArray[np.uint8]:
    import cv2

    height, width = frame.shape
    size = (max(1, round(width * zoom)), max(1, round(height * zoom)))
    method = cv2.INTER_AREA if zoom < 1 else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(frame, size, interpolation=method), dtype=np.uint8)


def _rescaled(
    points: list[tuple[float, float]], picture: npt.NDArray[np.uint8], frame: npt.NDArray[np.uint8]
) -> npt.NDArray[np.float64]:
    """Convert points (n, 2) from pixels of `picture` to pixels of `frame`; `picture` is a resized `frame`."""
    zoom = np.array(picture.shape[::-1]) / np.array(frame.shape[::-1])
    return (np.array(points, dtype=np.float64) + 0.5) / zoom - 0.5
