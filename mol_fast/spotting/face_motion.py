"""The motion of a face between two aligned frames, without the motion of its head.

Flow is computed for the part of the frames that shows the face, and averaged around places of it. The motion of the
head is fitted robustly, mostly to points that move with the skull: shift, scale, roll, and small turns of a head of
usual depth. What is left is motion of the face.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from mol_fast.spotting.regions import OF_SKULL, Array, Layout, layout, region_means

_Pixels = npt.NDArray[np.int64]
_PATCH = 0.2  # side of the square over which flow is averaged, in distances of the eyes
_LOOSE = 0.25  # weight of points of the face in the fit of the head; points of the skull have 1
_SCALE = 0.06  # pixels; points that are off the fit of the head by more count less
_ROUNDS = 6
_AROUND = 0.15  # of the part of a frame that flow reads, around the places, in distances of the eyes
_GRID = 8  # pixels; the part is of whole squares, so that patches of the flow start where they do in the whole frame
_LEAST = 96  # pixels, side of the part; in a smaller one the flow would start at a finer scale
_STIFF = np.diag([0, 0, 0, 0, 1e-3, 1e-3])  # turns are 0 where nothing shows them


class Reference:
    """A frame that flow starts from, as far as it shows the face.

    Args:
        frame: uint8 (size, size), grey, aligned.
        landmarks: (68, 2) in its pixels.

    Attributes:
        places: the face, in pixels of the part of the frame that flow reads.
    """

    def __init__(self, frame: npt.NDArray[np.uint8], landmarks: npt.NDArray[np.floating]) -> None:
        places = layout(landmarks)
        self._corner, self._size = face_part(places, len(frame))
        self._face = _cut(frame, self._corner, self._size)
        self._centre = landmarks.mean(0)
        self.places = places._replace(points=places.points - self._corner)

    def motion_to(
        self, frame: npt.NDArray[np.uint8], landmarks: npt.NDArray[np.floating], flow: Any
    ) -> tuple[Array, Array]:
        """Return the motion of the face from here to another frame, see `without_head`.

        Args:
            frame: of the same size.
            landmarks: (68, 2) in its pixels.
            flow: from `dense_flow`; one for each thread.
        """
        return without_head(self.displacement_to(frame, landmarks, flow), self.places)

    def displacement_to(self, frame: npt.NDArray[np.uint8], landmarks: npt.NDArray[np.floating], flow: Any) -> Array:
        """Return the displacement (P, 2) of the places from here to another frame, see `motion_to`.

        The part of the other frame follows the face, as far as the frame goes.
        """
        moved = np.rint(landmarks.mean(0) - self._centre)
        corner = (self._corner + moved).clip(0, len(frame) - self._size).astype(np.int64)
        found = flow.calc(self._face, _cut(frame, corner, self._size), None)
        return motion_at(found, self.places) + (corner - self._corner)


def dense_flow() -> Any:
    """Return OpenCV's flow of inverse search (DIS), at full resolution."""
    import cv2

    flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
    flow.setFinestScale(0)  # full resolution: half the error
    flow.setVariationalRefinementIterations(2)  # instead of 5: the same error in two thirds of the time
    return flow


def face_part(places: Layout, size: int) -> tuple[_Pixels, _Pixels]:
    """Return the part of an aligned frame that flow needs to tell the motion of places.

    Args:
        places: the face.
        size: width and height of the frame in pixels.

    Returns:
        (x, y) of its upper left pixel; its width and height.
    """
    reach = _AROUND * places.distance
    first = (places.points.min(0) - reach).clip(0, max(size - _LEAST, 0)) // _GRID * _GRID
    last = -(-(places.points.max(0) + reach) // _GRID) * _GRID
    last = np.minimum(np.maximum(last, first + _LEAST), size)
    return first.astype(np.int64), (last - first).astype(np.int64)


def _cut(frame: npt.NDArray[np.uint8], corner: _Pixels, size: _Pixels) -> npt.NDArray[np.uint8]:
    (left, top), (width, height) = corner, size
    return frame[top : top + height, left : left + width].copy()


def motion_at(flow: npt.NDArray[np.float32], places: Layout) -> Array:
    """Return the motion (P, 2) of places, in pixels: flow (H, W, 2) averaged around each."""
    import cv2

    side = max(1, round(_PATCH * places.distance))
    points = places.points.astype(np.float32)[None]
    nothing: Any = None
    smooth = cv2.blur(flow, (side, side))
    motion = cv2.remap(smooth, points, nothing, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(motion[0], dtype=np.float64)


def face_motion(flow: npt.NDArray[np.float32], places: Layout) -> tuple[Array, Array]:
    """Return the motion of the regions without that of the head, and the motion of the head, see `without_head`.

    Args:
        flow: (H, W, 2) in pixels.
        places: the face in the frame that the flow starts from.
    """
    return without_head(motion_at(flow, places), places)


def without_head(motion: Array, places: Layout) -> tuple[Array, Array]:
    """Return the motion of the regions without that of the head, and the motion of the head.

    Args:
        motion: (P, 2), displacement of the places in pixels.
        places: the face that moves.

    Returns:
        (regions, 2) in distances of the eyes, and (6,) as from `head_motion`.
    """
    head = head_motion(motion, places)
    return region_means(motion - places.pose @ head) / places.distance, head


def head_motion(motion: Array, places: Layout) -> Array:
    """Return the motion of the head (6,), in pixels, that explains the motion (P, 2) of places.

    Robust least squares, with the weights of a Cauchy distribution.
    """
    prior = np.where(OF_SKULL, 1.0, _LOOSE)
    weight, head = prior, np.zeros(6)
    pose = places.pose.reshape(-1, 6)
    for _ in range(_ROUNDS):
        weighted = (places.pose * weight[:, None, None]).reshape(-1, 6)
        head = np.asarray(np.linalg.solve(weighted.T @ pose + _STIFF, weighted.T @ motion.reshape(-1)), np.float64)
        rest = motion - places.pose @ head
        weight = prior / (1 + np.square(rest / _SCALE).sum(1))
    return head
