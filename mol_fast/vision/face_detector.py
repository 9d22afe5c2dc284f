"""Boxes of faces in a picture, by MediaPipe's full-range detector: one pass over 192 x 192 pixels.

The network answers for every point of a grid (an anchor) how sure it is of a face there, where the face's box is, and
where six of its points are, relative to the anchor. Many anchors see the same face; boxes that overlap are averaged.

One pass finds faces from about 1/14 of the longer side of a picture on.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from mol_fast.utils.errors import UserError
from mol_fast.vision.boxes import Box, overlap

Picture = npt.NDArray[np.uint8]
Points = npt.NDArray[np.float64]

_SIDE = 192  # pixels of the network's input
_GRID = 48  # anchors along a side
_LEAST_SCORE = 0.4  # of a box; the landmark network judges faces again
_SAME = 0.3  # overlap (intersection / union) from which on two boxes are of the same face
_WIDER = 2.0  # side of the wider picture / longer side of the frame
_TILE = 0.5  # side of a tile / longer side of the frame; neighbours overlap by half
_SMALLEST_TILED = 320  # pixels; tiles of a smaller frame would show nothing new
_EYES = [0, 1]  # of the six points: the eye on the left of the picture, the other eye, nose, mouth, both ears


class Detection(NamedTuple):
    """A detected face, in pixels of the picture."""

    score: float  # 0 to 1
    box: Box
    eyes: Points  # (2, 2): the eye on the left of the picture, the eye on the right


class FaceDetector:
    """Detector of all faces in a picture.

    Args:
        model: the file `face_detection_full_range.tflite`.

    Raises:
        UserError: OpenCV cannot read the model.
    """

    def __init__(self, model: Path) -> None:
        self._network = read_network(model)
        self._outputs = self._network.getUnconnectedOutLayersNames()
        rows, columns = np.divmod(np.arange(_GRID * _GRID), _GRID)
        self._anchors = (np.stack([columns, rows], axis=1) + 0.5) / _GRID

    def searches(self, picture: Picture) -> Iterator[list[Detection]]:
        """Search the faces of a picture, uint8 (H, W), in three ways: as it is, in a wider one, and in tiles.

        The second way finds faces that fill the picture, the third small ones, at 2 to 8 times the cost of the first. A
        caller ends as soon as it has what it needs.
        """
        longer = max(picture.shape)
        wider, tile = round(_WIDER * longer), round(_TILE * longer)
        yield self._in_square(picture, *_middle(picture, longer), longer)
        yield self._in_square(picture, *_middle(picture, wider), wider)
        if longer >= _SMALLEST_TILED:
            yield _merged([face for x, y in _tiles(picture, tile) for face in self._in_square(picture, x, y, tile)])

    def _in_square(self, picture: Picture, left: int, top: int, side: int) -> list[Detection]:
        """Detect faces in a square of the picture; what is outside of the picture is black."""
        import cv2

        part = picture[max(top, 0) : top + side, max(left, 0) : left + side]
        zoom = _SIDE / side
        size = max(1, round(part.shape[1] * zoom)), max(1, round(part.shape[0] * zoom))
        small = cv2.resize(part, size, interpolation=cv2.INTER_AREA if zoom < 1 else cv2.INTER_LINEAR)
        x, y = round(max(-left, 0) * zoom), round(max(-top, 0) * zoom)
        small = small[: _SIDE - y, : _SIDE - x]
        square = np.zeros((_SIDE, _SIDE), dtype=np.uint8)
        square[y : y + small.shape[0], x : x + small.shape[1]] = small
        self._network.setInput(as_input(square.astype(np.float32) / 127.5 - 1))
        logits, places = self._network.forward(self._outputs)
        scores = 1 / (1 + np.exp(-np.clip(logits[0, :, 0].astype(np.float64), -50, 50)))
        sure = np.flatnonzero(scores >= _LEAST_SCORE)
        if not len(sure):
            return []
        values = places[0, sure].reshape(len(sure), 8, 2).astype(np.float64) / _SIDE
        centres = values[:, 0] + self._anchors[sure]
        boxes = np.stack([centres - values[:, 1] / 2, centres + values[:, 1] / 2], axis=1)
        eyes = values[:, 2:][:, _EYES] + self._anchors[sure][:, None]
        corner = np.array([left, top]) - 0.5
        boxes, eyes = boxes * side + corner, eyes * side + corner
        return _merged(
            [Detection(float(scores[k]), tuple(boxes[i].ravel().tolist()), eyes[i]) for i, k in enumerate(sure)]
        )


def read_network(model: Path) -> Any:
    """Read a TensorFlow Lite model with OpenCV.

    Raises:
        UserError: OpenCV is missing or too old.
    """
    try:
        import cv2
    except ImportError as error:
        raise UserError("finding faces needs OpenCV: pip install 'mol-fast[faces]'") from error
    # The new engine of OpenCV 5 leaves out the scores, and it alone reads from memory there.
    options = {"engine": cv2.dnn.ENGINE_CLASSIC} if hasattr(cv2.dnn, "ENGINE_CLASSIC") else {}
    try:
        return cv2.dnn.readNetFromTFLite(str(model), **options)
    except cv2.error as error:
        raise UserError(
            f"OpenCV {cv2.__version__} cannot read the face models, install opencv-python 4.12 or newer"
        ) from error


def as_input(square: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return a grey square (n, n) as the input of a network, (1, 3, n, n): the same in all colours."""
    return np.ascontiguousarray(np.broadcast_to(square, (1, 3, *square.shape)))


def _middle(picture: Picture, side: int) -> tuple[int, int]:
    """Return the upper left corner of the square around a picture."""
    return (picture.shape[1] - side) // 2, (picture.shape[0] - side) // 2


def _tiles(picture: Picture, side: int) -> Iterator[tuple[int, int]]:
    """Yield upper left corners of squares that cover a picture and overlap by half."""
    height, width = picture.shape
    for y in _starts(height, side):
        for x in _starts(width, side):
            yield x, y


def _starts(length: int, side: int) -> list[int]:
    if length <= side:
        return [(length - side) // 2]
    count = -(-2 * (length - side) // side) + 1
    return [round(start) for start in np.linspace(0, length - side, count)]


def _merged(faces: list[Detection]) -> list[Detection]:
    """Average the detections of each face, weighted by their scores."""
    rest = sorted(faces, key=lambda face: -face.score)
    merged = []
    while rest:
        best = rest[0]
        same = [overlap(best.box, face.box) >= _SAME for face in rest]
        group = [face for face, mine in zip(rest, same, strict=True) if mine]
        rest = [face for face, mine in zip(rest, same, strict=True) if not mine]
        weights = [face.score for face in group]
        left, top, right, bottom = np.average([face.box for face in group], axis=0, weights=weights).tolist()
        eyes = np.average([face.eyes for face in group], axis=0, weights=weights)
        merged.append(Detection(best.score, (left, top, right, bottom), eyes))
    return merged
