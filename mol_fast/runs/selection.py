"""Choose a step of each fold by its score on the held-out subjects, as publications often do.

The scores of that step are optimistic, because the test data chose it. They are shown beside the scores of the last
step, only to compare with publications that do the same. Scorings during training are small files in the folder of the
fold. They are written before the checkpoint of their step, so that a resumed run has the same scorings.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from mol_fast.metrics import Evaluation, LabelledWindow
from mol_fast.utils.errors import UserError
from mol_fast.utils.files import write_atomic
from mol_fast.utils.sealed import check_digest, sealed_json

WARNING = (
    "The step of each fold was chosen by its accuracy on the held-out subjects, as published code does: these scores "
    "are optimistic, and must not be compared with scores of the last step or of any other honest protocol."
)
_FOLDER = "scorings"


@dataclass(frozen=True)
class Scoring:
    """Predictions of the held-out clips of a fold after `step` optimiser steps."""

    step: int
    evaluation: Evaluation

    @property
    def accuracy(self) -> float:
        """Share of correct held-out videos, 0..1."""
        return self.evaluation.compute().recognition.accuracy


def scored_steps(steps: int, every: int) -> list[int]:
    """Return the steps after which held-out subjects are scored: every `every` steps, and the last step."""
    return [step for step in range(1, steps + 1) if step % every == 0 or step == steps]


def write_scoring(folder: Path, scoring: Scoring) -> None:
    """Write `scoring` to the folder of its fold."""
    evaluation = scoring.evaluation
    content = {
        "step": scoring.step,
        "classes": evaluation.classes,
        "windows": [asdict(window) for window in evaluation.windows()],
        **evaluation.sums(),
    }
    path = _path(folder, scoring.step)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, sealed_json(content))


def read_scoring(folder: Path, step: int) -> Scoring:
    """Read the scoring after `step` from the folder of a fold.

    Raises:
        UserError: the scoring is missing or damaged.
    """
    path = _path(folder, step)
    try:
        check_digest(path)
        content = json.loads(path.read_text())
        windows = [
            LabelledWindow(row["video"], row["label"], tuple(row["probabilities"])) for row in content["windows"]
        ]
        evaluation = Evaluation.restored(content["classes"], windows, content)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"the scoring {path} is missing or damaged: remove {folder} to train the fold again") from error
    return Scoring(content["step"], evaluation)


def choose(scorings: Sequence[Scoring]) -> Scoring:
    """Return the scoring with the best accuracy on the held-out videos; the first one if several are equal."""
    return max(scorings, key=lambda scoring: scoring.accuracy)


def _path(folder: Path, step: int) -> Path:
    return folder / _FOLDER / f"step-{step:08d}.json"
