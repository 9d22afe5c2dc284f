"""The published habit: a step is chosen for each fold by its score on the very subjects that are held out.

The scores of that step are optimistic, since the test chose it, and are given beside those of the last weights only to
compare with publications that do the same. Scorings during training are small files in the folder of the fold, written
before the checkpoint of their step, so that an interrupted run ends with the same ones.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from mol_fast.metrics import Evaluation, LabelledWindow
from mol_fast.utils.errors import UserError
from mol_fast.utils.files import write_atomic

WARNING = (
    "The step was chosen for each fold by its accuracy on the held-out subjects, as published code does: these scores "
    "are optimistic, and must not be compared with those of last weights or of any other honest protocol."
)
_FOLDER = "scorings"


@dataclass(frozen=True)
class Scoring:
    """Predictions of the held-out clips of a fold after `step` optimiser steps."""

    step: int
    evaluation: Evaluation

    @property
    def accuracy(self) -> float:
        """Share of the held-out videos that are right, 0..1."""
        return self.evaluation.compute().recognition.accuracy


def scored_steps(steps: int, every: int) -> list[int]:
    """The steps after which held-out subjects are scored: every `every`, and the last."""
    return [step for step in range(1, steps + 1) if step % every == 0 or step == steps]


def write_scoring(folder: Path, scoring: Scoring) -> None:
    """Put `scoring` into the folder of its fold."""
    evaluation = scoring.evaluation
    content = {
        "step": scoring.step,
        "classes": evaluation.classes,
        "windows": [asdict(window) for window in evaluation.windows()],
        **evaluation.sums(),
    }
    path = _path(folder, scoring.step)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, json.dumps(content) + "\n")


def read_scoring(folder: Path, step: int) -> Scoring:
    """The scoring after `step` in the folder of a fold.

    Raises:
        UserError: it is missing or damaged.
    """
    path = _path(folder, step)
    try:
        content = json.loads(path.read_text())
        windows = [
            LabelledWindow(row["video"], row["label"], tuple(row["probabilities"])) for row in content["windows"]
        ]
        evaluation = Evaluation.restored(content["classes"], windows, content)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"the scoring {path} is missing or damaged: remove {folder} to train its fold again") from error
    return Scoring(content["step"], evaluation)


def choose(scorings: Sequence[Scoring]) -> Scoring:
    """The scoring with the best accuracy on the held-out videos, the first of several equal ones."""
    return max(scorings, key=lambda scoring: scoring.accuracy)


def _path(folder: Path, step: int) -> Path:
    return folder / _FOLDER / f"step-{step:08d}.json"
