"""Choose the step of a fold without its held-out subjects (--selection inner).

Some of the training subjects are held out of the training, too. They are scored every few steps, and the weights of the
step with their best accuracy are kept. The held-out subjects of the fold are scored once, with these weights.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from mol_fast.data import ClipDataset
from mol_fast.evaluation.score import evaluate
from mol_fast.nn.model import Estimator
from mol_fast.runs.selection import Scoring, choose, read_scoring, write_scoring
from mol_fast.utils.errors import UserError
from mol_fast.utils.files import write_atomic
from mol_fast.utils.names import Subject
from mol_fast.utils.sealed import DamagedFile, pack, unpack

if TYPE_CHECKING:
    from lightning_fabric import Fabric

_SHARE = 5
"""One of so many training subjects chooses the step."""


def inner_subjects(subjects: Sequence[Subject], seed: int) -> tuple[Subject, ...]:
    """Draw a fifth of the training `subjects`, at least one, which choose the step.

    Raises:
        UserError: there is only one subject.
    """
    if len(subjects) < 2:
        raise UserError(
            f"--selection inner needs two training subjects, to train on one and choose on the other, but there is "
            f"only {subjects[0].name}: use --selection last"
        )
    order = torch.randperm(len(subjects), generator=torch.Generator().manual_seed(seed)).tolist()
    count = max(1, round(len(subjects) / _SHARE))
    return tuple(sorted(subjects[place] for place in order[:count]))


class InnerChoice:
    """The choice of a step, and the weights of every step that was the best so far, in the folder of a fold.

    Weights are kept until the fold is finished: a run that was killed resumes before a step that was the best.

    Args:
        folder: folder of the fold.
        clips: clips of the subjects that choose.
        scored: steps after which they are scored.
    """

    def __init__(self, folder: Path, clips: ClipDataset, scored: Sequence[int]) -> None:
        self._folder, self._clips, self._scored = folder, clips, tuple(scored)

    def score(self, model: Estimator, step: int, fabric: "Fabric", batch_size: int) -> None:
        """Score the model after `step`, and keep its weights if it is the best so far."""
        write_scoring(self._folder, Scoring(step, evaluate(model, self._clips, fabric, batch_size)))
        model.train()
        if self._best(step) == step:
            write_atomic(self._weights(step), pack(model.state_dict(), {}))

    def restore(self, model: Estimator) -> int:
        """Load the weights of the chosen step into `model`, and return the step.

        Raises:
            UserError: the weights or a scoring are missing or damaged.
        """
        step = self._best(self._scored[-1])
        path = self._weights(step)
        try:
            tensors, _ = unpack(path)
        except (DamagedFile, OSError) as error:
            raise UserError(f"{path}: {error}; remove {self._folder} to train the fold again") from None
        model.load_state_dict(tensors)
        return step

    def forget(self) -> None:
        """Remove the kept weights, once the fold is finished."""
        for step in self._scored:
            self._weights(step).unlink(missing_ok=True)

    def _best(self, step: int) -> int:
        """Return the best step up to `step`; the first one if several are equal."""
        return choose([read_scoring(self._folder, earlier) for earlier in self._scored if earlier <= step]).step

    def _weights(self, step: int) -> Path:
        return self._folder / "scorings" / f"weights-{step:08d}.safetensors"
