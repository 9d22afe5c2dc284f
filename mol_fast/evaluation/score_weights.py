"""Score trained weights on prepared sets, subject by subject, and check which subjects they were trained on."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import msgspec

from mol_fast.data import ClipDataset, Protocol, Video
from mol_fast.evaluation.score import score
from mol_fast.nn.model import MOL, Estimator
from mol_fast.nn.weights import WeightsHeader, find_weights
from mol_fast.nn.weights_file import read_weights
from mol_fast.runs.fold_results import FoldResults
from mol_fast.runs.folder import CONFIG, Fold
from mol_fast.utils.errors import UserError
from mol_fast.utils.names import Subject, find_subjects, label_subjects
from mol_fast.utils.schema import read_json
from mol_fast.vision.sizes import WINDOW

if TYPE_CHECKING:
    from lightning_fabric import Fabric

Known = Subject | str
"""A subject in the header of weights. Earlier versions wrote SOURCE/SUBJECT, which is looked up as it is."""


@dataclass(frozen=True)
class Weights:
    """Trained weights, and what is known about their training.

    Attributes:
        path: path as given.
        file: the weights file.
        model: the model, in evaluation mode.
        header: what was saved with the weights.
        trained_on: every training subject; None if neither the weights nor a run beside them say.
    """

    path: Path
    file: Path
    model: Estimator
    header: WeightsHeader
    trained_on: frozenset[Known] | None

    @classmethod
    def load(cls, path: Path, baselines: Mapping[str, Callable[[int], Estimator]] = MappingProxyType({})) -> "Weights":
        """Read weights. If they do not name their subjects, read the configuration of their run.

        Args:
            path: path of the weights, see `find_weights`.
            baselines: classes of the baselines that may be there, by name. Default: none, only MOL.

        Raises:
            UserError: the weights cannot be used, or read clips of another number of frames.
        """
        file = find_weights(path)
        model, header, _ = read_weights(file, MOL, baselines)
        if isinstance(model, MOL) and model.config.frames != WINDOW:
            raise UserError(
                f"{file} reads clips of {model.config.frames} frames, prepared sets have {WINDOW}: give other weights"
            )
        return cls(path, file, model, header, _trained_on(file, header))

    def check_protocol(self, protocol: Protocol) -> None:
        """Raise UserError if the weights do not have the classes of `protocol` in the same order."""
        name = f", {self.header.protocol}" if self.header.protocol else ""
        if self.header.classes != protocol.classes:
            raise UserError(
                f"{self.path} knows the classes {', '.join(self.header.classes)}, but the protocol {protocol.name} has "
                f"{', '.join(protocol.classes)}: give the --protocol of the weights{name}"
            )


@dataclass(frozen=True)
class Choice:
    """Subjects to score.

    Attributes:
        subjects: the subjects.
        warnings: warnings about their scores.
    """

    subjects: tuple[Subject, ...]
    warnings: tuple[str, ...]


def choose_subjects(weights: Weights, videos: Sequence[Video], asked: Sequence[str]) -> Choice:
    """Choose the subjects in `asked`, or by default those that the weights were not trained on.

    Raises:
        UserError: `videos` lack a subject in `asked`, or `asked` is empty and the weights were trained on all subjects.
    """
    labels = label_subjects(video.id.person for video in videos if video.interval)
    subjects = list(labels)
    trained, uncertain = _trained(weights, subjects)
    chosen = list(find_subjects(asked, subjects)) or [name for name in subjects if name not in trained | uncertain]
    if not chosen and trained:
        raise UserError(
            f"{weights.path} was trained on all {len(subjects)} subjects of the data: "
            "give other data with --data, or name subjects with --subjects to score them all the same"
        )
    chosen = chosen or subjects
    warnings = []
    if seen := [labels[subject] for subject in chosen if subject in trained]:
        warnings.append(
            f"The weights were trained on {', '.join(seen)} ({len(seen)} of {len(chosen)} subjects scored): "
            "these scores do not show how well new subjects are recognised."
        )
    if doubtful := [labels[subject] for subject in chosen if subject in uncertain]:
        warnings.append(
            f"It is unknown whether the weights were trained on {', '.join(doubtful)} ({len(doubtful)} of "
            f"{len(chosen)} subjects scored): do not report the scores as scores of new subjects."
        )
    return Choice(tuple(chosen), tuple(warnings))


def score_folds(
    weights: Weights,
    videos: Sequence[Video],
    folds: Iterable[Fold],
    protocol: Protocol,
    fabric: "Fabric",
    batch_size: int,
    on_fold: Callable[[], object] = lambda: None,
) -> dict[Fold, FoldResults]:
    """Score the videos of the subjects that each fold holds out. `on_fold` is called after each fold.

    Raises:
        UserError: the model returns non-finite values.
    """
    model = weights.model.to(fabric.device)
    results = {}
    for fold in folds:
        clips = ClipDataset([video for video in videos if video.id.person in fold.subjects], protocol)
        try:
            results[fold] = score(model, clips, fabric, batch_size)
        except ValueError as error:
            subjects = ", ".join(label_subjects(fold.subjects).values())
            raise UserError(f"{weights.path} cannot be scored on {subjects} ({error}): train it again") from error
        on_fold()
    return results


def _trained(weights: Weights, subjects: Sequence[Subject]) -> tuple[set[Subject], set[Subject]]:
    """Return the subjects that the weights were trained on, and the subjects for which that is unknown."""
    if weights.trained_on is None:
        held_out = set(weights.header.test_subjects)
        return set(), {item for item in subjects if held_out.isdisjoint((item, str(item), item.name))}
    return {item for item in subjects if not weights.trained_on.isdisjoint((item, str(item)))}, set()


def _trained_on(file: Path, header: WeightsHeader) -> frozenset[Known] | None:
    if header.train_subjects is not None:
        return frozenset(header.train_subjects)
    for folder in (file.parent, file.parent.parent.parent):  # weights of the earliest versions name no subject
        try:
            run = read_json(folder / CONFIG, _Run, "give another folder")
        except UserError:
            continue
        names = [_full_name(subject, run.sources) for subject in set(run.identity.subjects) - set(header.test_subjects)]
        return None if None in names else frozenset(name for name in names if name is not None)
    return None


class _Subjects(msgspec.Struct):
    subjects: list[str]


class _Run(msgspec.Struct):
    """Subjects in config.json of a run of the earliest versions."""

    sources: list[str]
    identity: _Subjects


def _full_name(subject: str, sources: Sequence[str]) -> str | None:
    """Return SOURCE/SUBJECT of a subject of data from `sources`; None if its source is ambiguous."""
    if any(subject.startswith(f"{source}/") for source in sources):
        return subject
    return f"{sources[0]}/{subject}" if len(sources) == 1 else None
