"""Start a training from weights of another, and leave parts of them as they are: `train --init --freeze`."""

import sys
from collections.abc import Sequence
from pathlib import Path

from mol_fast.data import Protocol
from mol_fast.evaluation.score_weights import Known, Weights
from mol_fast.nn.model import MOL
from mol_fast.nn.weights import WeightsHeader, find_weights, load_described
from mol_fast.runs.folder import Fold
from mol_fast.utils.errors import UserError
from mol_fast.utils.names import Subject, label_subjects
from mol_fast.utils.processes import rank

_FREE = ("num_classes", "tasks", "backend", "dropout", "norm_stats")
"""What may differ between the weights and the new model."""
_CLASSIFIER = "expression_head.fc2."


def freeze_parts(model: MOL, names: Sequence[str]) -> None:
    """Freeze parts of a new model.

    Raises:
        UserError: the model lacks a part, or no part would be left to train.
    """
    try:
        model.freeze(names)
    except ValueError as error:
        raise UserError(f"--{error}") from error
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise UserError(f"--freeze names every part ({', '.join(model.frozen)}), none is left to train: leave one out")


def check_start(path: Path, model: MOL, folds: Sequence[Fold], protocol: Protocol) -> None:
    """Check that trainings of `folds` can start from the weights at `path`.

    Raises:
        UserError: the weights cannot be read, are of another model, were trained on a held-out subject, do
            not tell what they were trained on, or lack what is frozen.
    """
    weights = Weights.load(path)
    given, wanted = weights.model.config.to_dict(), model.config.to_dict()
    for name in wanted:
        if name not in _FREE and given[name] != wanted[name]:
            raise UserError(
                f"{path} holds another model, with {name} {_value(given[name])} where this run has "
                f"{_value(wanted[name])}: give --init "
                "weights of the same --preset and options"
            )
    new = [task for task in wanted["tasks"] if task not in given["tasks"]]
    if weights.header.classes != protocol.classes:
        new.append("mer")
    if both := [name for name in model.frozen if name in new]:
        raise UserError(
            f"--freeze names {', '.join(both)}, but this head, or its last layer, is not in {path} and starts anew; "
            "frozen it would never learn: leave it out"
        )
    if weights.trained_on is None:
        raise UserError(
            f"{path} does not tell which subjects it was trained on, so held-out ones may be among them: give weights "
            "of a run of this version"
        )
    held_out = {subject for fold in folds for subject in fold.subjects}
    if seen := sorted(subject for subject in held_out if not weights.trained_on.isdisjoint((subject, str(subject)))):
        names = ", ".join(label_subjects(seen).values())
        raise UserError(
            f"{path} was trained on subjects that this run holds out: {names}; its scores would not be honest: hold "
            "out others, or give weights that have not seen them"
        )


def _value(value: object) -> str:
    """Return a value of a configuration as text."""
    return ", ".join(map(str, value)) if isinstance(value, (tuple, list)) else str(value)


def seen_subjects(path: Path | None, subjects: Sequence[Subject]) -> list[Known]:
    """Return the `subjects` of a training, then those that the weights at `path`, from which it starts, have seen."""
    seen = frozenset() if path is None else Weights.load(path).trained_on or frozenset()
    return [*subjects, *sorted(seen - {*subjects}, key=str)]


def start_from(model: MOL, path: Path, protocol: Protocol) -> None:
    """Give a new model the weights at `path`, as far as both have the same heads. Say on stderr what is new.

    The last layer of the expression head starts anew if the classes differ.
    """
    weights, header = load_described(find_weights(path))
    tensors = weights.state_dict()
    if header.classes != protocol.classes:
        tensors = {name: value for name, value in tensors.items() if not name.startswith(_CLASSIFIER)}
    own = model.state_dict()
    model.load_state_dict({name: tensors.get(name, value) for name, value in own.items()})
    if rank() == 0:
        told = f"starting from {path}, trained for {_told(header)}{_anew(weights, model, header, protocol)}"
        print(told, file=sys.stderr, flush=True)


def _told(header: WeightsHeader) -> str:
    steps = "an unknown number of" if header.steps is None else header.steps
    return f"{steps} steps on {' and '.join(header.learned_from()) or 'unknown data'}"


def _anew(weights: MOL, model: MOL, header: WeightsHeader, protocol: Protocol) -> str:
    """Return what of the model starts anew, as the end of a sentence."""
    parts = [f"the head for {task}" for task in model.config.tasks if task not in weights.config.tasks]
    if header.classes != protocol.classes:
        parts.insert(0, f"the layer of the classes (they were {', '.join(header.classes)})")
    return f"; new: {' and '.join(parts)}" if parts else ""
