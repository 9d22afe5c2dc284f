"""The choice of a finder of faces."""

from typing import Literal, NamedTuple

from mol_fast.utils.errors import UserError
from mol_fast.vision.dlib_faces import DlibFinder
from mol_fast.vision.faces import FaceFinder
from mol_fast.vision.mediapipe_faces import MediaPipeFinder

Finders = Literal["mediapipe", "dlib"]


class _Kind(NamedTuple):
    make: type[MediaPipeFinder] | type[DlibFinder]
    least: float  # default of the smallest score of a face
    low: float  # with a smallest score below, it finds faces everywhere
    high: float  # above, nowhere


_KINDS: dict[Finders, _Kind] = {
    "mediapipe": _Kind(MediaPipeFinder, 0.5, 0.01, 0.99),
    "dlib": _Kind(DlibFinder, 0.2, -1.0, 5.0),
}


def least_score(name: Finders, given: float | None = None) -> float:
    """Return the smallest score of a face: the given one, or the default of the finder.

    Raises:
        UserError: it is out of range.
    """
    kind = _KINDS[name]
    score = kind.least if given is None else given
    if not kind.low <= score <= kind.high:
        raise UserError(f"--min-score must be from {kind.low:g} to {kind.high:g} for {name}, got {score}")
    return score


def open_finder(name: Finders = "mediapipe", min_score: float | None = None) -> FaceFinder:
    """Open a finder of faces.

    Args:
        name: "mediapipe" or "dlib".
        min_score: smallest score of a face. Default: that of the finder.

    Raises:
        UserError: the score is out of range; packages or models are missing or damaged, or cannot be fetched.
    """
    return _KINDS[name].make(least_score(name, min_score))
