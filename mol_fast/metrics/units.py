"""Scores of action units over videos. Each unit is scored by itself: a video may show several, or none."""

from dataclasses import dataclass

from torch import Tensor

from mol_fast.metrics.recognition import ClassScores
from mol_fast.vision.facs import PRESENT, UNITS, UNKNOWN


@dataclass(frozen=True)
class UnitScores:
    """Scores of the action units of videos.

    Attributes:
        videos: number of videos whose annotation tells of units; the others are left out.
        f1: mean F1 over the units that occur in a video, 0..1; None if none does.
        per_unit: scores of each unit, named AU1, AU2, ... Videos in which the annotation doubts a unit are left out.
    """

    videos: int
    f1: float | None
    per_unit: tuple[ClassScores, ...]


def unit_scores(probabilities: Tensor, truth: Tensor) -> UnitScores | None:
    """Score action units; None if nothing is known about any.

    Args:
        probabilities: (V, U), means over the windows of V videos.
        truth: (V, U), see `mol_fast.vision.facs.unit_truth`.
    """
    known = truth != UNKNOWN
    if not known.any():
        return None
    shown, predicted = truth == 1, known & (probabilities >= PRESENT)
    counts = zip(shown.sum(0).tolist(), predicted.sum(0).tolist(), (shown & predicted).sum(0).tolist(), strict=True)
    per_unit = tuple(
        ClassScores(
            f"AU{unit}",
            videos,
            called,
            right / videos if videos else None,
            right / called if called else None,
            2 * right / (videos + called) if videos + called else None,
        )
        for unit, (videos, called, right) in zip(UNITS, counts, strict=True)
    )
    occurring = [item.f1 for item in per_unit if item.videos and item.f1 is not None]
    mean = sum(occurring) / len(occurring) if occurring else None
    return UnitScores(int(known.any(1).sum()), mean, per_unit)
