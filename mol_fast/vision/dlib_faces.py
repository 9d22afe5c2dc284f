"""Find faces with dlib's HOG detector and landmark predictor, as earlier versions did.

Needs the extra `dlib`. The predictor's weights come from the package face_recognition_models. They are not for
commercial use, as the data they were trained on.
"""

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mol_fast.utils.errors import UserError
from mol_fast.vision.boxes import Box, area, overlap, overlaps
from mol_fast.vision.faces import Face, FaceFinder, check_frame

_SEARCH_SIDE = 1280  # the detector's window is 80 pixels wide: it finds faces from 1/16 of this side on
_LARGEST_ZOOM = 2.0
_WEIGHTS = Path("models") / "shape_predictor_68_face_landmarks.dat"
_INSTALL = (
    "finding faces with dlib needs the extra 'dlib': pip install 'mol-fast[dlib]' "
    "(the weights of its landmark predictor are not for commercial use)"
)


class DlibFinder(FaceFinder):
    """Finder of faces whose score is that of the detector.

    Frames are resized to a longer side of 1280 pixels before the search, but enlarged at most twice. Faces narrower
    than 1/16 of the longer side, or narrower than 40 pixels, are not found.

    Args:
        min_score: ignore detections with a lower score. Clear frontal faces score about 1 or more, noisy or turned
            faces less, false detections about 0.

    Raises:
        UserError: the extra `dlib` is not installed, or its files are damaged.
    """

    def __init__(self, min_score: float) -> None:
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

    def find_all(self, frame: npt.NDArray[np.uint8], thorough: bool = True, known: Face | None = None) -> list[Face]:
        check_frame(frame)
        zoom = _search_zoom(frame)
        search = _resized(frame, zoom)
        rectangles, scores, _ = self._detector.run(search, 0, self.min_score)
        faces = [] if known is None else [known]
        for rectangle, score in sorted(zip(rectangles, scores, strict=True), key=lambda pair: -pair[0].area()):
            corners = [(rectangle.left(), rectangle.top()), (rectangle.right(), rectangle.bottom())]
            left, top, right, bottom = _rescaled(corners, search, frame).ravel().tolist()
            box = left, top, right, bottom
            if known is not None and overlaps(box, [known.box]):
                continue
            landmarks = self._predict(frame, search if zoom >= 1 else frame, box)
            faces.append(Face(box, float(score), landmarks, 1))
        return sorted((face._replace(found=len(faces)) for face in faces), key=lambda face: -area(face.box))

    def follow(self, frame: npt.NDArray[np.uint8], last: Face) -> Face | None:
        """Search the face around its last box: the predictor itself cannot tell whether a face is there."""
        check_frame(frame)
        left, top, right, bottom = last.box
        x, y = max(round(2 * left - right), 0), max(round(2 * top - bottom), 0)
        around = frame[y : max(round(2 * bottom - top), 0), x : max(round(2 * right - left), 0)]
        faces = [_moved(face, x, y) for face in self.find_all(around)] if around.size else []
        nearest = max(faces, key=lambda face: overlap(face.box, last.box), default=None)
        return nearest if nearest is not None and overlaps(nearest.box, [last.box]) else None

    def update(self, frame: npt.NDArray[np.uint8], last: Face) -> Face:
        """Predict the landmarks in the last box, so they do not jump with the detector's box."""
        check_frame(frame)
        fine = _resized(frame, max(1.0, _search_zoom(frame)))
        return last._replace(landmarks=self._predict(frame, fine, last.box))

    def _predict(self, frame: npt.NDArray[np.uint8], fine: npt.NDArray[np.uint8], box: Box) -> npt.NDArray[np.float32]:
        """Return landmarks in pixels of `frame`, found in `fine`, a picture that is not smaller.

        The predictor returns whole pixels, so a larger picture gives finer landmarks.
        """
        corners = _rescaled([box[:2], box[2:]], frame, fine)
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


def _moved(face: Face, x: int, y: int) -> Face:
    left, top, right, bottom = face.box
    box = left + x, top + y, right + x, bottom + y
    return face._replace(box=box, landmarks=face.landmarks + np.array([x, y], dtype=np.float32))


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
