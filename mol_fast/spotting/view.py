"""What a moment looks like: three pictures, and the motion of the face between the first two."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from mol_fast.spotting.face_motion import dense_flow, head_motion, motion_at
from mol_fast.spotting.regions import head_pose, layout
from mol_fast.spotting.spotter import Moment
from mol_fast.vision.align import Matrix


@dataclass(frozen=True, eq=False)
class View:
    """Pictures of a moment, all aligned alike.

    Attributes:
        onset, apex, offset: uint8 (size, size), grey.
        flow: float32 (2, size, size) from onset to apex, (x, y) in pixels, without the motion of the head.
        place: (2, 3), from frames of the video to the pictures.
    """

    onset: npt.NDArray[np.uint8]
    apex: npt.NDArray[np.uint8]
    offset: npt.NDArray[np.uint8]
    flow: npt.NDArray[np.float32]
    place: Matrix


@dataclass(frozen=True)
class ShownMoment:
    """A moment and what a page shows of it.

    Attributes:
        moment: the moment.
        probabilities: of each class; None if its window was skipped.
        view: its pictures; None if stronger moments are shown instead.
        verdict: its class in words.
        uncertain: the class is uncertain.
        heat: float32 (size, size), 0..1, over the picture of the apex: what moved the model's score of the class; None
            if it was not explained.
        shares: share of each facial region in that; may be empty.
    """

    moment: Moment
    probabilities: Mapping[str, float] | None
    view: View | None
    verdict: str
    uncertain: bool = False
    heat: npt.NDArray[np.float32] | None = None
    shares: Mapping[str, float] = field(default_factory=dict)


def face_flow(
    first: npt.NDArray[np.uint8], second: npt.NDArray[np.uint8], landmarks: npt.NDArray[np.floating]
) -> npt.NDArray[np.float32]:
    """Return the flow between two aligned frames without what the motion of the head explains.

    Args:
        first, second: uint8 (size, size), grey.
        landmarks: (68, 2) in pixels of `first`.

    Returns:
        (2, size, size), (x, y) in pixels.
    """
    flow = dense_flow().calc(first, second, None)
    places = layout(landmarks)
    head = head_motion(motion_at(flow, places), places)
    grid = np.stack(np.meshgrid(*map(np.arange, first.shape[::-1])), -1).astype(np.float64)
    of_head = head_pose(grid, landmarks) @ head
    return np.ascontiguousarray((flow - of_head).transpose(2, 0, 1), dtype=np.float32)
