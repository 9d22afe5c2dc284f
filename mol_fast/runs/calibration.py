"""Calibration of a run: for each fold a temperature that is fitted without its held-out subjects."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from mol_fast.metrics import Evaluation, Reliability, VideoPrediction, fit_temperature, reliability, temper
from mol_fast.runs.folder import Fold
from mol_fast.utils.names import Subject

NOT_CALIBRATED = "not calibrated: only one fold"


@dataclass(frozen=True)
class Calibration:
    """Calibration of the folds of one seed. The unit is a video, with the mean probabilities of its windows.

    Attributes:
        before: reliability of the probabilities as the model gives them.
        after: of those with the temperature of their fold; None for a single fold.
        temperatures: temperature of each fold, fitted on the videos that the other folds hold out; empty for a single
            fold, which has no subjects to fit on that it is not scored on.
    """

    before: Reliability
    after: Reliability | None
    temperatures: Mapping[Fold, float]

    def to_dict(self) -> dict[str, Any]:
        """Return nested dictionaries, ready for JSON."""
        return {
            "before": asdict(self.before),
            "after": None if self.after is None else asdict(self.after),
            "temperatures": {fold.name: value for fold, value in self.temperatures.items()},
        }


def calibrate(folds: Mapping[Fold, Evaluation]) -> Calibration:
    """Calibrate the folds of one seed. No subject is among those that its temperature is fitted on.

    The temperature of a fold is fitted on what the weights of the other folds say. They were trained on its subjects,
    but never asked about them.

    Args:
        folds: predictions of the held-out videos of each fold, at least one.
    """
    videos = {fold: evaluation.videos() for fold, evaluation in folds.items()}
    pooled = [video for some in videos.values() for video in some]
    temperatures: dict[Fold, float] = {}
    tempered = []
    for fold, own in videos.items():
        others = _without(pooled, {video.video.person for video in own})
        if not others:
            return Calibration(reliability(*_table(pooled)), None, {})
        temperatures[fold] = fit_temperature(*_table(others))
        tempered.append(temper(_table(own)[0], temperatures[fold]))
    labels = _table(pooled)[1]
    return Calibration(reliability(*_table(pooled)), reliability(np.concatenate(tempered), labels), temperatures)


def _without(videos: list[VideoPrediction], persons: set[Subject]) -> list[VideoPrediction]:
    return [video for video in videos if video.video.person not in persons]


def _table(videos: list[VideoPrediction]) -> tuple[list[tuple[float, ...]], list[int]]:
    return [video.probabilities for video in videos], [video.label for video in videos]
