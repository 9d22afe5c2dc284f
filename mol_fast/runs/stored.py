"""Read a finished run from its folder, without data or model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from mol_fast.runs.fold_results import FoldResults
from mol_fast.runs.folder import CONFIG, Fold, RunConfig, check_config, fold_folder
from mol_fast.utils.errors import UserError
from mol_fast.utils.names import VideoId
from mol_fast.utils.schema import read_json


@dataclass(frozen=True)
class StoredRun:
    """Configuration and finished folds of a run.

    Attributes:
        path: folder of the run.
        about: content of config.json.
        folds: finished folds, with their results.
        unfinished: names of the other folds.
    """

    path: Path
    about: Mapping[str, Any]
    folds: Mapping[Fold, FoldResults]
    unfinished: tuple[str, ...]

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes, in the order of the labels."""
        return next(iter(self.folds.values())).evaluation.classes

    @property
    def warnings(self) -> list[str]:
        """Warnings to print wherever scores of the run are shown."""
        warnings = list(map(str, self.about.get("warnings", ())))
        if self.unfinished:
            count = len(self.folds) + len(self.unfinished)
            missing = ", ".join(self.unfinished)
            warnings.append(f"{len(self.unfinished)} of {count} folds of {self.path} are missing: {missing}.")
        return warnings


def read_run(path: Path, partial: bool = False) -> StoredRun:
    """Read the run in `path`.

    Args:
        path: folder of the run.
        partial: accept a run with unfinished folds.

    Raises:
        UserError: there is no run, its configuration or its folds cannot be used, no fold is finished, or some are
            unfinished and `partial` is false.
    """
    config = _read_config(path)
    folds: dict[Fold, FoldResults] = {}
    unfinished: list[str] = []
    damaged: dict[str, str] = {}
    for fold in config.every_fold():
        try:
            check_config(fold_folder(path, fold))
            results = FoldResults.read(fold_folder(path, fold))
        except UserError as error:
            damaged[fold.name] = str(error)
            continue
        if results is None:
            unfinished.append(fold.name)
        else:
            folds[fold] = results
    problems = [f"not finished: {', '.join(unfinished)}"] if unfinished else []
    if damaged:
        problems.append(f"damaged: {', '.join(damaged)}, {next(iter(damaged.values()))}")
    if not folds:
        raise UserError(f"no fold of {path} can be scored ({'; '.join(problems)}): finish it with its train command")
    if problems and not partial:
        raise UserError(
            f"{len(unfinished) + len(damaged)} of {len(config.folds)} folds of {path} cannot be scored "
            f"({'; '.join(problems)}): finish the run with its train command, or score the others with --partial"
        )
    _check_fit(path, folds)
    return StoredRun(path, msgspec.to_builtins(config), folds, (*unfinished, *damaged))


def holds_models(path: Path) -> bool:
    """Return whether `path` is no run, but the folder of several models, with a run for each."""
    return not (path / CONFIG).exists() and any(path.glob(f"*/{CONFIG}"))


def read_models(path: Path, names: Sequence[str], partial: bool = False) -> tuple[list[StoredRun], list[str]]:
    """Read the runs in a folder that holds a run for each model.

    Args:
        path: the folder.
        names: names of models; their runs come first, in this order.
        partial: accept runs with unfinished folds.

    Returns:
        The runs that can be used, and for each of the others a sentence why not.
    """
    rank = {name: place for place, name in enumerate(names)}
    folders = sorted(
        (file.parent for file in path.glob(f"*/{CONFIG}")),
        key=lambda folder: (rank.get(folder.name, len(rank)), folder.name),
    )
    found, problems = [], []
    for folder in folders:
        try:
            found.append(read_run(folder, partial))
        except UserError as error:
            problems.append(str(error))
    return found, problems


def _read_config(path: Path) -> RunConfig:
    if not path.is_dir():
        raise UserError(f"there is no folder {path}: give the folder of a run, as runs/NAME")
    config = path / CONFIG
    if not config.is_file() and holds_models(path):
        names = ", ".join(sorted(file.parent.name for file in path.glob(f"*/{CONFIG}")))
        raise UserError(f"{path} holds several runs ({names}): give one of them")
    if not config.is_file():
        raise UserError(f"{path} is not a run, it has no {CONFIG}: give the folder of a run, as runs/NAME")
    check_config(path)
    about = read_json(config, RunConfig, "it is not the configuration of a run, give another folder or train again")
    if about.evaluated is not None:
        raise UserError(f"{path} holds only scores of the run {about.evaluated}: give that folder")
    return about


def _check_fit(path: Path, folds: Mapping[Fold, FoldResults]) -> None:
    """Raise UserError if folds cannot be pooled: classes or subjects differ, or two folds share a video."""
    first = next(iter(folds))
    seen: dict[tuple[int, VideoId], str] = {}
    for fold, results in folds.items():
        classes = results.evaluation.classes
        if classes != folds[first].evaluation.classes:
            raise UserError(
                f"in {path} the fold {fold.name} has the classes {', '.join(classes)}, but {first.name} has "
                f"{', '.join(folds[first].evaluation.classes)}: they belong to different runs, remove one"
            )
        others = {video.video.person for video in results.evaluation.videos()} ^ set(fold.subjects)
        if fold.subjects and others:
            raise UserError(
                f"in {path} the fold {fold.name} does not hold out the subjects that {CONFIG} says "
                f"({', '.join(sorted(map(str, others)))}): they belong to different runs, remove the fold"
            )
        for video in results.evaluation.videos():
            other = seen.setdefault((fold.seed, video.video), fold.name)
            if other != fold.name:
                raise UserError(
                    f"in {path} the folds {other} and {fold.name} both hold out the video {video.video.name} of "
                    f"subject {video.video.subject}: "
                    "they belong to different runs, remove one"
                )
