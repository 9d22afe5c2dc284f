"""Faces in a frame, and what every finder of faces does."""

from abc import ABC, abstractmethod
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from mol_fast.vision.boxes import Box
from mol_fast.vision.face_mesh import Mesh


class Face(NamedTuple):
    """A face in a frame; coordinates are (x, y) in pixels of the frame."""

    box: Box
    score: float  # how sure the finder is, see its class
    landmarks: npt.NDArray[np.float32]  # (68, 2)
    found: int  # number of faces in the frame with at least the minimum score, including this one
    mesh: Mesh | None = None  # all 468 points; None by dlib


class FaceFinder(ABC):
    """Finder of faces in frames."""

    min_score: float  # faces with a lower score are ignored

    def find(self, frame: npt.NDArray[np.uint8]) -> Face | None:
        """Return the largest face of `frame`, or None if no face reaches the minimum score.

        Args:
            frame: uint8 (H, W), grey.

        Raises:
            ValueError: `frame` is not uint8 (H, W) or is empty.
        """
        return next(iter(self.find_all(frame)), None)

    @abstractmethod
    def find_all(self, frame: npt.NDArray[np.uint8], thorough: bool = True, known: Face | None = None) -> list[Face]:
        """Return all faces of `frame`, the largest first.

        Args:
            frame: uint8 (H, W), grey.
            thorough: take more time, if there is no face at first sight.
            known: a face of `frame` that `follow` has returned; it is one of the faces, and no time is taken for it.

        Raises:
            ValueError: `frame` is not uint8 (H, W) or is empty.
        """

    @abstractmethod
    def follow(self, frame: npt.NDArray[np.uint8], last: Face) -> Face | None:
        """Return the face that was `last` in a frame shortly before, or None if it is not there any more."""

    @abstractmethod
    def update(self, frame: npt.NDArray[np.uint8], last: Face) -> Face:
        """Return the face that was `last` in this frame or in one shortly before, with the landmarks of this frame.

        Nobody asks whether it is still there: there is a face in any case.
        """


def check_frame(frame: npt.NDArray[np.uint8]) -> None:
    """Raise ValueError if a frame is not uint8 (H, W), or is empty."""
    if frame.dtype != np.uint8 or frame.ndim != 2 or not frame.size:
        raise ValueError(f"frame must be uint8 (H, W), got {frame.dtype} {frame.shape}")
