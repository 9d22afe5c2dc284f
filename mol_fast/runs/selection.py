"""Choose a step of each fold by its score on the held-out subjects, as publications often do, or on inner ones.

Scores of a step that the held-out subjects chose are optimistic. They are shown beside the scores of the last step,
only to compare with publications that do the same. `mol_fast.training.inner` chooses without these subjects. Scorings
during training are small files in the folder of the fold. They are written before the checkpoint of their step, so that
a resumed run has the same scorings.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import msgspec

from mol_fast.metrics import Evaluation, FlowSums, LabelledWindow, LandmarkSums
from mol_fast.utils.errors import UserError
from mol_fast.utils.files import write_atomic
from mol_fast.utils.schema import Text
from mol_fast.utils.sealed import read_sealed_json, sealed_json

WARNING = (
    "The step of each fold was chosen by its accuracy on the held-out subjects, as published code does: these scores "
    "are optimistic, and must not be compared with scores of the last step or of any other honest protocol."
)
_FOLDER = "scorings"


@dataclass(frozen=True)
class Scoring:
    """Predictions of the clips that choose the step of a fold, after `step` optimiser steps."""

    step: int
    evaluation: Evaluation

    @property
    def accuracy(self) -> float:
        """Share of correct videos, 0..1."""
        return self.evaluation.compute().recognition.accuracy


class _Stored(msgspec.Struct):
    """Content of the file of a scoring."""

    classes: Annotated[list[Text], msgspec.Meta(min_length=1)]
    windows: Annotated[list[LabelledWindow], msgspec.Meta(min_length=1)]
    flow: FlowSums
    landmarks: LandmarkSums


def scored_steps(steps: int, every: int) -> list[int]:
    """Return the steps after which the subjects that choose are scored: every `every` steps, and the last step."""
    return [step for step in range(1, steps + 1) if step % every == 0 or step == steps]


def write_scoring(folder: Path, scoring: Scoring) -> None:
    """Write `scoring` to the folder of its fold."""
    evaluation = scoring.evaluation
    content = {
        "step": scoring.step,
        "classes": evaluation.classes,
        "windows": [_told(window) for window in evaluation.windows()],
        **evaluation.sums(),
    }
    path = _path(folder, scoring.step)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, sealed_json(content))


def _told(window: LabelledWindow) -> dict[str, object]:
    """Return a window as plain values, without fields that are empty."""
    return {name: value for name, value in asdict(window).items() if value != ()}


def read_scoring(folder: Path, step: int) -> Scoring:
    """Read the scoring after `step` from the folder of a fold.

    Raises:
        UserError: the scoring is missing or damaged.
    """
    path = _path(folder, step)
    advice = f"remove {folder} to train the fold again"
    stored = read_sealed_json(path, _Stored, advice)
    try:
        return Scoring(step, Evaluation.restored(stored.classes, stored.windows, stored.flow, stored.landmarks))
    except ValueError as error:
        raise UserError(f"{path}: {error}; {advice}") from None


def choose(scorings: Sequence[Scoring]) -> Scoring:
    """Return the scoring with the best accuracy; the first one if several are equal."""
    return max(scorings, key=lambda scoring: scoring.accuracy)


def _path(folder: Path, step: int) -> Path:
    return folder / _FOLDER / f"step-{step:08d}.json"
