"""Score trained weights on prepared sets, subject by subject, and check which subjects they were trained on."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mol_fast.data import ClipDataset, Protocol, Video
from mol_fast.evaluation.score import score
from mol_fast.nn.model import MOL
from mol_fast.nn.weights import find_weights, load_weights
from mol_fast.runs.fold_results import FoldResults
from mol_fast.runs.folder import CONFIG, Fold
from mol_fast.utils.errors import UserError
from mol_fast.vision.sizes import WINDOW

if TYPE_CHECKING:
    from lightning_fabric import Fabric


@dataclass(frozen=True)
class Weights:
    """Trained weights, and what is known about their training.

    Attributes:
        path: path as given.
        file: the weights file.
        model: the model, in evaluation mode.
        info: information saved with the weights.
        trained_on: SOURCE/SUBJECT of every training subject; None if neither the weights nor a run beside them say.
    """

    path: Path
    file: Path
    model: MOL
    info: Mapping[str, Any]
    trained_on: frozenset[str] | None

    @classmethod
    def load(cls, path: Path) -> "Weights":
        """Read weights. If they do not name their subjects, read the configuration of their run.

        Raises:
            UserError: the weights cannot be used, or read clips of another number of frames.
        """
        file = find_weights(path)
        model, info = load_weights(file)
        if model.config.frames != WINDOW:
            raise UserError(
                f"{file} reads clips of {model.config.frames} frames, prepared sets have {WINDOW}: give other weights"
            )
        return cls(path, file, model, info, _trained_on(file, info))

    def check_protocol(self, protocol: Protocol) -> None:
        """Raise UserError if the weights do not have the classes of `protocol` in the same order."""
        classes = tuple(self.info["classes"])
        name = f", {self.info['protocol']}" if "protocol" in self.info else ""
        if classes != protocol.classes:
            raise UserError(
                f"{self.path} knows the classes {', '.join(classes)}, but the protocol {protocol.name} has "
                f"{', '.join(protocol.classes)}: give the --protocol of the weights{name}"
            )


@dataclass(frozen=True)
class Choice:
    """Subjects to score.

    Attributes:
        subjects: names of the subjects.
        warnings: warnings about their scores.
    """

    subjects: tuple[str, ...]
    warnings: tuple[str, ...]


def choose_subjects(weights: Weights, videos: Sequence[Video], asked: Sequence[str]) -> Choice:
    """Choose the subjects in `asked`, or by default those that the weights were not trained on.

    Raises:
        UserError: `videos` lack a subject in `asked`, or `asked` is empty and the weights were trained on all subjects.
    """
    subjects = sorted({video.subject for video in videos if video.interval})
    unknown = sorted(set(asked) - set(subjects))
    if unknown:
        raise UserError(f"there is no subject {', '.join(unknown)} in the data: it has {', '.join(subjects)}")
    trained, uncertain = _trained(weights, videos, subjects)
    chosen = list(dict.fromkeys(asked)) or [name for name in subjects if name not in trained | uncertain]
    if not chosen and trained:
        raise UserError(
            f"{weights.path} was trained on all {len(subjects)} subjects of the data: "
            "give other data with --data, or name subjects with --subjects to score them all the same"
        )
    chosen = chosen or subjects
    warnings = []
    if seen := [name for name in chosen if name in trained]:
        warnings.append(
            f"The weights were trained on {', '.join(seen)} ({len(seen)} of {len(chosen)} subjects scored): "
            "these scores do not show how well new subjects are recognised."
        )
    if doubtful := [name for name in chosen if name in uncertain]:
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
        clips = ClipDataset([video for video in videos if video.subject in fold.subjects], protocol)
        try:
            results[fold] = score(model, clips, fabric, batch_size)
        except ValueError as error:
            subjects = ", ".join(fold.subjects)
            raise UserError(f"{weights.path} cannot be scored on {subjects} ({error}): train it again") from error
        on_fold()
    return results


def _trained(weights: Weights, videos: Sequence[Video], subjects: Sequence[str]) -> tuple[set[str], set[str]]:
    """Return the subjects that the weights were trained on, and the subjects for which that is unknown."""
    if weights.trained_on is None:
        return set(), set(subjects) - set(weights.info.get("test_subjects", ()))
    known = weights.trained_on
    return {video.subject for video in videos if video.full_subject in known}, set()


def _trained_on(file: Path, info: Mapping[str, Any]) -> frozenset[str] | None:
    if "train_subjects" in info:
        return frozenset(info["train_subjects"])
    for folder in (file.parent, file.parent.parent.parent):
        try:
            about = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
            subjects = set(about["identity"]["subjects"]) - set(info["test_subjects"])
            names = [_full_name(subject, about["sources"]) for subject in subjects]
        except (OSError, ValueError, KeyError, TypeError):
            continue
        return None if None in names else frozenset(name for name in names if name is not None)
    return None


def _full_name(subject: str, sources: Sequence[str]) -> str | None:
    """Return SOURCE/SUBJECT of a subject of data from `sources`; None if its source is ambiguous."""
    if any(subject.startswith(f"{source}/") for source in sources):
        return subject
    return f"{sources[0]}/{subject}" if len(sources) == 1 else None
